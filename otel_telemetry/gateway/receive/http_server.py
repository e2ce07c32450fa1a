"""The HTTP server of the gateway: uvicorn with a protocol and connections of our own, and without its signals."""

import asyncio
import contextlib
import socket
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
                **tls.for_http(settings),
            )
        )
        self._most = settings.max_connections
        self._by_address = settings.max_connections_per_address
        self._connections: list[Connections] = []

    def renew_tls(self, settings: GatewaySettings) -> None:
        """Use the certificate of these settings for new connections."""
        fresh = uvicorn.Config(self.config.app, log_config=None, **tls.for_http(settings))
        fresh.load()
        if fresh.ssl:
            tls.harden(fresh.ssl)
        self.config.ssl = fresh.ssl

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        if self.config.ssl:
            tls.harden(self.config.ssl)
        limit = descriptors.connections(self._most)
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
