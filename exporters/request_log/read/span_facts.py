"""Spans in, facts out: SDK spans and OTLP bytes become `records.Span`, and those become facts of their traces.

`fact` decides which role a span can play: a model call, a stage of a request, a request, or only a branch between them.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, cast

from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import format_span_id, format_trace_id

from otel_telemetry.base import conventions, otlp_values, records
from otel_telemetry.base.errors import MalformedTelemetry
from otel_telemetry.base.records import LOG
from otel_telemetry.exporters.request_log.db import coerce
from otel_telemetry.exporters.request_log.derive import calls, requests
from otel_telemetry.exporters.request_log.derive.facts import Fact, IrrelevantSpan
from otel_telemetry.exporters.request_log.dialects import dialects, shapes
from otel_telemetry.exporters.request_log.dialects.shapes import Shape
from otel_telemetry.exporters.request_log.read import otlp_spans

_ENTRY_KINDS: Final = frozenset({"SERVER", "CONSUMER"})
_ENTRY_NUMBERS: Final = frozenset({2, 5})  # the same in OTLP
_KINDS: Final = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_STATUSES: Final = ("UNSET", "OK", "ERROR")
_PARENT_IS_REMOTE: Final = trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8
_ERROR: Final = 2
#: Values that are remembered, with what follows from them: of so many characters, and so many sets of them.
_SHORT: Final = 128
_MOST_REMEMBERED: Final = 2_048  # some 3 MB
_remembered: Final[dict[Any, dict[str, Any]]] = {}
#: Dialects that one instrumentation may mix.
_FAMILIES: Final = dict.fromkeys(("gen_ai", "gen_ai.old", "openllmetry", "traceloop"), "gen_ai")


def from_sdk(span: ReadableSpan) -> records.Span:
    """Return an SDK span as ours."""
    context = span.get_span_context()
    if context is None:
        raise MalformedTelemetry("a span without a context", "span.context")
    parent = span.parent
    kind = span.kind.name
    return records.Span(
        trace_id=format_trace_id(context.trace_id),
        span_id=format_span_id(context.span_id),
        parent_span_id=format_span_id(parent.span_id) if parent is not None else None,
        local_root=parent is None or parent.is_remote or kind in _ENTRY_KINDS,
        name=span.name,
        kind=kind,
        start_ns=span.start_time or 0,
        end_ns=span.end_time or span.start_time or 0,
        status=span.status.status_code.name,
        status_message=span.status.description or "",
        attributes=span.attributes or {},
        events=[records.Event(event.name, event.timestamp, event.attributes or {}) for event in span.events],
        resource=span.resource.attributes,
        scope=span.instrumentation_scope.name if span.instrumentation_scope else "",
    )


def from_otlp(body: bytes) -> Iterator[records.Span]:
    """Yield the spans of an ExportTraceServiceRequest; raises MalformedTelemetry where the body is none.

    A span without valid ids is left out: nothing could refer to it.
    """
    for resource, scope, spans in _spans(body):
        yield from [_span(span, span.attributes, resource, scope) for span in spans if _has_ids(span)]


def condensed_from_otlp(body: bytes) -> Iterator[records.Span | IrrelevantSpan]:
    """Yield the spans of a body as `from_otlp` does; irrelevant ones without their attributes."""
    for resource, scope, spans in _spans(body):
        source = _origin(resource)
        for span in spans:
            trace_id, span_id = span.trace_id, span.span_id
            if len(trace_id) != _TRACE_ID_BYTES or len(span_id) != _SPAN_ID_BYTES:
                continue
            own = shapes.shape(span.attributes)
            if own.is_silent and not (span.events and _has_details(span)):
                yield _irrelevant(span, trace_id, span_id, own, source)
            else:
                yield _span(span, own.keys, resource, scope)


def _spans(body: bytes) -> Iterator[tuple[records.Attributes, str, Iterable[Any]]]:
    try:
        message = otlp_spans.Request.FromString(body)
    except DecodeError as error:
        raise MalformedTelemetry(f"not an ExportTraceServiceRequest: {error}") from None
    for of_resource in message.resource_spans:
        resource = otlp_values.attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            yield resource, of_scope.scope.name, of_scope.spans


def _has_ids(span: Any) -> bool:
    return len(span.trace_id) == _TRACE_ID_BYTES and len(span.span_id) == _SPAN_ID_BYTES


def _span(span: Any, keys: Iterable[str], resource: records.Attributes, scope: str) -> records.Span:
    parent = span.parent_span_id.hex() if len(span.parent_span_id) == _SPAN_ID_BYTES else None
    kind = _KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else _KINDS[0]
    status, given = span.status, span.attributes
    return records.Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=parent,
        local_root=parent is None or kind in _ENTRY_KINDS or bool(span.flags & _PARENT_IS_REMOTE),
        name=span.name,
        kind=kind,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status=_status(status.code),
        status_message=status.message,
        attributes={key: otlp_values.to_python(given[key]) for key in keys},
        events=_events(span),
        resource=resource,
        scope=scope,
    )


def _has_details(span: Any) -> bool:
    return any(event.name == dialects.DETAILS_EVENT for event in span.events)


def _irrelevant(span: Any, trace_id: bytes, span_id: bytes, own: Shape, source: calls.Origin) -> IrrelevantSpan:
    """Return an irrelevant span; only the attributes that a request needs are read."""
    parent = span.parent_span_id
    has_parent = len(parent) == _SPAN_ID_BYTES
    local_root = not has_parent or span.kind in _ENTRY_NUMBERS or bool(span.flags & _PARENT_IS_REMOTE)
    facts = None
    if local_root:
        facts = _entry_facts(span, own, source)
    return IrrelevantSpan(
        trace_id.hex(),
        span_id.hex(),
        parent.hex() if has_parent and parent != span_id else None,
        source.service,
        (span.start_time_unix_nano or coerce.known_time(0, span.end_time_unix_nano)) // 1_000,
        local_root,
        facts,
    )


def _entry_facts(span: Any, own: Shape, source: calls.Origin) -> dict[str, Any]:
    """Return the request fields of a silent span; where only its duration is new, they are those of another one."""
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    if not own.repeats or source.notes or not 0 < start <= end or span.status.code == _ERROR:
        return requests.facts(_outline(span, own), own, source, store_text=False)
    given = span.attributes
    values = tuple([otlp_values.to_python(given[key]) for key in own.general_keys])
    if not all([type(value) is int or (type(value) is str and len(value) <= _SHORT) for value in values]):  # noqa: C419
        return requests.facts(_outline(span, own), own, source, store_text=False)
    key = own.general_keys, values, span.kind, source.application, source.environment, source.region
    known = _remembered.get(key)
    if known is None:
        known = requests.facts(_outline(span, own), own, source, store_text=False)
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.clear()
        _remembered[key] = known
    found = {**known, "latency_ms": (end - start) / 1e6}
    if "meta" in found:
        found["meta"] = {**found["meta"]}
    return found


def _outline(span: Any, own: Shape) -> calls.Outline:
    given, status = span.attributes, span.status
    word = _status(status.code)
    return calls.Outline(
        {key: otlp_values.to_python(given[key]) for key in own.general_keys},
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        word,
        status.message,
        _events(span) if word == "ERROR" else (),
        _KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else _KINDS[0],
    )


def _status(code: int) -> str:
    return _STATUSES[code] if 0 <= code < len(_STATUSES) else _STATUSES[0]


def _events(span: Any) -> Sequence[records.Event]:
    events = span.events
    if not events:  # as nearly always
        return ()
    return [records.Event(each.name, each.time_unix_nano, otlp_values.attributes(each.attributes)) for each in events]


def to_fact(span: records.Span | IrrelevantSpan, *, store_text: bool) -> Fact | IrrelevantSpan:
    """Return the facts of a span; an irrelevant one stays as it is."""
    return to_facts([span], store_text=store_text)[0]


def to_facts(spans: Sequence[records.Span | IrrelevantSpan], *, store_text: bool) -> list[Fact | IrrelevantSpan]:
    """Return the facts of spans; irrelevant ones stay as they are."""
    whole = [cast("records.Span", span) for span in spans if type(span) is not IrrelevantSpan]
    found = iter(_facts(whole, store_text=store_text))
    return [span if type(span) is IrrelevantSpan else _condensed(next(found)) for span in spans]


def _condensed(found: Fact) -> Fact | IrrelevantSpan:
    if found.is_relevant:
        return found
    at_us = found.start_ns // 1_000
    return IrrelevantSpan(
        found.trace_id, found.span_id, found.parent, found.service, at_us, found.local_root, found.request_fields
    )


def fact(span: records.Span, *, store_text: bool) -> Fact:
    """Return the facts of a span, with the row of its model call if it is one."""
    return _facts([span], store_text=store_text)[0]


def _facts(spans: Sequence[records.Span], *, store_text: bool) -> list[Fact]:
    """Read all spans before the first row is built (store/building.py)."""
    shaped = [(span, shapes.shape(span.attributes), _origin(span.resource)) for span in spans]
    readings = [dialects.read(span, own) if own.is_known or span.events else None for span, own, _ in shaped]
    rows = [
        calls.build(span, reading, own, source, store_text=store_text)
        if reading is not None and reading.is_model_call
        else None
        for (span, own, source), reading in zip(shaped, readings, strict=True)
    ]
    return [
        _fact(*each, reading, call, store_text=store_text)
        for each, reading, call in zip(shaped, readings, rows, strict=True)
    ]


def _fact(
    span: records.Span,
    own: Shape,
    source: calls.Origin,
    reading: dialects.Reading | None,
    call: records.LlmCall | None,
    *,
    store_text: bool,
) -> Fact:
    has_request_fields = own.has_request_fields_as_call if call is not None else own.has_request_fields
    of_log = span.kind == LOG
    return Fact(
        span.trace_id,
        span.span_id,
        span.parent_span_id if span.parent_span_id != span.span_id else None,
        source.service,
        span.start_ns or span.end_ns or (coerce.nanoseconds(call.ts) if call is not None else time.time_ns()),
        span.end_ns,
        span.local_root,
        has_request_fields,
        requests.facts(span, own, source, store_text=store_text) if has_request_fields or span.local_root else None,
        call,
        of_log,
        _source(span.scope, call, of_log=of_log) if call is not None else "",
        _stage(span, call) if "stage" in own.request_log_keys else None,
        calls.caller(reading) if call is not None and reading is not None else None,
        cached=reading is not None and reading.is_from_cache,
    )


def _source(scope: str, call: records.LlmCall, *, of_log: bool) -> str:
    """Return who reports a call: its scope, and which family of conventions that speaks. Logs come beside spans."""
    family = "log" if of_log and scope else _FAMILIES.get(call.dialect or "", call.dialect)
    return f"{scope}|{family}"


_latest: tuple[records.Attributes, calls.Origin] | None = None


def _origin(resource: records.Attributes) -> calls.Origin:
    """Return the values of a resource; spans of one resource arrive together."""
    global _latest  # noqa: PLW0603  # one assignment, so that threads see all of it or nothing
    latest = _latest
    if latest is None or latest[0] is not resource:
        latest = _latest = (resource, calls.origin(resource))
    return latest[1]


def _stage(span: records.Span, call: records.LlmCall | None) -> str | None:
    """Return the stage of its request that a span is, or that its call belongs to."""
    if call is not None:
        return (call.meta or {}).get("stage") or None
    name = coerce.text(span.attributes.get(conventions.STAGE), "stage", coerce.Notes(), coerce.ID_LIMIT)
    return name if name and span.end_ns > span.start_ns else None
