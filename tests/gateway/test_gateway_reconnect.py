"""Clients that keep their connection for ever do not stay with one receiver, and lose nothing when they move."""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags

from otel_telemetry.gateway.spool.reader import SpoolReader
from tests.faults.gateway_process import GatewayProcess
from tests.waiting import eventually

SENDERS = 4
BATCH = 20
SECONDS = "OTEL_TELEMETRY_GATEWAY__GRPC_CONNECTION_SECONDS"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Return `start(seconds)`, a gateway of two receivers with connections of that age."""
    with ExitStack() as stack:
        yield lambda seconds: stack.enter_context(
            GatewayProcess(tmp_path, "--workers", "2", env={SECONDS: str(seconds)})
        )


class Sender:
    """The stock exporter over one channel, in a thread that exports as fast as it is answered, until stopped."""

    def __init__(self, port: int) -> None:
        self.acknowledged: set[int] = set()
        self.failed = 0
        self._exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}", insecure=True, timeout=20)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            ids = [int.from_bytes(os.urandom(8), "big") | 1 for _ in range(BATCH)]
            if self._exporter.export([made_span(number) for number in ids]) is SpanExportResult.SUCCESS:
                self.acknowledged.update(ids)
            else:
                self.failed += 1

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        self._exporter.shutdown()


def made_span(number: int) -> ReadableSpan:
    context = SpanContext(number, number, is_remote=False, trace_flags=TraceFlags(1))
    return ReadableSpan(f"span {number}", context, start_time=1, end_time=2)


def receivers(running: GatewayProcess) -> set[str]:
    """Return which processes have taken something in."""
    taken = running.metrics().get("otel_telemetry_accepted_total", {})
    return {dict(labels)["process"] for labels, count in taken.items() if count}


def spooled(folder: Path) -> Counter[int]:
    with SpoolReader(folder) as reader:
        requests = [ExportTraceServiceRequest.FromString(batch.body) for batch in reader.batches()]
    return Counter(
        int.from_bytes(span.span_id, "big")
        for request in requests
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    )


def test_one_client_that_never_lets_go_reaches_every_receiver_under_load(start: Any) -> None:
    running = start(0.2)
    sender = Sender(running.grpc)
    eventually(lambda: len(receivers(running)) == 2, "both receivers have had the one client")
    sender.stop()
    assert sender.failed == 0


def test_what_is_acknowledged_while_clients_are_sent_away_is_stored_and_once(start: Any) -> None:
    running = start(0.2)
    senders = [Sender(running.grpc) for _ in range(SENDERS)]
    eventually(
        lambda: min(len(each.acknowledged) for each in senders) > 200 * BATCH and len(receivers(running)) == 2,
        "every client has sent through many connections",
    )
    for each in senders:
        each.stop()
    acknowledged = set().union(*(each.acknowledged for each in senders))
    assert sum(each.failed for each in senders) == 0
    stored = spooled(running.spool)
    assert stored.keys() == acknowledged
    assert set(stored.values()) == {1}
