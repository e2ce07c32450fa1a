"""What strangers and senders can make the gRPC listener hold: a key comes first, and one bound is over all of it."""

import asyncio
import contextlib
import gzip
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from otel_telemetry.gateway.receive import http2_server
from tests.gateway.loops import both_loops
from tests.gateway.raw_http2 import EXPORT, Client, message

MIB = 1 << 20


@pytest.fixture(name="serving")
def serving_with_raw_clients(serving: Any) -> Any:
    """Return `serving`, whose gateway has a list of raw `clients` that are closed before it stops."""

    @asynccontextmanager
    async def run(**settings: Any) -> AsyncIterator[Any]:
        async with serving(**settings) as running:
            running.clients = []
            yield running
            for writer in running.clients:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

    return run


@pytest.fixture(name="running")
async def running_with_raw_clients(serving: Any) -> AsyncIterator[Any]:
    async with serving() as gateway:
        yield gateway


def code(status: grpc.StatusCode) -> str:
    return str(status.value[0])


UNAUTHENTICATED, UNAVAILABLE = code(grpc.StatusCode.UNAUTHENTICATED), code(grpc.StatusCode.UNAVAILABLE)
TOO_LARGE, MALFORMED = code(grpc.StatusCode.RESOURCE_EXHAUSTED), code(grpc.StatusCode.INVALID_ARGUMENT)


async def test_without_a_key_the_answer_comes_before_a_byte_of_the_message(serving: Any) -> None:
    async with serving(api_keys=("ingest:secret",)) as running:
        client = await Client.connect(running)
        streams = [client.begin("gzip") for _ in range(64)]
        await client.flush()
        assert set(await client.answered(*streams)) == {UNAUTHENTICATED}
        assert running.gateway.receiver.pending == 0


@both_loops
async def test_what_is_unpacked_counts_against_one_bound_over_all_connections(serving: Any, monkeypatch: Any) -> None:
    limit = 8 * MIB
    bomb = message(gzip.compress(b"\x0a" + bytes(6 * MIB), 9), packed=1)
    async with serving(max_pending_bytes=limit, max_body_bytes=limit) as running:
        most = watch_pending(running, monkeypatch)
        clients = [await Client.connect(running) for _ in range(4)]
        streams = [[client.begin("gzip") for _ in range(16)] for client in clients]
        for client, own in zip(clients, streams, strict=True):
            for stream in own:
                await client.send(stream, bomb)
        answers = [await client.answered(*own) for client, own in zip(clients, streams, strict=True)]
        assert {each for own in answers for each in own} <= {UNAVAILABLE, MALFORMED}
        assert UNAVAILABLE in answers[3]
        assert max(most) <= limit + 2 * 6 * MIB  # one request alone always has room
        assert running.gateway.receiver.pending == 0


def watch_pending(running: Any, monkeypatch: Any) -> list[int]:
    from otel_telemetry.gateway.receive.cleaning import Room

    most = [0]
    grow = Room.grow

    def watched(self: Any, size: int) -> None:
        grow(self, size)
        most.append(running.gateway.receiver.pending)

    monkeypatch.setattr(Room, "grow", watched)
    return most


async def test_what_is_sent_and_never_ended_counts_too_and_is_given_back_with_its_connection(serving: Any) -> None:
    limit = 4 * MIB
    async with serving(max_pending_bytes=limit, max_body_bytes=limit) as running:
        client = await Client.connect(running)
        streams = [client.begin() for _ in range(8)]
        for stream in streams:
            await client.send(stream, message(bytes(2 * MIB))[:-1], end=False)
        assert running.gateway.receiver.pending <= limit
        while UNAVAILABLE not in client.statuses.values():
            await client.read()
        client.writer.close()
        await until(lambda: running.gateway.receiver.pending == 0)


async def until(check: Any) -> None:
    for _ in range(6000):
        if check():
            return
        await asyncio.sleep(0.01)
    raise AssertionError


@pytest.mark.parametrize(
    ("encoding", "data", "status"),
    [
        ("identity", struct.pack(">BI", 0, 65 * MIB), TOO_LARGE),
        ("gzip", message(gzip.compress(bytes(65 * MIB), mtime=0), packed=1), TOO_LARGE),
        ("deflate", message(zlib.compress(bytes(65 * MIB)), packed=1), TOO_LARGE),
        ("gzip", message(b"no gzip", packed=1), MALFORMED),
        ("gzip", message(gzip.compress(b"x" * 99, mtime=0)[:-3], packed=1), MALFORMED),
        ("identity", message(b"", packed=1), MALFORMED),
        ("gzip", message(b"", packed=2), MALFORMED),
        ("identity", b"\0\0", MALFORMED),
        ("identity", b"", MALFORMED),
        ("identity", message(b"12345678")[:-1], MALFORMED),
        ("identity", message(b"") + message(b""), MALFORMED),
        ("zstd", message(b"", packed=1), code(grpc.StatusCode.UNIMPLEMENTED)),
    ],
)
async def test_what_no_message_is_gets_its_code(running: Any, encoding: str, data: bytes, status: str) -> None:
    client = await Client.connect(running)
    stream = client.begin(encoding)
    if data:
        await client.send(stream, data)
    else:
        client.h2.end_stream(stream)
        await client.flush()
    assert await client.answered(stream) == [status]
    assert running.gateway.receiver.pending == 0


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_packed_messages_are_taken(running: Any, make_request: Any, compression: Any) -> None:
    async with grpc.aio.insecure_channel(running.grpc) as channel:
        call = channel.unary_unary(EXPORT, bytes, bytes)
        body = make_request("one", note="n" * 50_000)
        assert await call(body, compression=compression, timeout=10) == b""
    assert [batch.body for batch in running.spooled()] == [body]


async def test_a_message_that_does_not_come_to_its_end_is_given_up(running: Any, monkeypatch: Any) -> None:
    from otel_telemetry.gateway.receive import grpc as gateway_grpc

    monkeypatch.setattr(gateway_grpc, "_READ_SECONDS", 0.2)
    client = await Client.connect(running)
    stream = client.begin()
    await client.send(stream, message(bytes(1000))[:-1], end=False)
    assert await client.answered(stream) == [UNAVAILABLE]
    assert running.gateway.receiver.pending == 0


@pytest.mark.parametrize("kind", ["pings", "settings", "resets", "refused calls", "empty data", "windows", "unknown"])
async def test_work_for_nothing_ends_the_connection_not_the_gateway(serving: Any, make_request: Any, kind: str) -> None:
    async with serving(api_keys=("ingest:secret",)) as running:
        client = await Client.connect(running)
        open_stream = client.begin(**{"x-api-key": "secret"})
        with pytest.raises((ConnectionError, h2.exceptions.ProtocolError)):
            await misbehave_for_long(client, kind, open_stream)
        async with grpc.aio.insecure_channel(running.grpc) as channel:
            call = channel.unary_unary(EXPORT, bytes, bytes)
            assert await call(make_request("one"), metadata=(("x-api-key", "secret"),), timeout=10) == b""


async def misbehave_for_long(client: Client, kind: str, open_stream: int) -> None:
    """Return only where the connection is still open after 10,000 times."""
    for _ in range(200):
        for _ in range(50):
            misbehave(client, kind, open_stream)
        await client.flush()
        with contextlib.suppress(TimeoutError):
            if not await client.read(0.02):
                raise ConnectionResetError


def misbehave(client: Client, kind: str, open_stream: int) -> None:
    match kind:
        case "pings":
            client.h2.ping(b"12345678")
        case "settings":
            client.h2.update_settings({SettingCodes.MAX_HEADER_LIST_SIZE: 5000})
        case "resets":
            client.h2.reset_stream(client.begin(**{"x-api-key": "secret"}))
        case "refused calls":
            client.h2.reset_stream(client.begin())
        case "empty data":
            client.h2.send_data(open_stream, b"")
        case "windows":
            client.h2.increment_flow_control_window(1)
        case "unknown":
            client.writer.write(bytes(3) + b"\xee" + bytes(5))  # a frame of a kind that nobody knows


async def test_header_fields_without_end_are_not_collected(running: Any) -> None:
    reader, writer = await asyncio.open_connection(*running.grpc.split(":"))
    running.clients.append(writer)
    frame = (16_384).to_bytes(3, "big")
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
    writer.write(frame + b"\x01\x00\x00\x00\x00\x01" + b"a" * 16_384)
    with pytest.raises(ConnectionError):  # noqa: PT012 - which of both notices it depends on time
        for _ in range(60):
            writer.write(frame + b"\x09\x00\x00\x00\x00\x01" + b"a" * 16_384)
            await writer.drain()
            await asyncio.sleep(0.005)
        while await reader.read(1 << 16):
            pass
        raise ConnectionResetError
    assert writer.transport.is_closing() or reader.at_eof()


async def test_header_fields_without_end_are_not_held_though_all_came_at_once(running: Any) -> None:
    reader, writer = await asyncio.open_connection(*running.grpc.split(":"))
    running.clients.append(writer)
    settings = bytes(3) + b"\x04" + bytes(5)
    frames = [(16_384).to_bytes(3, "big") + bytes((kind, 0, 0, 0, 0, 1)) + b"a" * 16_384 for kind in (1, 9, 9)]
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + b"".join(frames))
    async with asyncio.timeout(5):  # a connection on which no call was taken is closed later than that
        await until_closed(reader)


async def test_a_frame_that_is_too_long_is_refused_by_its_first_bytes(running: Any) -> None:
    reader, writer = await asyncio.open_connection(*running.grpc.split(":"))
    running.clients.append(writer)
    settings, begun = bytes(3) + b"\x04" + bytes(5), b"\xff\xff\xff" + bytes(5) + b"\x01"
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + begun)
    received = await asyncio.wait_for(reader.read(), 60)
    assert received.endswith(struct.pack(">I", ErrorCodes.FRAME_SIZE_ERROR))


@both_loops
async def test_connections_are_bounded_and_unused_ones_make_room(
    serving: Any, make_request: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(http2_server, "_EVICTABLE_SECONDS", 0.0)
    async with serving(max_connections=8) as running:
        idle = [await asyncio.open_connection(*running.grpc.split(":")) for _ in range(40)]
        async with grpc.aio.insecure_channel(running.grpc) as channel:
            assert await channel.unary_unary(EXPORT, bytes, bytes)(make_request("one"), timeout=10) == b""
        for reader, _ in idle[:30]:
            await until_closed(reader)
        running.clients += [writer for _, writer in idle]


async def until_closed(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        while await asyncio.wait_for(reader.read(1 << 16), 5):
            pass


async def test_a_connection_on_which_no_call_was_taken_is_closed(serving: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(http2_server, "_STRANGER_SECONDS", 0.1)
    async with serving(api_keys=("ingest:secret",)) as running:
        client = await Client.connect(running)
        client.begin()
        await client.flush()
        while await client.read():
            pass
        assert client.statuses == {1: UNAUTHENTICATED}
