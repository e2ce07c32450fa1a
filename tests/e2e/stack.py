"""Everything that docker-compose.yml runs, natively: gateway, Collector, Jaeger, Prometheus, a database.

VictoriaLogs stands in Loki's place: the Collector sends it OTLP, as it does to Loki. One folder holds all
their files, so that one scan sees every byte that any of them kept. The senders' endpoints are the Collector's where it
stands in front, the gateway's where that does.
"""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from tests.backends import observability
from tests.backends.observability import Collector, Jaeger, Prometheus, VictoriaLogs
from tests.backends.process import Process, free_port

Shape = Literal["collector-first", "gateway-first"]
T = TypeVar("T")
_ARRIVE_SECONDS = 60.0


class Served(Process):
    """`otel-telemetry serve` as the compose file sets it up: by variables, with keys, forwarding to the Collector."""

    def __init__(
        self, folder: Path, database: str, forward_to: str, ports: tuple[int, int], keys: tuple[str, str]
    ) -> None:
        grpc, http = ports
        key, read_key = keys
        self._key = read_key
        variables = {
            "GATEWAY__GRPC_PORT": str(grpc),
            "GATEWAY__HTTP_PORT": str(http),
            "GATEWAY__SPOOL_DIR": str(folder / "spool"),
            "GATEWAY__API_KEYS": json.dumps([f"ingest+cache:{key}", f"read:{read_key}"]),
            "REQUEST_LOG__URL": database,
            "REQUEST_LOG__COST_BUDGET_PER_DAY_USD": "10",
            "REDACTION__PSEUDONYMS__SECRET": secrets.token_hex(16),
            "FORWARD__COLLECTOR__ENDPOINT": forward_to,
        }
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment |= {f"OTEL_TELEMETRY_{name}": value for name, value in variables.items()}
        self.grpc, self.http = f"http://127.0.0.1:{grpc}", f"http://127.0.0.1:{http}"
        command: list[str | Path] = [sys.executable, "-m", "otel_telemetry.cli", "serve"]
        super().__init__(command, folder, f"{self.http}/health", environment)

    def get(self, path: str) -> bytes:
        """Return what a GET with the key answers."""
        return observability.fetch(f"{self.http}{path}", {"x-api-key": self._key})


@dataclass(slots=True)
class Stack:
    """What runs, and where."""

    shape: Shape
    folder: Path
    database: str
    key: str
    jaeger: Jaeger
    logs: VictoriaLogs
    collector: Collector
    gateway: Served
    prometheus: Prometheus
    answers: list[bytes] = field(default_factory=list)
    stop: ExitStack = field(default_factory=ExitStack)

    @property
    def endpoints(self) -> dict[str, str]:
        """Return where senders send to, by protocol."""
        first: Collector | Served = self.collector if self.shape == "collector-first" else self.gateway
        return {"grpc": first.grpc, "http": first.http}

    @property
    def sender_key(self) -> str:
        """Return the key that senders need."""
        return "" if self.shape == "collector-first" else self.key

    def ask(self, what: Callable[[], bytes | None], good: Callable[[bytes], T | None]) -> T:
        """Return what `good` makes of an answer, asking until it is not None; keep all that was answered."""
        deadline = time.monotonic() + _ARRIVE_SECONDS
        while True:
            answer = what()
            if answer is not None:
                self.answers.append(answer)
                result = good(answer)
                if result is not None:
                    return result
            if time.monotonic() > deadline:
                raise AssertionError(f"did not arrive: {answer!r:.2000}\n{self.logged()}")
            time.sleep(0.2)

    def close(self) -> None:
        """End everyone, in order; a second time does nothing."""
        self.stop.close()

    def dump(self, pg_dump: Path | None) -> bytes:
        """Return the whole database as text (SQLite's is a file of the folder, which is searched anyway)."""
        if pg_dump is None:
            return b""
        return subprocess.run([pg_dump, "--dbname", self.database], check=True, capture_output=True, timeout=60).stdout

    def logged(self) -> str:
        """Return the last words of everyone."""
        parts = {"collector": self.collector, "gateway": self.gateway, "jaeger": self.jaeger, "logs": self.logs}
        return "\n".join(f"--- {name}\n{part.logged()[-1500:]}" for name, part in parts.items())


@contextmanager
def running(shape: Shape, folder: Path, database: str, jaeger_storage: str = "disk") -> Iterator[Stack]:
    """Run a stack for as long as the block lasts. `jaeger_storage` is disk or memory."""
    key, read_key = secrets.token_hex(16), secrets.token_hex(16)
    grpc, http = free_port(), free_port()
    config = observability.COLLECTOR_CONFIG if shape == "collector-first" else observability.GATEWAY_FIRST_CONFIG
    jaeger = Jaeger(folder / "jaeger", JAEGER_STORAGE=jaeger_storage)
    logs = VictoriaLogs(folder / "logs")
    collector = Collector(
        folder / "collector",
        config,
        GATEWAY_ENDPOINT=f"127.0.0.1:{grpc}",
        GATEWAY_API_KEY=key,
        JAEGER_ENDPOINT=jaeger.otlp,
        LOKI_ENDPOINT=logs.otlp,
    )
    gateway = Served(folder / "gateway", database, collector.clean, (grpc, http), (key, read_key))
    targets = {
        "gateway:4318": f"127.0.0.1:{http}",
        "collector:8889": f"127.0.0.1:{collector.ports['METRICS']}",
        "collector:8888": f"127.0.0.1:{collector.ports['SELF']}",
    }
    prometheus = Prometheus(folder / "prometheus", targets, read_key)
    with ExitStack() as stop:
        for part in (logs, jaeger, collector, gateway, prometheus):
            stop.callback(part.close)
            part.start()
        yield Stack(shape, folder, database, key, jaeger, logs, collector, gateway, prometheus, stop=stop)
