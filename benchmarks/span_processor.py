"""What redaction costs the thread that ends a span: against the same span with a plain batch processor, in one run.

Budgets: a span with 20 short attributes at most 1.3 x, with 2 kB of prompt at most 2 x. Attributes
with findings are rewritten by the thread that exports them, so the CPU time of all threads together is told too; the
exporter reads every attribute, and does nothing else.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from rich.console import Console
from rich.table import Table

from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.span import RedactionSpanProcessor

SHORT: Mapping[str, Any] = {
    "http.request.method": "POST",
    "url.path": "/v1/orders/8231",
    "http.route": "/v1/orders/{id}",
    "http.response.status_code": 200,
    "server.address": "orders.internal",
    "network.protocol.version": "1.1",
    "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0",
    "db.system.name": "postgresql",
    "db.operation.name": "SELECT",
    "db.collection.name": "orders",
    "db.query.summary": "SELECT orders",
    "messaging.system": "kafka",
    "messaging.destination.name": "orders.created",
    "cloud.region": "eu-central-1",
    "k8s.pod.name": "orders-6f7c9d7b7d-x2x9q",
    "app.feature": "checkout",
    "app.tenant": "tenant-42",
    "app.cart.items": "3",
    "app.version": "2026.11.3",
    "app.flag": "new-pricing",
}
_SENTENCE = "Summarise the quarterly report for the board, and keep the tone factual; list the three main risks. "
CLEAN_PROMPT = {"gen_ai.input.messages": (_SENTENCE * 21)[:2048]}
DIRTY_PROMPT = {
    "gen_ai.input.messages": (_SENTENCE * 21)[:1900]
    + " Send it to jane.roe@example.com, card 4111 1111 1111 1111, and call +1 415 555 2671 from 203.0.113.9."
}
SPANS, ROUNDS = 400, 15


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            dict(span.attributes or {})
        return SpanExportResult.SUCCESS


def provider(*processors: SpanProcessor) -> TracerProvider:
    made = TracerProvider(sampling.ALWAYS_ON, Resource({"service.name": "bench"}), shutdown_on_exit=False)
    for processor in (*processors, BatchSpanProcessor(_Nowhere(), max_queue_size=100_000, schedule_delay_millis=50)):
        made.add_span_processor(processor)
    return made


def spans(made: TracerProvider, attributes: Mapping[str, Any]) -> Callable[[], tuple[float, float]]:
    """Return a function that ends SPANS spans, and tells the CPU microseconds for each of this thread and of all."""
    tracer = made.get_tracer("bench")

    def run() -> tuple[float, float]:
        everywhere, here = time.process_time(), time.thread_time()
        for _ in range(SPANS):
            tracer.start_span("POST /v1/orders/{id}", attributes=attributes).end()
        here = time.thread_time() - here
        made.force_flush()
        return here / SPANS * 1e6, (time.process_time() - everywhere) / SPANS * 1e6

    return run


def main() -> None:
    redactor = Redactor(RedactionSettings())
    plain, ours = provider(), provider(RedactionSpanProcessor(redactor))
    table = Table(title=f"CPU of the caller's thread, and of all; {redactor.engine}")
    for heading in ("span", "plain us", "redacted us", "ratio", "budget", "all, plain us", "redacted us", "ratio"):
        table.add_column(heading)
    cases = [
        ("20 short attributes", SHORT, "1.3"),
        ("20 short + 2 kB clean prompt", {**SHORT, **CLEAN_PROMPT}, "2"),
        ("20 short + 2 kB prompt with 4 findings", {**SHORT, **DIRTY_PROMPT}, "2"),
    ]
    for name, attributes, budget in cases:
        base, measured = spans(plain, attributes), spans(ours, attributes)
        rounds = [(*base(), *measured()) for _ in range(ROUNDS)]
        one, one_all, other, other_all = (statistics.median(values) for values in zip(*rounds, strict=True))
        here = (f"{one:.1f}", f"{other:.1f}", f"{other / one:.2f}", budget)
        table.add_row(name, *here, f"{one_all:.1f}", f"{other_all:.1f}", f"{other_all / one_all:.2f}")
    Console(width=120).print(table)
    plain.shutdown()
    ours.shutdown()


if __name__ == "__main__":
    main()
