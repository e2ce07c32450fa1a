"""Redaction of SDK spans, for every exporter, whatever the order of registration.

The SDK calls `_on_ending` on all processors before the first `on_end`, but the span is no longer writable through its
public methods then. So the private fields are replaced, all in this module; a self-test at construction proves on the
installed SDK that this works, and refuses to start otherwise.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    Event,
    ReadableSpan,
    Span,
    SpanProcessor,
    SynchronousMultiSpanProcessor,
    TracerProvider,
    sampling,
)
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Link, SpanContext, SpanKind, Status, TraceFlags
from opentelemetry.trace.span import TraceState

from otel_telemetry.base import conventions
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.processors.config import LEAK_CHECK_RATIO, RedactionSettings
from otel_telemetry.processors.redact import finding_counts
from otel_telemetry.processors.redact.leak_check import LeakCheck, Record
from otel_telemetry.processors.redact.redactor import Finding, Findings, Redactor
from otel_telemetry.processors.sdk import fail_closed
from otel_telemetry.processors.sdk.deferred import checked_later, redacted_later
from otel_telemetry.processors.sdk.origin import Origin, Origins
from otel_telemetry.processors.sdk.parts import clean_attributes, gather, strings_of

#: Kinds of spans in which the address of the other side is that of a server.
_CALLING = frozenset({SpanKind.CLIENT, SpanKind.PRODUCER})
_WITHHELD = "[REDACTION FAILED]"


class RedactionSpanProcessor(SpanProcessor):
    """Cleans name, status, attributes, events, links, trace state, resource and scope of every span that ends.

    Register it anywhere on a TracerProvider, before or after exporters, or in a processor that wraps others. A span
    whose redaction raises is emptied, marked as not sampled (so that no stock processor exports it) and counted;
    nothing is raised into the app. When a span ends all its strings are scanned; attributes in which that saw something
    are rewritten when they are first read, by the thread of a batch processor, and are empty where that raises.
    """

    def __init__(
        self,
        redactor: Redactor | None = None,
        *,
        summary: bool = False,
        leak_check_ratio: float = LEAK_CHECK_RATIO,
    ) -> None:
        """`summary` adds `otel_telemetry.redacted.<type>` counts to the spans in which something was found."""
        self._origins = Origins(redactor or Redactor(RedactionSettings()))
        self._summary = summary
        self._check = LeakCheck("traces", leak_check_ratio)
        fail_closed.install()
        _prove(self)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Answer for a span: it is redacted when it ends, even where a wrapper keeps `_on_ending` from us."""
        del parent_context
        span.__dict__[fail_closed.CLAIM] = self

    def _on_ending(self, span: Span) -> None:
        self.clean_in_place(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Redact what comes here without having been redacted: a copy that somebody made, or a span of their own."""
        self.clean_in_place(span)

    def clean_in_place(self, span: Any) -> bool:
        """Redact a span in place, unless it was before; false, and an empty span, where that failed."""
        if fail_closed.REDACTED in span.__dict__:
            return True
        try:
            _take_sdk_shape(span)
            self._clean(span)
        except Exception:  # noqa: BLE001  # fail closed: whatever went wrong, this span must not leave
            _withhold(span)
            finding_counts.withheld("traces")
            return False
        finally:
            span.__dict__[fail_closed.REDACTED] = True
        return True

    def _clean(self, span: Span) -> None:
        origin, span._instrumentation_scope = self._origins.origin_of(span._resource, span._instrumentation_scope)
        span._resource = origin.resource
        span._instrumentation_info = None  # the deprecated twin of the scope
        seen = origin.redactor.seen(_strings(span))
        if seen is not None:
            self._rewrite(span, origin, Findings(seen))
        if self._check.due() and origin.service != finding_counts.SELF_TEST:
            span._attributes = checked_later(span._attributes, partial(self._look_again, span, origin))

    def _look_again(self, span: Any, origin: Origin, attributes: Any) -> None:
        """Check what an exporter is about to read."""
        try:
            record = _leaving(span, attributes)
        except Exception:  # noqa: BLE001  # nothing is raised into an exporter; the span was redacted as ever
            finding_counts.unchecked()
            return
        self._check.record(origin.redactor.of_caller() if span.kind in _CALLING else origin.redactor, record)

    def _rewrite(self, span: Any, origin: Origin, findings: Findings) -> None:
        redactor = origin.redactor
        if not findings.seen.first_is_clean():
            span._name = redactor.string(span._name, findings=findings)
        if span._status.description:
            span._status = Status(
                span._status.status_code, redactor.string(span._status.description, findings=findings)
            )
        if span._context.trace_state:
            span._context = _with_clean_state(redactor, span._context, findings)
        clean = partial(_clean_attributes, redactor, findings) if self._summary else partial(_later, origin, findings)
        calling = origin._replace(redactor=redactor.of_caller())
        own = (
            partial(_clean_attributes, calling.redactor, findings)
            if self._summary
            else partial(_later, calling, findings)
        )
        span._attributes = (own if span.kind in _CALLING else clean)(span._attributes)
        if span._events:
            events = [
                Event(redactor.string(e.name, "", findings), clean(e.attributes, e.name), e.timestamp)
                for e in span._events
            ]
            span._events = _bounded_list(span._events, events)
        if span._links:
            links = [Link(_with_clean_state(redactor, x.context, findings), clean(x.attributes)) for x in span._links]
            span._links = _bounded_list(span._links, links)
        if self._summary and findings:
            span._attributes = _bounded(span._attributes, {**span._attributes, **finding_counts.summary(findings)})
        if findings:
            finding_counts.count(findings, origin.service)


def protect(provider: TracerProvider, processor: RedactionSpanProcessor) -> None:
    """Put the processor before all others of a provider, so that their `_on_ending` hooks too see clean spans."""
    many = provider._active_span_processor
    with many._lock:
        many._span_processors = (processor, *many._span_processors)


def _strings(span: Any) -> list[str]:
    """Return all strings of a span, its name first, fast."""
    texts = [span._name]
    strings_of(span._attributes._dict, texts)  # the mapping around it is many times slower to read
    if span._status.description:
        texts.append(span._status.description)
    if span._context.trace_state:
        gather(span._context.trace_state, texts)
    if span._events:
        for event in span._events:
            gather((event.name, event.attributes), texts)
    if span._links:
        for link in span._links:
            gather((link.attributes, link.context.trace_state), texts)
    return texts


def _leaving(span: Any, attributes: Any) -> Record:
    """Return everything of a span that an exporter can read, where these are its attributes."""
    scope = span._instrumentation_scope
    states = (span._context.trace_state, *(link.context.trace_state for link in span._links))
    return Record(
        (
            span._name,
            span._status.description,
            span._resource.schema_url,
            *((scope.name, scope.version, scope.schema_url) if scope else ()),
            *(event.name for event in span._events),
        ),
        (
            attributes,
            span._resource.attributes,
            scope and scope.attributes,
            *states,
            *(each.attributes for each in (*span._events, *span._links)),
        ),
    )


def _clean_attributes(redactor: Redactor, findings: list[Finding], attributes: Any, event: str = "") -> Any:
    """Return attributes redacted, in the SDK's own shape."""
    own = getattr(attributes, "_dict", attributes) or {}
    return _bounded(attributes, clean_attributes(redactor, own, findings, event))


def _later(origin: Origin, findings: Findings, attributes: Any, event: str = "") -> Any:
    return redacted_later(attributes, origin, findings.seen, event)


def _with_clean_state(redactor: Redactor, context: SpanContext, findings: list[Finding]) -> SpanContext:
    """Return the context with its trace state redacted. A member that is not valid once redacted is left out."""
    if not context.trace_state:
        return context
    members = [
        (redactor.string(key, "", findings), redactor.string(value, key, findings))
        for key, value in context.trace_state.items()
    ]
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags, TraceState(members))


def _bounded(old: Any, attributes: dict[str, Any]) -> BoundedAttributes:
    """Return attributes in the SDK's own shape, with the limits and the drop count of those they replace."""
    new = BoundedAttributes(getattr(old, "maxlen", None))
    new._dict = attributes
    new.dropped = getattr(old, "dropped", 0)
    new._immutable = True
    return new


def _bounded_list(old: Any, items: Sequence[Any]) -> Any:
    new: Any = BoundedList.from_seq(None, items)
    new.dropped = old.dropped
    return new


def _take_sdk_shape(span: Any) -> None:
    """Give a span that was not made by the SDK's tracer (a copy, mostly) the containers that those have."""
    if not isinstance(span._attributes, BoundedAttributes):
        span._attributes = _bounded(None, dict(span._attributes or {}))
    if not isinstance(span._events, BoundedList):
        span._events = BoundedList.from_seq(None, span._events or ())
    if not isinstance(span._links, BoundedList):
        span._links = BoundedList.from_seq(None, span._links or ())


def _withhold(span: Any) -> None:
    """Empty a span and mark it as not sampled: what is left is its place in the trace."""
    context = span._context or INVALID_SPAN_CONTEXT
    span._context = SpanContext(context.trace_id, context.span_id, context.is_remote, TraceFlags(0))
    span._name = _WITHHELD
    span._status = Status(span._status.status_code)
    span._attributes = _bounded(None, {})
    span._events = BoundedList.from_seq(None, ())
    span._links = BoundedList.from_seq(None, ())
    span._resource = Resource.get_empty()
    span._instrumentation_scope = None
    span._instrumentation_info = None


class _PublicOnly(SpanProcessor):
    """Hands on the public hooks and nothing else, as the wrappers of other packages do."""

    def __init__(self, *inner: SpanProcessor) -> None:
        self._inner = inner

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for each in self._inner:
            each.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        for each in self._inner:
            each.on_end(span)


class _Witness(SpanProcessor):
    """Keeps what an exporter would be given."""

    def __init__(self) -> None:
        self.seen: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.seen.append(span)


def _prove(processor: RedactionSpanProcessor) -> None:
    """Send a planted address through the installed SDK, past an exporter registered before us; raise if it shows."""
    planted = finding_counts.planted_for(processor._origins.redactor)
    if planted is None:
        return  # the policy keeps everything that could be looked for
    witnesses = [_Witness() for _ in range(3)]
    many = SynchronousMultiSpanProcessor()
    many.add_span_processor(witnesses[0])
    many.add_span_processor(processor)
    wrapper = SynchronousMultiSpanProcessor()
    wrapper.add_span_processor(_PublicOnly(witnesses[1], processor, witnesses[2]))
    for tree, seen in ((many, witnesses[:1]), (wrapper, witnesses[1:3])):
        _send(planted, tree)
        if any(len(each.seen) != 1 or planted in each.seen[0].to_json() for each in seen):
            raise ConfigurationError(
                "redaction",
                "the installed opentelemetry-sdk does not let spans be redacted before they are exported",
                "install opentelemetry-sdk 1.45.2, the version this release was proved with, and report this",
            )


def _send(planted: str, many: SynchronousMultiSpanProcessor) -> None:
    """Send a planted text through a tree of processors, with the installed SDK."""
    provider = TracerProvider(
        sampling.ALWAYS_ON,
        Resource({conventions.SERVICE_NAME: finding_counts.SELF_TEST}),
        shutdown_on_exit=False,
        active_span_processor=many,
    )
    span = provider.get_tracer(finding_counts.SELF_TEST).start_span(planted, attributes={"a": planted})
    span.add_event(planted, {"a": planted})
    span.end()
