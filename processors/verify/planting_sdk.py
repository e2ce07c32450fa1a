"""Places for canaries in the SDK: every field of its spans, log records and metrics that can hold text.

Each place is planted in a record of its own, through the SDK's public methods, past an exporter that was registered
before the redaction and one behind it. What both were given is returned as bytes.
"""

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from opentelemetry._logs import LogRecord
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider, sampling
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    StatusCode,
    TraceFlags,
    set_span_in_context,
    use_span,
)
from opentelemetry.trace.span import TraceState

from otel_telemetry.base import conventions
from otel_telemetry.processors.metric import MetricRedaction, protect
from otel_telemetry.processors.verify import content_canaries
from otel_telemetry.processors.verify.content_canaries import MESSAGE
from otel_telemetry.processors.verify.hard_canaries import FORMS
from otel_telemetry.processors.verify.planting_otlp import STRING, Slot, attribute, shaped, value_slots

SPANS: Final = "SDK spans"
LOGS: Final = "SDK logs"
METRICS: Final = "SDK metrics"
#: Fields that are one text, then those that are attributes.
SPAN_TEXTS: Final = ("name", "status.description", "context.trace_state", "events.name", "links.context.trace_state")
SPAN_ATTRIBUTES: Final = ("attributes", "events.attributes", "links.attributes")
LOG_TEXTS: Final = ("event_name", "severity_text", "exception")
METRIC_TEXTS: Final = ("name", "description", "unit")
EXEMPLARS: Final = "exemplars.filtered_attributes"
ORIGIN_TEXTS: Final = ("resource.schema_url", "scope.name", "scope.version", "scope.schema_url")
ORIGIN_ATTRIBUTES: Final = ("resource.attributes", "scope.attributes")
EXCEPTION: Final = "events (record_exception)"
#: What a member of a trace state may hold (W3C Trace Context, section 3.3.1.3).
_STATE_VALUE: Final = re.compile(r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
#: What a name of an instrument may be (the SDK writes it in small letters), and a unit (metrics API specification).
_INSTRUMENT: Final = re.compile(r"[a-z][-_./a-z0-9]{0,254}")
_UNIT: Final = re.compile(r"[\x00-\x7f]{0,63}")
_TEXTS: Final = {SPANS: (*SPAN_TEXTS, EXCEPTION), LOGS: LOG_TEXTS, METRICS: METRIC_TEXTS}
_ATTRIBUTES: Final = {SPANS: SPAN_ATTRIBUTES, LOGS: ("attributes",), METRICS: ("attributes", EXEMPLARS)}


def slots_of(surface: str) -> Iterator[Slot]:
    """Yield every place of SDK spans, log records or metrics."""
    yield from (Slot(surface, path, STRING) for path in (*_TEXTS[surface], *ORIGIN_TEXTS))
    for path in (*_ATTRIBUTES[surface], *ORIGIN_ATTRIBUTES):
        yield from value_slots(surface, path, keyed=True)
    if surface == LOGS:
        yield from value_slots(surface, "body", keyed=False)


def holds(slot: Slot, text: Any) -> bool:
    """Return whether the SDK lets a text stand in a place at all."""
    if slot.path.endswith("trace_state"):
        return _STATE_VALUE.fullmatch(text) is not None
    if slot.surface == METRICS and slot.path in ("name", "unit"):
        return (_UNIT if slot.path == "unit" else _INSTRUMENT).fullmatch(text) is not None
    if slot.path in ORIGIN_ATTRIBUTES and _is_nested(slot.shape):
        return False
    return not slot.path.endswith("attributes") or _is_accepted(slot, text)


def _is_nested(shape: str) -> bool:
    """Return whether a shape is one that resources and scopes do not hold."""
    form = FORMS.get(shape) or content_canaries.FORMS.get(shape)
    return form.is_nested if form is not None else shape in ("bytes", "map", "map key", "named in map")


def _is_accepted(slot: Slot, text: Any) -> bool:
    """Return whether the SDK takes an attribute: 1.44 leaves out some that are lists or maps."""
    key, value = attribute(slot, text)
    if slot.surface == METRICS and isinstance(value, list | dict) and not metrics_take_lists():
        return False
    extended = slot.surface == LOGS and slot.path == "attributes"
    return BoundedAttributes(attributes={key: value}, extended_attributes=extended).get(key) is not None


@functools.cache
def metrics_take_lists() -> bool:
    """Return whether an attribute of a measurement can be a list: opentelemetry-sdk 1.44 raises there, into the app."""
    counter = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False).get_meter("probe").create_counter("probe")
    try:
        counter.add(1, {"probe": ["probe"]})
    except TypeError:
        return False
    return True


class SdkProbe:
    """Sends records through the SDK, with or without redaction."""

    def __init__(self, processor: SpanProcessor | LogRecordProcessor | MetricRedaction | None, service: str) -> None:
        self._service = service
        self._processor: Any = processor

    def leaves(self, slot: Slot, text: Any) -> bytes | None:
        """Return everything that exporters can read of a record with that text, or None where it never reached them."""
        senders: dict[str, Callable[[Slot, Any], bytes | None]] = {SPANS: self._span, LOGS: self._log}
        return senders.get(slot.surface, self._metric)(slot, text)

    def _span(self, slot: Slot, text: Any) -> bytes | None:
        before, behind = InMemorySpanExporter(), InMemorySpanExporter()
        provider = TracerProvider(sampling.ALWAYS_ON, self._resource(slot, text), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(before))
        if self._processor is not None:
            provider.add_span_processor(self._processor)
        provider.add_span_processor(SimpleSpanProcessor(behind))
        _plant_span(provider.get_tracer(**_scope(slot, text, "instrumenting_module_name")), slot, text)
        spans = [*before.get_finished_spans(), *behind.get_finished_spans()]
        return b"".join(map(_span_bytes, spans)) if len(spans) == 2 else None  # noqa: PLR2004  # both exporters

    def _log(self, slot: Slot, text: Any) -> bytes | None:
        before, behind = InMemoryLogRecordExporter(), InMemoryLogRecordExporter()
        provider = LoggerProvider(self._resource(slot, text), shutdown_on_exit=False)
        provider.add_log_record_processor(SimpleLogRecordProcessor(before))
        if self._processor is not None:
            provider.add_log_record_processor(self._processor)
        provider.add_log_record_processor(SimpleLogRecordProcessor(behind))
        provider.get_logger(**_scope(slot, text, "name")).emit(_log_record(slot, text))
        records = [*before.get_finished_logs(), *behind.get_finished_logs()]
        data = [encode_logs([record]).SerializeToString() + repr(record).encode() for record in records]
        return b"".join(data) if len(records) == 2 else None  # noqa: PLR2004  # both exporters

    def _metric(self, slot: Slot, text: Any) -> bytes | None:
        before, behind = InMemoryMetricReader(), InMemoryMetricReader()
        provider = MeterProvider(
            [before],
            self._resource(slot, text),
            AlwaysOnExemplarFilter(),
            shutdown_on_exit=False,
            views=[View(instrument_name="*", attribute_keys=set())] if slot.path == EXEMPLARS else (),
        )
        if self._processor is not None:
            protect(provider, self._processor)
        provider.add_metric_reader(behind)
        _measure(provider.get_meter(**_scope(slot, text, "name")), slot, text)
        collected = [data for data in (before.get_metrics_data(), behind.get_metrics_data()) if data is not None]
        data = [encode_metrics(each).SerializeToString() + repr(each).encode() for each in collected]
        return b"".join(data) if len(data) == 2 else None  # noqa: PLR2004  # both readers

    def _resource(self, slot: Slot, text: Any) -> Resource:
        attributes: dict[str, Any] = {conventions.SERVICE_NAME: self._service}
        if slot.path == "resource.attributes":
            attributes |= (attribute(slot, text),)
        return Resource(attributes, text if slot.path == "resource.schema_url" else "")


def _scope(slot: Slot, text: Any, name: str) -> dict[str, Any]:
    fields: dict[str, Any] = {name: "probe"}
    if slot.path.startswith("scope."):
        field = slot.path.removeprefix("scope.")
        field = {"version": _version(name), "name": name}.get(field, field)
        fields[field] = dict([attribute(slot, text)]) if field == "attributes" else text
    return fields


def _version(name: str) -> str:
    return "version" if name == "name" else "instrumenting_library_version"


def _plant_span(tracer: Any, slot: Slot, text: Any) -> None:
    state = TraceState([("vendor", text)]) if slot.path.endswith("trace_state") else TraceState()
    parent = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)
    values = dict([attribute(slot, text)]) if slot.path.endswith("attributes") else {}
    links = [Link(parent, values if slot.path == "links.attributes" else {})] if slot.path.startswith("links") else ()
    own = set_span_in_context(NonRecordingSpan(parent)) if slot.path == "context.trace_state" else None
    span = tracer.start_span(
        text if slot.path == "name" else "probe",
        context=own,
        attributes=values if slot.path == "attributes" else {},
        links=links,
    )
    if slot.path in ("events.name", "events.attributes"):
        named = slot.path == "events.name"
        span.add_event(text if named else "probe", {} if named else values)
    if slot.shape == MESSAGE:
        span.add_event(slot.key, content_canaries.EVENTS[slot.key](text))
    if slot.path == EXCEPTION:
        span.record_exception(ValueError(text))
    if slot.path == "status.description":
        span.set_status(StatusCode.ERROR, text)
    span.end()


def _log_record(slot: Slot, text: Any) -> LogRecord:
    if slot.shape == MESSAGE:
        return LogRecord(event_name=slot.key, body=content_canaries.BODIES[slot.key](text))
    key = slot.key if slot.shape == "named in map" else ""
    return LogRecord(
        body=shaped(slot.shape, key, text) if slot.path == "body" else "probe",
        severity_text=text if slot.path == "severity_text" else None,
        event_name=text if slot.path == "event_name" else None,
        attributes=dict([attribute(slot, text)]) if slot.path == "attributes" else {},
        exception=ValueError(text) if slot.path == "exception" else None,
    )


def _measure(meter: Any, slot: Slot, text: Any) -> None:
    fields = {field: text if slot.path == field else "probe" for field in METRIC_TEXTS}
    values = dict([attribute(slot, text)]) if slot.path in ("attributes", EXEMPLARS) else {}
    with use_span(NonRecordingSpan(SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1)))):
        meter.create_counter(**fields).add(1, values)


def _span_bytes(span: ReadableSpan) -> bytes:
    """Return what an exporter can read, as OTLP and as Python shows it."""
    readable = (
        span.name,
        dict(span.attributes or {}),
        [(event.name, dict(event.attributes or {})) for event in span.events],
        [(link.context, dict(link.attributes or {})) for link in span.links],
        (span.status.description, span.context),
        (dict(span.resource.attributes), span.resource.schema_url),
        span.instrumentation_scope,
    )
    return encode_spans([span]).SerializeToString() + repr(readable).encode()


__all__ = ["LOGS", "METRICS", "SPANS", "SdkProbe", "holds", "slots_of"]
