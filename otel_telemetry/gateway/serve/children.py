"""The supervisor's record of each process that it starts, and the sockets that it passes to them."""

import contextlib
import os
import socket
from dataclasses import dataclass

from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.serve.group import GO


@dataclass(slots=True)
class Child:
    """One of the processes. `pid` 0: it does not run, and is due to at `restart_at`.

    `replaced`: it is being ended, so that one with new settings takes its place. `renewed`: that one has taken it.
    `make`: what it was made with.
    """

    name: str
    role: str
    pid: int = 0
    control: int = -1
    reports: int = -1
    ready: bool = False
    replaced: bool = False
    renewed: bool = False
    make: object = None
    started: float = 0.0
    restart_at: float = 0.0
    early_exits: int = 0
    report: bytes = b""

    def stop(self, seconds: float) -> None:
        """Order it to stop within some seconds."""
        self._send_control(f"{max(0.0, seconds)}\n")

    def go(self) -> None:
        """Allow it to accept requests."""
        self._send_control(GO)

    def _send_control(self, command: str) -> None:
        if self.pid:
            with contextlib.suppress(BrokenPipeError):
                os.write(self.control, command.encode())


@dataclass(slots=True)
class Shared:
    """The listening sockets that all processes share. Closed first when the gateway stops."""

    config: GatewaySettings
    http: socket.socket | None = None
    grpc: socket.socket | None = None

    def hand_over(self) -> socket.socket | None:
        """Return the listening socket; `close` then leaves it open."""
        http, self.http = self.http, None
        return http

    def close(self) -> None:
        """Close the sockets."""
        for listener in (self.http, self.grpc):
            if listener:
                listener.close()
