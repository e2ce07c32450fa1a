"""Spans in, facts out: SDK spans and OTLP bytes become `records.Span`, and those become nodes for derive.py.

`node` decides which role a span can play: a model call, a stage of a request, a request, or only a branch between them.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import format_span_id, format_trace_id

from otel_telemetry import conventions, records
from otel_telemetry.errors import MalformedTelemetry
from otel_telemetry.exporters.request_log import calls, coerce, dialects, otlp, otlp_spans, requests, shapes
from otel_telemetry.exporters.request_log.logs import LOG
from otel_telemetry.exporters.request_log.node import Node, Quiet
from otel_telemetry.exporters.request_log.rollup import Rollup
from otel_telemetry.exporters.request_log.shapes import Shape

_ENTRY_KINDS: Final = frozenset({"SERVER", "CONSUMER"})
_ENTRY_NUMBERS: Final = frozenset({2, 5})  # the same in OTLP
_KINDS: Final = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_STATUSES: Final = ("UNSET", "OK", "ERROR")
_PARENT_IS_REMOTE: Final = trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8


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


def place_otlp(body: bytes) -> Iterator[records.Span | Quiet]:
    """Yield the spans of a body as `from_otlp` does; those that say nothing as no more than that."""
    for resource, scope, spans in _spans(body):
        for span in spans:
            if _has_ids(span):
                own = shapes.shape(span.attributes)
                is_quiet = own.is_silent and not (span.events and _has_details(span))
                yield _quiet(span, own, resource) if is_quiet else _span(span, own.keys, resource, scope)


def _spans(body: bytes) -> Iterator[tuple[records.Attributes, str, Iterable[Any]]]:
    try:
        message = otlp_spans.Request.FromString(body)
    except DecodeError as error:
        raise MalformedTelemetry(f"not an ExportTraceServiceRequest: {error}") from None
    for of_resource in message.resource_spans:
        resource = otlp.attributes(of_resource.resource.attributes)
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
        attributes={key: otlp.value(given[key]) for key in keys},
        events=_events(span),
        resource=resource,
        scope=scope,
    )


def _has_details(span: Any) -> bool:
    return any(event.name == dialects.DETAILS_EVENT for event in span.events)


def _quiet(span: Any, own: Shape, resource: records.Attributes) -> Quiet:
    """Return a span that says nothing; of its attributes no others are read than a request would need."""
    source = _origin(resource)
    parent = span.parent_span_id
    local_root = len(parent) != _SPAN_ID_BYTES or span.kind in _ENTRY_NUMBERS or bool(span.flags & _PARENT_IS_REMOTE)
    facts = None
    if local_root:
        facts = requests.facts(_outline(span, own), own, source, store_text=False)
    return Quiet(
        span.trace_id.hex(),
        span.span_id.hex(),
        parent.hex() if len(parent) == _SPAN_ID_BYTES and parent != span.span_id else None,
        source.service,
        coerce.known_time(span.start_time_unix_nano, span.end_time_unix_nano) // 1_000,
        local_root,
        facts,
    )


def _outline(span: Any, own: Shape) -> calls.Outline:
    given, status = span.attributes, span.status
    word = _status(status.code)
    return calls.Outline(
        {key: otlp.value(given[key]) for key in own.general_keys},
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        word,
        status.message,
        _events(span) if word == "ERROR" else (),
    )


def _status(code: int) -> str:
    return _STATUSES[code] if 0 <= code < len(_STATUSES) else _STATUSES[0]


def _events(span: Any) -> Sequence[records.Event]:
    return [records.Event(each.name, each.time_unix_nano, otlp.attributes(each.attributes)) for each in span.events]


def place(span: records.Span | Quiet, *, store_text: bool) -> Node | Quiet:
    """Return a span as a node of its trace, or as one that says nothing."""
    if isinstance(span, Quiet):
        return span
    found = node(span, store_text=store_text)
    if found.call or found.carrier or found.part is not None:
        return found
    at_us = coerce.known_time(span.start_ns, span.end_ns) // 1_000
    return Quiet(
        *(found.trace_id, found.span_id, found.parent_span_id, found.service, at_us, found.local_root, found.facts)
    )


def node(span: records.Span, *, store_text: bool) -> Node:
    """Return the span as the derivation sees it, with the row of its model call if it is one."""
    own = shapes.shape(span.attributes)
    source = _origin(span.resource)
    reading = dialects.read(span, own) if own.is_known or span.events else None
    is_call = reading is not None and reading.is_model_call
    carrier = own.carries_as_call if is_call else own.carries
    call = part = None
    if reading is not None and is_call:
        call = calls.build(span, reading, own, source, store_text=store_text)
        part = calls.contribution(call, span, reading)
    elif "stage" in own.said:
        part = _stage(span)
    said = requests.facts(span, own, source, store_text=store_text) if carrier or span.local_root else None
    return Node(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id if span.parent_span_id != span.span_id else None,
        service=source.service,
        ts=call.ts if call is not None else coerce.moment(coerce.known_time(span.start_ns, span.end_ns)),
        local_root=span.local_root,
        carrier=carrier,
        call=is_call,
        of_log=span.kind == LOG,
        response_id=call.provider_request_id[: coerce.ID_LIMIT] if call and call.provider_request_id else None,
        claimed_id=said.get("id") if said else None,
        facts=said,
        part=part,
        row=call,
        new=True,
    )


_latest: tuple[records.Attributes, calls.Origin] | None = None


def _origin(resource: records.Attributes) -> calls.Origin:
    """Return what a resource says; spans of one resource come together."""
    global _latest  # noqa: PLW0603  # one assignment, so that threads see all of it or nothing
    latest = _latest
    if latest is None or latest[0] is not resource:
        latest = _latest = (resource, calls.origin(resource))
    return latest[1]


def _stage(span: records.Span) -> Rollup | None:
    """Return what the span of a stage adds to its request: its time."""
    name = coerce.text(span.attributes.get(conventions.STAGE), "stage", coerce.Notes(), coerce.ID_LIMIT)
    if name is None or span.end_ns <= span.start_ns:
        return None
    part = Rollup()
    part.add(f"span_ns:{name}", span.end_ns - span.start_ns)
    return part
