"""Snowflake's Cortex: POST …/api/v2/cortex/inference:complete, which answers as OpenAI's chat completions do.

Its streams have counts in each event, or at the end, and neither a finish reason for every model nor `[DONE]`: that one
was cut off does not show.
"""

from otel_telemetry.instrument.llm_http.dialects import openai
from otel_telemetry.instrument.llm_http.dialects.base import CallState, Json


class Complete(openai.Chat):
    """POST …/inference:complete."""

    def boring(self, line: bytes) -> bool:
        """Return False: any event may have the counts so far."""
        del line
        return False

    def event(self, seen: CallState, value: Json) -> None:
        """Learn from one event."""
        super().event(seen, value)
        seen.ended = seen.ended or seen.output_tokens is not None
