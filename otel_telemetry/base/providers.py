"""Functions for OpenTelemetry providers, whichever code created them."""

from typing import Any

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider


def add_span_processor(provider: Any, processor: SpanProcessor) -> None:
    """Add a processor to those that a provider has: Phoenix's own method would take its exporter away for it."""
    if isinstance(provider, TracerProvider):
        TracerProvider.add_span_processor(provider, processor)
    else:
        provider.add_span_processor(processor)


__all__ = ["add_span_processor"]
