"""Telemetry from services that know nothing of otel-telemetry: stock OTLP exporters, and OTLP/JSON as from a browser.

Each carries planted values where instrumentations have been seen to put them: span and event names, exception messages,
status, links, trace state, resource and scope attributes, attribute keys, log bodies, metric attributes and exemplars.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

import httpx
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceState

from .planted import Garden
from .processes import DemoError

#: The service whose span is a request with one model call in it.
SEARCH: Final = "search-service"
SEARCH_ROUTE: Final = "semantic_search"


@dataclass(slots=True, frozen=True)
class ForeignCall:
    """What the search service says about its model call."""

    model: str = "gpt-4o"
    prompt_tokens: int = 1200
    cached_tokens: int = 1024
    completion_tokens: int = 80


CALL: Final = ForeignCall()


def send(grpc_url: str, http_url: str, garden: Garden) -> None:
    """Send one of each; returns once the gateway has acknowledged them all, else raises DemoError."""
    with _refused_is_an_error():
        _spans(grpc_url, garden)
        _logs(http_url, garden)
        _metrics(http_url, garden)
    _json(http_url, garden)


def _spans(url: str, garden: Garden) -> None:
    """Send a request with a model call in it, over gRPC."""
    resource = Resource({"service.name": SEARCH, "host.owner": garden.email()})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_Strict(endpoint=url, insecure=True)))
    tracer = provider.get_tracer("search", "1.0", attributes={"built.by": garden.email()})
    state = TraceState([("vendor", garden.aws_key())])
    elsewhere = SpanContext(int(token_hex(16), 16), int(token_hex(8), 16), is_remote=True, trace_state=state)
    links = [Link(elsewhere, {"enqueued.by": garden.email()})]
    with tracer.start_as_current_span(f"GET /people/{garden.email()}", kind=SpanKind.SERVER, links=links) as span:
        span.set_attributes(
            {"request_log.route": SEARCH_ROUTE, "client.address": garden.ipv4(), "user.id": garden.user()}
        )
        span.set_attribute("http.request.header.authorization", [f"Bearer {garden.secret()}"])
        span.set_attribute(f"seen.{garden.email()}", value=True)
        span.add_event(f"mail to {garden.email()}", {"card": garden.card(), "body": f'{{"iban": "{garden.iban()}"}}'})
        with tracer.start_as_current_span(f"chat {CALL.model}", kind=SpanKind.CLIENT) as call:
            call.set_attributes(_model_call(garden))
        try:
            raise LookupError(f"no row for {garden.phone()} ({garden.ssn()})")  # noqa: TRY301 - as an app would
        except LookupError as error:
            span.record_exception(error)
        span.set_status(Status(StatusCode.OK))
        with tracer.start_as_current_span("cache") as failed:
            failed.set_status(Status(StatusCode.ERROR, f"redis://app:{garden.secret()}@cache:6379 is away"))
    provider.shutdown()


def _model_call(garden: Garden) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": CALL.model,
        "gen_ai.response.model": CALL.model,
        "gen_ai.usage.input_tokens": CALL.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": CALL.cached_tokens,
        "gen_ai.usage.output_tokens": CALL.completion_tokens,
        "gen_ai.input.messages": f'[{{"role": "user", "parts": [{{"type": "text", "content": "{garden.email()}"}}]}}]',
    }


def _logs(url: str, garden: Garden) -> None:
    """Send a log record with a nested body, over HTTP/protobuf with gzip."""
    provider = LoggerProvider(Resource({"service.name": "billing-service"}), shutdown_on_exit=False)
    provider.add_log_record_processor(
        SimpleLogRecordProcessor(OTLPLogExporter(f"{url}/v1/logs", compression=Compression.Gzip))
    )
    body: dict[str, Any] = {
        "customer": {"mail": garden.email(), "cards": [garden.card(), garden.card()]},
        "note": f"call {garden.phone()}",
    }
    attributes: dict[str, Any] = {"peer": garden.ipv6(), "password": garden.secret(), "raw": garden.email().encode()}
    record = LogRecord(
        timestamp=time.time_ns(),
        severity_number=SeverityNumber.WARN,
        body=body,
        attributes=attributes,
        event_name=f"refund.{garden.email()}",
    )
    provider.get_logger("billing").emit(record)
    provider.shutdown()


def _metrics(url: str, garden: Garden) -> None:
    """Send a counter whose attributes, and whose exemplar, say too much, over HTTP/protobuf."""
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{url}/v1/metrics"))
    provider = MeterProvider(
        [reader],
        Resource({"service.name": "mail-service"}),
        exemplar_filter=AlwaysOnExemplarFilter(),
        views=[View(instrument_name="mails.opened", attribute_keys={"campaign"})],
        shutdown_on_exit=False,
    )
    meter = provider.get_meter("mail")
    meter.create_counter("mails.sent", description=f"Ask {garden.email()}").add(1, {"to": garden.email()})
    meter.create_counter("mails.opened").add(1, {"campaign": "may", "reader": garden.email()})
    provider.shutdown()


def _json(url: str, garden: Garden) -> None:
    """Post a span as OTLP/JSON, the way a browser does."""
    now = time.time_ns()
    span = {
        "traceId": token_hex(16),
        "spanId": token_hex(8),
        "traceState": f"user={garden.email()},key={garden.aws_key()}",
        "name": f"click on {garden.email()}",
        "kind": 3,
        "startTimeUnixNano": str(now - 10_000_000),
        "endTimeUnixNano": str(now),
        "attributes": [
            _text("url.full", f"https://shop.test/a?email={garden.email()}&token={garden.jwt()}"),
            {"key": "form", "value": {"kvlistValue": {"values": [_text("password", garden.secret())]}}},
            {"key": "seen", "value": {"arrayValue": {"values": [{"stringValue": garden.iban()}]}}},
        ],
        "events": [{"timeUnixNano": str(now), "name": "typed", "attributes": [_text("text", garden.card())]}],
        "links": [{"traceId": token_hex(16), "spanId": token_hex(8), "attributes": [_text("by", garden.email())]}],
        "status": {"code": 2, "message": f"{garden.github_token()} was refused"},
    }
    scope = {"name": "web", "attributes": [_text("author", garden.email())]}
    resource = {"attributes": [_text("service.name", "web-page"), _text("enduser.id", garden.user())]}
    body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": [span]}]}]}
    answer = httpx.post(f"{url}/v1/traces", json=body, timeout=10)
    if not answer.is_success:
        raise DemoError(f"the gateway answered {answer.status_code} to OTLP/JSON: {answer.text}")


def _text(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


class _Strict(GrpcSpanExporter):
    """The stock exporter; a batch that is not acknowledged is an error, not a log line."""

    def export(self, spans: Any) -> SpanExportResult:
        result = super().export(spans)
        if result is not SpanExportResult.SUCCESS:
            logging.getLogger("opentelemetry.exporter").error("spans were not acknowledged")
        return result


@contextmanager
def _refused_is_an_error() -> Iterator[None]:
    """Turn what the stock exporters only log into a DemoError."""
    problems: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            problems.append(record.getMessage())

    logger = logging.getLogger("opentelemetry")
    handler = Collect(logging.WARNING)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    if problems:
        raise DemoError("a stock OTLP exporter could not deliver: " + "; ".join(problems))
