"""Ends of spans that come later: whoever flushes or shuts down their provider waits for them.

A model call's span is ended after its answer was given to the app, with the time at which the call ended
(afterwards.py). A processor in front of all others makes `force_flush` and `shutdown` of its provider wait for that.
"""

from typing import Any, Final

from opentelemetry.sdk.trace import SpanProcessor, SynchronousMultiSpanProcessor

from otel_telemetry.instrument import afterwards


class _Waits(SpanProcessor):
    """Does nothing with a span: it waits for those that have not come yet."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait for the ends that are waiting now."""
        return afterwards.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Wait for the ends that are waiting now: later ones find their exporters stopped."""
        afterwards.flush(afterwards.AT_EXIT)


_WAITS: Final = _Waits()


def may_come_later(span: Any) -> bool:
    """Return whether a span may be ended later: its provider waits for that, or nobody gets to see it.

    False where the provider keeps its processors in a way that is not known.
    """
    processors = getattr(getattr(span, "span", span), "_span_processor", None)
    if type(processors) is not SynchronousMultiSpanProcessor:
        return not span.is_recording()
    if _WAITS not in processors._span_processors:  # noqa: SLF001 - there is no public way to be the first
        _put_in_front(processors)
    return True


def _put_in_front(processors: Any) -> None:
    with processors._lock:  # noqa: SLF001 - the same
        if _WAITS not in processors._span_processors:  # noqa: SLF001 - the same
            processors._span_processors = (_WAITS, *processors._span_processors)  # noqa: SLF001 - the same
