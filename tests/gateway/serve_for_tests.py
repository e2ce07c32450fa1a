"""A gateway in a process of its own, for tests that kill it: prints its ports as one line of JSON, then serves.

Usage: serve_for_tests.py SPOOL_DIR OUT, where OUT is a folder that gets every delivered body as a file, "away" for a
sink that takes nothing, or "hang" for one that never returns.
"""

import hashlib
import json
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.serve.process import Gateway
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.redactor import Redactor


class FileSink:
    """One file per body."""

    name = "files"

    def __init__(self, out: str) -> None:
        self._out = out

    def deliver(self, signal: Signal, bodies: Sequence[bytes]) -> None:
        if self._out == "away":
            raise StoreUnavailable("away")
        if self._out == "hang":
            time.sleep(3600)
        for body in bodies:
            (Path(self._out) / f"{signal}-{hashlib.sha256(body).hexdigest()}").write_bytes(body)

    def close(self) -> None:
        """There is nothing to close."""


def announce(gateway: Gateway) -> None:
    while not gateway.http_port:
        time.sleep(0.005)
    sys.stdout.write(json.dumps({"grpc": gateway.grpc_port, "http": gateway.http_port}) + "\n")
    sys.stdout.flush()


def main() -> None:
    spool_dir, out = sys.argv[1:]
    seconds = 600 if out == "hang" else 8
    config = GatewaySettings(grpc_port=0, http_port=0, spool_dir=Path(spool_dir), shutdown_seconds=seconds)
    gateway = Gateway(config, OtlpRedactor(Redactor(RedactionSettings())), [FileSink(out)])
    threading.Thread(target=announce, args=(gateway,), daemon=True).start()
    gateway.run()


if __name__ == "__main__":
    main()
