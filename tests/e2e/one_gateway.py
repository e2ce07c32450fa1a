"""`otel-telemetry serve` by itself, and what it has stored of what a sender sent."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.gateway.spool.reader import SpoolReader
from tests.e2e.scenario import Scenario

_SERVES = re.compile(r"OTLP/gRPC on (127\.0\.0\.1:\d+), OTLP/HTTP on (127\.0\.0\.1:\d+)")


@dataclass
class OneGateway:
    """A gateway in processes of its own."""

    process: subprocess.Popen[bytes]
    log: Path
    spool: Path
    url: str = ""
    grpc: str = ""

    def requests(self, signal: str, kind: Any) -> list[Any]:
        """Return what is spooled of a signal."""
        with SpoolReader(self.spool) as reader:
            return [kind.FromString(batch.body) for batch in reader.batches() if batch.signal == signal]

    def span_names(self) -> list[str]:
        """Return the names of all spans that are spooled."""
        requests = self.requests("traces", ExportTraceServiceRequest)
        scopes = [scope for one in requests for part in one.resource_spans for scope in part.scope_spans]
        return [span.name for scope in scopes for span in scope.spans]

    def has_all_of(self, made: Scenario) -> None:
        """Hold what is spooled against a scenario: all of it is there, once, and nothing that was planted."""
        names = self.span_names()
        assert len(names) == 5
        assert {"import orders", "chat gpt-4o-mini", "charge", "POST payments"} < set(names)
        logs = self.requests("logs", ExportLogsServiceRequest)
        assert (
            sum(len(scope.log_records) for one in logs for part in one.resource_logs for scope in part.scope_logs) == 2
        )
        points = self.requests("metrics", ExportMetricsServiceRequest)
        scopes = [scope for one in points for part in one.resource_metrics for scope in part.scope_metrics]
        found = {each.name for scope in scopes for each in scope.metrics}
        assert found == {"shop.orders", "shop.latency", "shop.temperature"}
        traces = self.requests("traces", ExportTraceServiceRequest)
        everything = b"".join(one.SerializeToString() for one in (*traces, *logs, *points))
        assert not [value for value in made.planted.values() if value.encode() in everything]


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[OneGateway]:
    """Serve on free ports for as long as the block lasts."""
    command = [sys.executable, "-m", "otel_telemetry.cli", "serve", "--grpc-port", "0", "--http-port", "0", *options]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stderr=log)
    made = OneGateway(process, folder / "log", folder / "otel-spool")
    try:
        made.grpc, made.url = (f"http://{address}" for address in _addresses(made.log))
        yield made
    finally:
        process.terminate()
        process.wait(30)


def _addresses(log: Path) -> tuple[str, ...]:
    for _ in range(300):
        match = _SERVES.search(log.read_text())
        if match:
            return match.groups()
        time.sleep(0.1)
    pytest.fail(log.read_text())
