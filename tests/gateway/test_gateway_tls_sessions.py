"""TLS sessions that are taken up again show no certificate: they end with the authority that they began under."""

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.receive import tls
from tests.gateway.certificates import Certificates

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
#: What has each listener answer something, after which a client has its session.
ASKING = {
    "http": b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "grpc": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5),
}


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

        renewed = GatewaySettings(**files, tls_client_ca=Certificates(tmp_path / "other")["ca.pem"])
        fresh = tls.for_grpc(renewed)
        assert fresh
        running.gateway._targets.grpc.renew_tls(fresh)
        running.gateway._targets.http.renew_tls(renewed)
        for _ in range(2):
            assert not await asyncio.to_thread(client.is_answered)
