"""TLS sessions that are taken up again show no certificate: they end with the authority that they began under."""

import asyncio
import contextlib
import ctypes
import ctypes.util
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_telemetry.base import metrics
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.receive import tls
from tests.gateway.certificates import Certificates
from tests.waiting import eventually

CERTIFICATE_SECONDS = 2 * 86_400  # of tests/gateway/certificates.py
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
#: What has each listener answer something, after which a client has its session.
ASKING = {
    "http": b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "grpc": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5),
}


#: What else would end a connection that is not used.
LIMITS = (
    "otel_telemetry.gateway.receive.accepting._HANDSHAKE_SECONDS",
    "otel_telemetry.gateway.receive.connections.HANDSHAKE_SECONDS",
    "otel_telemetry.gateway.receive.http_server.IDLE_SECONDS",
    "otel_telemetry.gateway.receive.http_protocol.IDLE_SECONDS",
    "otel_telemetry.gateway.receive.http2_server._STRANGER_SECONDS",
)


class OneClient:
    """A client of one listener, which takes its last session up again."""

    def __init__(self, port: int, asked: bytes, context: ssl.SSLContext) -> None:
        self._port, self._asked, self._context = port, asked, context
        self._session: ssl.SSLSession | None = None
        self.resumed: bool | None = False

    def is_answered(self) -> bool:
        """Connect, and tell whether there was an answer."""
        try:
            with (
                socket.create_connection(("127.0.0.1", self._port), timeout=10) as plain,
                self._context.wrap_socket(plain, server_hostname="localhost", session=self._session) as secure,
            ):
                self.resumed = secure.session_reused
                secure.sendall(self._asked)
                answer = secure.recv(1 << 16)
                self._session = secure.session
        except OSError:
            return False
        return bool(answer)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("listener", ASKING)
async def test_a_session_ends_with_its_authority(
    serving: Any, certificates: Certificates, tmp_path: Path, listener: str, version: ssl.TLSVersion
) -> None:
    (tmp_path / "other").mkdir()
    files = {"tls_certificate": certificates["server.pem"], "tls_key": certificates["server.key"]}
    context = certificates.context("client")
    context.minimum_version = context.maximum_version = version
    if listener == "grpc":
        context.set_alpn_protocols(["h2"])
    async with serving(**files, tls_client_ca=certificates["ca.pem"]) as running:
        port = running.gateway.grpc_port if listener == "grpc" else running.gateway.http_port
        client = OneClient(port, ASKING[listener], context)
        for _ in range(2):
            assert await asyncio.to_thread(client.is_answered)
        assert version != ssl.TLSVersion.TLSv1_3 or not client.resumed, "there are no tickets"

        renew(running, files, tmp_path)
        for _ in range(2):
            assert not await asyncio.to_thread(client.is_answered)


@pytest.mark.parametrize("handshake", [True, False], ids=["connected", "half a handshake"])
@pytest.mark.parametrize("listener", ASKING)
async def test_a_connection_ends_with_its_authority(
    serving: Any,
    certificates: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    listener: str,
    handshake: bool,
) -> None:
    for limit in LIMITS:
        monkeypatch.setattr(limit, 3600.0)
    (tmp_path / "other").mkdir()
    files = {"tls_certificate": certificates["server.pem"], "tls_key": certificates["server.key"]}
    async with serving(**files, tls_client_ca=certificates["ca.pem"]) as running:
        port = running.gateway.grpc_port if listener == "grpc" else running.gateway.http_port
        context = certificates.context("client") if handshake else None
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="localhost" if context else None
        )
        writer.write(ASKING[listener] if handshake else b"\x16\x03\x01")
        if handshake:
            assert await reader.read(1 << 16)
        else:
            await asyncio.to_thread(eventually, lambda: handshakes(running, listener))
        renew(running, files, tmp_path)
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 60)
        writer.close()


@pytest.mark.parametrize("listener", ASKING)
async def test_a_connection_ends_when_the_client_s_certificate_expires(
    serving: Any, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, listener: str
) -> None:
    for limit in LIMITS:
        monkeypatch.setattr(limit, 3600.0)
    files = {"tls_certificate": certificates["server.pem"], "tls_key": certificates["server.key"]}
    async with serving(**files, tls_client_ca=certificates["ca.pem"]) as running:
        port = running.gateway.grpc_port if listener == "grpc" else running.gateway.http_port
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=certificates.context("client"), server_hostname="localhost"
        )
        writer.write(ASKING[listener])
        assert await reader.read(1 << 16)
        monkeypatch.setattr(tls, "_clock", lambda: time.time() + CERTIFICATE_SECONDS)
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 60)
        writer.close()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("listener", ASKING)
async def test_a_session_is_not_resumed_with_a_certificate_that_has_expired(
    serving: Any,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    listener: str,
    version: ssl.TLSVersion,
) -> None:
    files = {"tls_certificate": certificates["server.pem"], "tls_key": certificates["server.key"]}
    context = certificates.context("client")
    context.minimum_version = context.maximum_version = version
    if listener == "grpc":
        context.set_alpn_protocols(["h2"])
    async with serving(**files, tls_client_ca=certificates["ca.pem"]) as running:
        port = running.gateway.grpc_port if listener == "grpc" else running.gateway.http_port
        client = OneClient(port, ASKING[listener], context)
        assert await asyncio.to_thread(client.is_answered)
        monkeypatch.setattr(tls, "_clock", lambda: time.time() + CERTIFICATE_SECONDS)
        assert not await asyncio.to_thread(client.is_answered)


def handshakes(running: Any, listener: str) -> int:
    server = getattr(running.gateway._targets, listener)
    listening = server._accepting if listener == "grpc" else server._connections[0]
    return len(listening._handshakes)


def renew(running: Any, files: dict[str, Path], folder: Path) -> None:
    """Have clients show certificates of another authority from now on."""
    renewed = GatewaySettings(**files, tls_client_ca=Certificates(folder / "other")["ca.pem"])
    for server, context in (
        (running.gateway._targets.http, tls.for_http(renewed)),
        (running.gateway._targets.grpc, tls.for_grpc(renewed)),
    ):
        server.renew_tls(context)


@pytest.mark.parametrize("listener", ASKING)
async def test_connections_with_tls_have_small_buffers_and_are_fewer(
    serving: Any, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, listener: str
) -> None:
    """Each takes some hundred kB of memory: as many as without TLS would take more than the process may."""
    monkeypatch.setattr("otel_telemetry.gateway.receive.http2_server._EVICTABLE_SECONDS", 0.0)
    files = {"tls_certificate": certificates["server.pem"], "tls_key": certificates["server.key"]}
    context = ssl.create_default_context(cafile=str(certificates["ca.pem"]))
    async with serving(**files, max_connections=30) as running:
        port = running.gateway.grpc_port if listener == "grpc" else running.gateway.http_port
        clients = []
        for _ in range(15):
            client = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
            client[1].write(ASKING[listener])
            assert await client[0].read(100)
            clients.append(client)
        rest = [asyncio.create_task(reader.read()) for reader, _ in clients]
        await asyncio.sleep(0.5)
        assert sum(not task.done() for task in rest) == 10
        for task, (_, writer) in zip(rest, clients, strict=True):
            task.cancel()
            writer.close()


class LibSsl:
    """OpenSSL itself, which can ask for new keys as Python's `ssl` cannot."""

    def __init__(self) -> None:
        name = ctypes.util.find_library("ssl")
        self.ssl: Any = ctypes.CDLL(name) if name else None
        if self.ssl is None or not hasattr(self.ssl, "SSL_key_update"):
            pytest.skip("there is no libssl of OpenSSL 1.1.1 or newer to call")
        for function in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
            getattr(self.ssl, function).restype = ctypes.c_void_p

    def updates_until_closed(self, port: int, most: int) -> int:
        """Ask for new keys again and again; return how often, `most` where the connection stays."""
        with socket.create_connection(("127.0.0.1", port), timeout=None) as plain:
            context = ctypes.c_void_p(self.ssl.SSL_CTX_new(ctypes.c_void_p(self.ssl.TLS_client_method())))
            connection = ctypes.c_void_p(self.ssl.SSL_new(context))
            try:
                self.ssl.SSL_set_fd(connection, plain.fileno())
                assert self.ssl.SSL_connect(connection) == 1
                for number in range(most):
                    if self.ssl.SSL_key_update(connection, 0) != 1 or self.ssl.SSL_do_handshake(connection) != 1:
                        return number
                return most
            finally:
                self.ssl.SSL_free(connection)
                self.ssl.SSL_CTX_free(context)


@pytest.mark.parametrize("listener", ASKING)
async def test_a_connection_that_only_changes_its_keys_is_closed_and_counted(
    serving: Any, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, listener: str
) -> None:
    reader = InMemoryMetricReader()
    counter = MeterProvider([reader]).get_meter("test").create_counter("closed")
    monkeypatch.setattr(metrics, "connections_closed", counter)
    files = {"tls_certificate": certificates["server.pem"], "tls_key": certificates["server.key"]}
    openssl = LibSsl()
    async with serving(**files) as running:
        port = running.gateway.grpc_port if listener == "grpc" else running.gateway.http_port
        count = await asyncio.to_thread(openssl.updates_until_closed, port, 200_000)
        assert 1_000 < count < 200_000
    data: Any = reader.get_metrics_data()
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    reasons = [(point.value, dict(point.attributes)) for point in metric.data.data_points]
    assert (1, {"listener": listener, "reason": "control_frames"}) in reasons
