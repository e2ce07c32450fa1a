"""A gateway as users run it, requests with model calls through it, and what /metrics and the tables say of them."""

import contextlib
import random
import re
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from prometheus_client.parser import text_string_to_metric_families

from tests.exporters.gateway_program import Gateway

START = 1_790_000_000_000_000_000
MODELS = ("gpt-4o-mini", "gpt-4o", "house-model-7b")
Series = Counter[tuple[str, ...]]


def requests(count: int, seed: int, text: str = "") -> bytes:
    """Return an ExportTraceServiceRequest of that many requests, each with two model calls, in any order."""
    chance = random.Random(seed)  # noqa: S311  # what is drawn is no secret
    body = ExportTraceServiceRequest()
    resource = body.resource_spans.add()
    attribute(resource.resource, "service.name", "shop")
    scope = resource.scope_spans.add()
    spans: list[Span] = []
    for _ in range(count):
        trace_id = chance.randbytes(16)
        failed = chance.random() < 0.2
        root = new_span(trace_id, b"", Span.SPAN_KIND_SERVER, chance)
        attribute(root, "request_log.route", chance.choice(("direct", "web", '[REDACTED] {weird} "route" \\')))
        attribute(root, "request_log.ttfb_ms", chance.randrange(50, 4_000))
        root.status.code = Status.STATUS_CODE_ERROR if failed else Status.STATUS_CODE_UNSET
        if chance.random() < 0.3:
            attribute(root, "request_log.degraded", "web_failed")
        spans.append(root)
        for _ in range(2):
            spans.append(new_span(trace_id, root.span_id, Span.SPAN_KIND_CLIENT, chance))
            call(spans[-1], chance)
            attribute(spans[-1], "app.note", text)
    chance.shuffle(spans)
    scope.spans.extend(spans)
    return body.SerializeToString()


def new_span(trace_id: bytes, parent: bytes, kind: Any, chance: random.Random) -> Span:
    start = START + chance.randrange(10**9)
    span_id = chance.randbytes(8)
    end = start + chance.randrange(10**7, 10**11)
    return Span(
        trace_id=trace_id, span_id=span_id, parent_span_id=parent, kind=kind, name="span",
        start_time_unix_nano=start, end_time_unix_nano=end,
    )  # fmt: skip


def call(span: Span, chance: random.Random) -> None:
    attribute(span, "gen_ai.operation.name", "chat")
    attribute(span, "gen_ai.provider.name", "openai")
    attribute(span, "gen_ai.request.model", chance.choice(MODELS))
    attribute(span, "gen_ai.usage.input_tokens", chance.randrange(1, 10_000))
    attribute(span, "gen_ai.usage.output_tokens", chance.randrange(1, 1_000))
    span.attributes.add(key="gen_ai.response.time_to_first_chunk").value.double_value = chance.random()
    if chance.random() < 0.1:
        span.status.code = Status.STATUS_CODE_ERROR


def attribute(holder: Any, key: str, value: str | int) -> None:
    found = holder.attributes.add(key=key).value
    if isinstance(value, int):
        found.int_value = value
    else:
        found.string_value = value


def shown(gateway: Gateway, name: str, *labels: str) -> Series:
    """Return the samples of that name at /metrics, by some of their labels, over all processes."""
    found: Series = Counter()
    for family in text_string_to_metric_families(gateway.get("/metrics")):
        for sample in family.samples:
            if sample.name == name:
                value = Decimal(repr(sample.value)).quantize(Decimal("1e-9"))
                found[tuple(sample.labels[label] for label in labels)] += value  # type: ignore[assignment]
    return found


def names(gateway: Gateway) -> set[str]:
    """Return the names of all samples at /metrics."""
    families = text_string_to_metric_families(gateway.get("/metrics"))
    return {sample.name for family in families for sample in family.samples}


def asked(url: str, query: str) -> Series:
    """Return rows of labels and a sum as a query finds them; NULL is an empty label, as Prometheus has none."""
    engine = sa.create_engine(re.sub("^postgresql:", "postgresql+psycopg:", url))
    try:
        with engine.connect() as connection:
            rows = connection.execute(sa.text(query)).all()
    finally:
        engine.dispose()
    found: Series = Counter()
    for *labels, value in rows:
        found[tuple(label or "" for label in labels)] = Decimal(str(value)).quantize(Decimal("1e-9"))  # type: ignore[assignment]
    return found


def helpers(gateway: Gateway) -> list[int]:
    """Return the processes below a gateway that write rows for it."""
    above: dict[int, int] = {}
    commands: dict[int, bytes] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            stat, number = (folder / "stat").read_text(), int(folder.name)
            above[number] = int(stat.rpartition(")")[2].split()[1])
            commands[number] = (folder / "cmdline").read_bytes()

    def is_below(number: int | None) -> bool:
        return number is not None and (number == gateway.process.pid or is_below(above.get(number)))

    return [
        number for number, command in commands.items() if b"request_log.store.helper" in command and is_below(number)
    ]
