"""What the apps behind the fixtures share: an OpenTelemetry SDK that sends to a receiver, and what they ask of models.

Runs inside the throw-away environments that make_fixtures.py sets up, with one package under observation in each.
"""

import os

from opentelemetry import _logs, trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

BASE_URL = os.environ["MODEL_SERVER"] + "/v1"
MODEL = "gpt-4o-mini"
REASONING_MODEL = "o4-mini"
EMBEDDING_MODEL = "text-embedding-3-small"
#: Long enough for the model server to find its beginning cached the second time.
QUESTION = "How would a careful engineer find out why a service that was fast last week is slow this week? " * 3
FRESH_QUESTION = "What is the weather today in Lisbon?"
FAULT = "[[fault:429]] Is anybody there?"
MESSAGES = [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": QUESTION}]
FRESH_MESSAGES = [{"role": "user", "content": FRESH_QUESTION}]
FAULT_MESSAGES = [{"role": "user", "content": FAULT}]
TOOL = {
    "type": "function",
    "function": {
        "name": "web_search",
        "description": "Look something up.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    },
}
FOUND = "Sunny, 21 degrees."


def start() -> trace.Tracer:
    """Set up the SDK as an app would, and return the tracer for the app's own spans."""
    resource = Resource({"service.name": "app"})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    logs = LoggerProvider(resource=resource)
    logs.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter()))
    _logs.set_logger_provider(logs)
    return trace.get_tracer("app")


def server_span(tracer: trace.Tracer):
    """Return the span of the request in which everything happens, as a web framework makes it."""
    return tracer.start_as_current_span("POST /ask", kind=trace.SpanKind.SERVER)
