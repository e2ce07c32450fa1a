"""Turns a row of an older table into a span, or log records like those of the gateway's endpoints; then into OTLP."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_telemetry.base import conventions, ids
from otel_telemetry.base.otlp_values import put, utf8
from otel_telemetry.gateway.receive.rest import records
from otel_telemetry.gateway.receive.rest.records import Record

_MILLISECOND: Final = 1_000_000
_SPAN_ID: Final = 16


@dataclass(slots=True)
class OldSpan:
    """A request or a model call. `own` is what it is known by; without a latency nobody knows when it ended."""

    own: str
    name: str
    kind: Literal["SERVER", "CLIENT"]
    start_ns: int
    latency_ms: float | None
    attributes: Mapping[str, Any]
    of_all: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    service: str | None = None
    environment: str | None = None


Item = OldSpan | Record


def own_id(system: str, table: str, *key: Any) -> str:
    """Return the id of what an older row becomes, 32 hex digits: the same however often it is brought over.

    Of what people typed nothing is in it: an id is seen by more people than a text, and short texts can be guessed.
    """
    return ids.id_from("import", system, table, *(str(part) for part in key)).replace("-", "")


def bodies(given: Iterable[Item]) -> list[tuple[Literal["traces", "logs"], bytes]]:
    """Return OTLP requests with these spans and events."""
    items = list(given)
    spans = [item for item in items if isinstance(item, OldSpan)]
    events = [item for item in items if isinstance(item, Record)]
    found: list[tuple[Literal["traces", "logs"], bytes]] = []
    if spans:
        found.append(("traces", _trace_request(spans)))
    if events:
        found.append(("logs", records.request(events)))
    return found


def _trace_request(spans: Sequence[OldSpan]) -> bytes:
    message = ExportTraceServiceRequest()
    for span in spans:
        group = message.resource_spans.add()
        origin = {conventions.SERVICE_NAME: span.service, conventions.DEPLOYMENT_ENVIRONMENT: span.environment}
        _put(group.resource.attributes, {**origin, **span.of_all})
        scope = group.scope_spans.add()
        scope.scope.name = conventions.SCOPE_NAME
        _write(scope.spans.add(), span)
    return message.SerializeToString()


def _write(into: Span, span: OldSpan) -> None:
    into.trace_id = bytes.fromhex(span.own)
    into.span_id = bytes.fromhex(span.own[-_SPAN_ID:])
    into.name = utf8(span.name)
    into.kind = Span.SpanKind.Value(f"SPAN_KIND_{span.kind}")
    into.start_time_unix_nano = span.start_ns
    if span.latency_ms is not None:
        into.end_time_unix_nano = span.start_ns + round(span.latency_ms * _MILLISECOND)
    if span.error is not None:
        into.status.code = Status.STATUS_CODE_ERROR
        into.status.message = utf8(span.error)
    _put(into.attributes, span.attributes)


def _put(into: Any, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if value is not None:
            put(into.add(key=utf8(key)).value, value, key)
