"""A worker forked by `multiprocessing` makes model calls, without configure(); prints the spans that were exported.

python -m tests.instrument.fork_without_configure
"""

import multiprocessing
import os
from collections.abc import Sequence

import httpx
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from otel_telemetry.instrument.llm_http import LlmHttpInstrumentor

ANSWER = {"id": "c", "model": "gpt-4o", "usage": {"prompt_tokens": 3, "completion_tokens": 5}}


class Printing(SpanExporter):
    """Writes a line for each span."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write the names."""
        for span in spans:
            os.write(1, f"{span.name}\n".encode())
        return SpanExportResult.SUCCESS


def work() -> None:
    """Make three calls."""
    client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=ANSWER)))
    for _ in range(3):
        client.post("https://api.openai.com/v1/chat/completions", json={"model": "gpt-4o"})


if __name__ == "__main__":
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Printing()))
    LlmHttpInstrumentor().instrument(tracer_provider=provider)
    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    worker.join()
