"""The HTTP server of the gateway: uvicorn with a protocol and connections of our own, and without its signals."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any, Final

import uvicorn

from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.receive import descriptors, tls
from otel_telemetry.gateway.receive.connections import Connections
from otel_telemetry.gateway.receive.http_protocol import IDLE_SECONDS, HttpProtocol

_ON_THE_WAY_SECONDS: Final = 0.25


class HttpServer(uvicorn.Server):
    """Serves an ASGI application on sockets that listen already; the gateway stops all of its parts in order."""

    def __init__(self, app: Any, settings: GatewaySettings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=HttpProtocol,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                proxy_headers=False,  # who is believed is a setting of ours; uvicorn believes all of this machine
                timeout_keep_alive=IDLE_SECONDS,
            )
        )
        self._tls = tls.for_http(settings)
        self._most = settings.max_connections
        self._by_address = settings.max_connections_per_address
        self._connections: list[Connections] = []

    def renew_tls(self, context: ssl.SSLContext) -> None:
        """Use this context for new connections. Clients that show certificates have to connect again."""
        self.config.ssl = context
        if tls.asks_clients(context):
            for connections in self._connections:
                connections.end_open()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        self.config.ssl = self._tls
        limit = tls.connections(descriptors.connections(self._most), self._tls)
        self.servers: list[asyncio.Server] = []  # uvicorn's own, of which there are none
        arguments = self.config, self.server_state
        self._connections = [Connections(*arguments, one, limit, self._by_address) for one in sockets or ()]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, and wait for the requests under way."""
        for connections in self._connections:
            connections.close()
        for connections in self._connections:
            await connections.wait_connected()
        if self.server_state.connections:  # what was sent before anybody knew is answered too
            await asyncio.sleep(_ON_THE_WAY_SECONDS)
        await super().shutdown(sockets)
        for connections in self._connections:
            await connections.wait_closed()
