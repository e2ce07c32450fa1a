"""Model calls over httpx and httpx2 as GenAI spans and metrics: any SDK, JSON and streams, sync and async."""

from otel_telemetry.instrument.llm_http.instrumentor import LlmHttpInstrumentor

__all__ = ["LlmHttpInstrumentor"]
