"""`otel-telemetry redactor`, as a Collector has it beside it."""

import contextlib
import socket
import sys
from pathlib import Path

from tests.backends.process import Process


class Redactor(Process):
    """`otel-telemetry redactor` on a Unix socket."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "r.sock"
        command: list[str | Path] = [sys.executable, "-m", "otel_telemetry.cli", "redactor", "--socket", self.socket]
        super().__init__(command, folder, "")

    def answers(self) -> bool:
        """Tell whether it answers on its socket."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(str(self.socket))
            connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            return connection.recv(32).startswith(b"HTTP/1.1 200")
        return False
