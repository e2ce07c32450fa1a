"""TLS handshakes on the gRPC port that are begun and not finished keep nobody out, and hold few descriptors."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from otel_telemetry.gateway.receive import accepting
from tests.gateway.certificates import Certificates

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
UNFINISHED = {"silent": b"", "a byte": b"\x16", "half a hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"}
BOUND = 16


@contextlib.asynccontextmanager
async def held(port: int, count: int, sent: bytes) -> AsyncIterator[list[asyncio.StreamReader]]:
    pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    for _, writer in pairs:
        writer.write(sent)
    try:
        yield [reader for reader, _ in pairs]
    finally:
        for _, writer in pairs:
            writer.close()


async def send(running: Any, certificates: Certificates, body: bytes) -> bytes:
    credentials = grpc.ssl_channel_credentials(certificates.bytes("ca.pem"))
    async with grpc.aio.secure_channel(f"localhost:{running.gateway.grpc_port}", credentials) as channel:
        answer: bytes = await channel.unary_unary(EXPORT, bytes, bytes)(body, timeout=20)
        return answer


async def until_closed(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        assert await reader.read(1) == b""


@pytest.mark.parametrize("sent", UNFINISHED.values(), ids=list(UNFINISHED))
async def test_the_oldest_handshakes_make_room_for_new_connections(
    serving: Any, certificates: Certificates, make_request: Any, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    pair = {"tls_certificate": certificates["server.pem"], "tls_key": certificates["server.key"]}
    async with serving(max_connections=BOUND, **pair) as running, held(running.gateway.grpc_port, 100, sent) as readers:
        assert await send(running, certificates, make_request("one")) == b""
        assert len(running.spooled()) == 1
        async with asyncio.timeout(20):
            for reader in readers[: 100 - BOUND]:
                await until_closed(reader)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len([one for one in lines if "gRPC has" in one]) == 1


async def test_a_handshake_that_takes_too_long_is_closed(
    serving: Any, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "_HANDSHAKE_SECONDS", 0.2)
    pair = {"tls_certificate": certificates["server.pem"], "tls_key": certificates["server.key"]}
    async with serving(**pair) as running, held(running.gateway.grpc_port, 5, b"\x16") as readers:
        async with asyncio.timeout(20):
            for reader in readers:
                await until_closed(reader)


async def test_a_gateway_that_stops_ends_handshakes_that_are_left(serving: Any, certificates: Certificates) -> None:
    pair = {"tls_certificate": certificates["server.pem"], "tls_key": certificates["server.key"]}
    async with contextlib.AsyncExitStack() as stack:
        async with serving(**pair) as running:
            readers = await stack.enter_async_context(held(running.gateway.grpc_port, 5, b"\x16"))
        async with asyncio.timeout(20):
            for reader in readers:
                await until_closed(reader)
