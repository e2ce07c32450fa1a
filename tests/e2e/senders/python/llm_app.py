"""An app with our own instrumentation: model calls that succeed and fail, streamed; lookups; a request with a bill.

Usage: llm_app.py MODEL_SERVER_URL
"""

import sys

import httpx

import otel_telemetry

otel_telemetry.configure(service_name="llm-app", exporter="otlp")
cache = otel_telemetry.cache.ResponseCache()
ASKED = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Which tent?"}],
    "stream": True,
    "stream_options": {"include_usage": True},
}


@cache.cached(tool="search", ttl=60)
def search(query: str) -> list[str]:
    """Find something."""
    return [f"a {query}"]


def main() -> None:
    """Do each thing once."""
    with httpx.Client(base_url=sys.argv[1], timeout=30) as client:
        for headers in ({}, {"x-model-fault": "500"}):
            with client.stream("POST", "/v1/chat/completions", json=ASKED, headers=headers) as answer:
                for _ in answer.iter_lines():
                    pass
    search("tent")
    search("tent")
    with otel_telemetry.request(route="bought") as answered:  # from somewhere that sends a bill
        answered.set(cost_usd=0.01, ttfb_ms=120)


if __name__ == "__main__":
    main()
