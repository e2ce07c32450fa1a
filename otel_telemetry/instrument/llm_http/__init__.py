"""Model calls over httpx, httpx2, urllib3 and aiohttp as GenAI spans and metrics: JSON and streams, of any SDK."""

from otel_telemetry.instrument.llm_http.instrumentor import LlmHttpInstrumentor

__all__ = ["LlmHttpInstrumentor"]
