"""Records a row for every request, sampled or not; the app's sampler still decides what other exporters get.

A span that the sampler drops is not recorded at all, so the request's row, its cost and its redaction counters would be
lost. If a request_log exporter is among the exporters, dropped spans are recorded without being sampled
(`RECORD_ONLY`): batch processors skip them, as OpenTelemetry's specification says, and ours passes them to the
request_log only. This also applies to requests whose caller did not sample them.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from otel_telemetry.base.providers import add_span_processor

_BATCHES: Final = BatchSpanProcessor | SimpleSpanProcessor


class RecordingSampler(Sampler):
    """Decides as another sampler does, but has spans recorded that it drops."""

    def __init__(self, decides: Sampler) -> None:
        self._decides = decides

    def should_sample(  # noqa: PLR0917 - the SDK's signature
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Return the other sampler's decision, with RECORD_ONLY in place of DROP."""
        found = self._decides.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        if found.decision is not Decision.DROP:
            return found
        return SamplingResult(Decision.RECORD_ONLY, attributes or found.attributes, found.trace_state)

    def get_description(self) -> str:
        """Return the description of the sampler that decides what is exported."""
        return f"RecordingSampler{{{self._decides.get_description()}}}"


class UnsampledRows(SpanProcessor):
    """Hands spans that are not sampled to the batches of request_log exporters, which pass them over by themselves."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self._batches = batches

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span that is recorded and not sampled."""
        if span.context is not None and not span.context.trace_flags.sampled:
            for batch in self._batches:
                _hand_over(batch, span)


def _hand_over(batch: Any, span: ReadableSpan) -> None:
    if isinstance(batch, BatchSpanProcessor):
        batch._batch_processor.emit(span)  # noqa: SLF001 - its public `on_end` takes sampled spans only
    else:
        batch.span_exporter.export((span,))


def record_unsampled(provider: TracerProvider, exporter: type[Any]) -> bool:
    """Have a provider record every span for its exporters of that class; return whether it has one.

    Tracers that were made before take part, as far as the SDK remembers them.
    """
    batches = list(_batches(provider, exporter))
    if not batches or isinstance(provider.sampler, RecordingSampler):
        return bool(batches)
    provider.sampler = RecordingSampler(provider.sampler)
    for tracer in getattr(provider, "_tracers", {}).values():  # private
        tracer.sampler = provider.sampler
    add_span_processor(provider, UnsampledRows(batches))
    return True


def _batches(provider: TracerProvider, exporter: type[Any]) -> Iterator[Any]:
    for processor in provider._active_span_processor._span_processors:  # noqa: SLF001 - there is no public way to them
        if isinstance(processor, _BATCHES) and isinstance(_innermost(processor.span_exporter), exporter):
            yield processor


def _innermost(exporter: Any) -> Any:
    """Return the exporter that our own wrappers are around."""
    while (inner := getattr(exporter, "inner", None)) is not None:
        exporter = inner
    return exporter
