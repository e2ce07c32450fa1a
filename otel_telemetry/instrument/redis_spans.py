"""Adds attributes to the spans of OpenTelemetry's Redis instrumentation, and removes personal data from them."""

from collections.abc import Sequence
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from otel_telemetry.base import conventions
from otel_telemetry.instrument.redis_commands import Lookup

_SCOPE: Final = "opentelemetry.instrumentation.redis"
_SYSTEM: Final = ("db.system.name", "db.system")
_STATEMENT: Final = ("db.query.text", "db.statement")
_SEARCH: Final = "redis.search"  # the span name for which that instrumentation adds query and documents
_MAX_FAMILIES: Final = 8  # of one span
#: Errors whose messages name a server, and no more.
SAFE_ERRORS: Final = ("ConnectionError", "TimeoutError", "BusyLoadingError", "WatchError", "MaxConnectionsError")


_CONTAINERS: Final = frozenset(
    {"ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DEBUG", "FUNCTION", "LATENCY", "MEMORY", "MODULE", "OBJECT"}
    | {"PUBSUB", "SCRIPT", "SENTINEL", "SLOWLOG", "XGROUP", "XINFO"}
)


def current() -> Span | None:
    """Return the current span where it is one of Redis."""
    span = trace.get_current_span()
    if not span.is_recording() or getattr(span, "kind", None) is not SpanKind.CLIENT:
        return None
    scope = getattr(span, "instrumentation_scope", None)  # a cluster's spans do not say that they are of Redis
    if scope is not None and scope.name == _SCOPE:
        return span
    attributes = getattr(span, "attributes", None) or {}
    return span if any(attributes.get(name) == "redis" for name in _SYSTEM) else None


def annotate(seen: Sequence[Lookup], seconds: float) -> None:
    """Set hits, misses, bytes and duration on the span."""
    span = current()
    if span is None:
        return
    sums = [sum(column) for column in zip(*(counts for _, found in seen for counts in found.values()), strict=True)]
    hits, misses, size = sums
    families = sorted({family for _, found in seen for family in found})[:_MAX_FAMILIES]
    attributes: dict[str, Any] = {
        conventions.CACHE_SPAN_HITS: hits,
        conventions.CACHE_SPAN_MISSES: misses,
        conventions.CACHE_SPAN_FAMILY: families[0] if len(families) == 1 else families,
        conventions.CACHE_SPAN_BYTES: size,
        conventions.CACHE_SPAN_DURATION: round(seconds * 1000, 3),
    }
    if hits + misses == 1:
        attributes[conventions.CACHE_SPAN_HIT] = hits == 1
    span.set_attributes(attributes)


def clean_name(args: Sequence[Any]) -> None:
    """Take arguments out of a span's name: of FT.SEARCH, and of a command given as one text with its arguments."""
    span = current()
    if span is None:
        return
    name = getattr(span, "name", "")
    if name == _SEARCH:
        span.update_name("FT.SEARCH")
    elif isinstance(args[0], str) and " " in args[0].strip():
        _rename(span, _words(args[0]))


def name_pipeline(commands: Sequence[Sequence[Any]]) -> None:
    """Give the span of a pipeline a short name, however many commands it has."""
    span = current()
    if span is None or not commands:
        return
    names = {str(args[0]).split(maxsplit=1)[0].upper() for args in commands if args and str(args[0]).strip()}
    span.update_name(f"PIPELINE {names.pop()}" if len(names) == 1 else "PIPELINE")
    if any(" " in str(args[0]).strip() for args in commands if args):
        _rename(span, getattr(span, "name", "PIPELINE"))


def _words(text: str) -> str:
    """Return the command at the beginning of a text: one word, or two where the first is a family of commands."""
    words = text.split(maxsplit=2)
    return " ".join(words[: 2 if words[0].upper() in _CONTAINERS else 1])


def _rename(span: Span, name: str) -> None:
    span.update_name(name)
    attributes = getattr(span, "attributes", None) or {}
    for key in _STATEMENT:
        if key in attributes:
            span.set_attribute(key, name)


def hush(span: Span, kind: str) -> None:
    """Let a span record no more of the exception that is about to pass through it than its type.

    The span's owner calls `record_exception` and `set_status` on it once the exception leaves its `with` block.
    """

    def record_exception(*_: Any, **__: Any) -> None:
        span.add_event("exception", {conventions.EXCEPTION_TYPE: kind})

    def set_status(*_: Any, **__: Any) -> None:
        type(span).set_status(span, Status(StatusCode.ERROR, kind))

    span.set_attribute(conventions.ERROR_TYPE, kind)
    vars(span).update(record_exception=record_exception, set_status=set_status)
