"""An app in Python: one trace with a link to another, two log records, three metrics; personal data in all of them.

Usage: sender.py SCENARIO.json (see scenario.py). Prints the ids of its spans as JSON. Speaks OTLP/gRPC.
"""

import json
import logging
import sys
from pathlib import Path

from opentelemetry import trace
from opentelemetry._logs import Logger, LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import Meter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AnyValue

Planted = dict[str, str]


def send_spans(tracer: Tracer, p: Planted) -> tuple[Context, dict[str, str]]:
    """Make the spans; return the request's context, and their ids by what they are."""
    with tracer.start_as_current_span("import orders") as earlier:
        pass
    same_buyer = Link(earlier.get_span_context(), {"reason": f"same buyer {p['email']}", "order": 1})
    with tracer.start_as_current_span(
        f"POST /chat for {p['email']}", kind=SpanKind.SERVER, links=[same_buyer], attributes=request_attributes(p)
    ) as request:
        request.add_event(f"mail sent to {p['email']}", {"account": p["iban"], "amount": 12.5})
        with tracer.start_as_current_span(
            "chat gpt-4o-mini", kind=SpanKind.CLIENT, attributes=model_attributes(p)
        ) as call:
            pass
        with (
            tracer.start_as_current_span("charge") as charge,
            tracer.start_as_current_span("POST payments", kind=SpanKind.CLIENT) as payment,
        ):
            payment.record_exception(ValueError(f"card {p['card']} of {p['email']} was declined"))
            payment.set_status(Status(StatusCode.ERROR, f"declined: {p['card']}, key {p['openai_key']}"))
    spans = {"earlier": earlier, "request": request, "call": call, "charge": charge, "payment": payment}
    ids = {name: f"{span.get_span_context().span_id:016x}" for name, span in spans.items()}
    traces = {"trace": request, "earlier_trace": earlier}
    ids |= {name: f"{span.get_span_context().trace_id:032x}" for name, span in traces.items()}
    return trace.set_span_in_context(request), ids


def request_attributes(p: Planted) -> dict[str, AnyValue]:
    """Return what an app would say of a request."""
    return {
        "request_log.route": "direct",
        "request_log.stage_ms.final": 12,
        "client.address": p["ipv4"],
        "url.query": f"card={p['card']}&q=tent",
        "url.full": f"https://shop:{p['secret']}@payments.example.net/charge",
        "http.request.header.authorization": [f"Bearer {p['jwt']}"],
        "enduser.id": p["user"],
        "session.id": p["session"],
        "order.lines": ["1 tent", f"ship to {p['email']}"],
        "order.paid": True,
        "order.total": 249.5,
        f"seen by {p['email']}": True,
    }


def model_attributes(p: Planted) -> dict[str, AnyValue]:
    """Return what the GenAI conventions say of a model call."""
    text = f"My number is {p['phone']}, my SSN {p['ssn']}."
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.usage.input_tokens": 120,
        "gen_ai.usage.output_tokens": 30,
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": text}]}]),
    }


def send_logs(logger: Logger, p: Planted, request: Context) -> None:
    """Emit a line and a structured record, both of the request's span."""
    lines: list[AnyValue] = [{"item": "tent"}, {"token": p["github_token"], "note": f"deploy with {p['aws_key']}"}]
    bodies: list[tuple[SeverityNumber, AnyValue]] = [
        (SeverityNumber.INFO, f"paid with {p['card']}, call {p['phone']}"),
        (SeverityNumber.ERROR, {"order": {"mail": p["email"], "lines": lines}}),
    ]
    for severity, body in bodies:
        logger.emit(
            LogRecord(
                context=request,
                severity_number=severity,
                severity_text=severity.name,
                body=body,
                event_name=f"order of {p['email']}",
                attributes={"customer": p["email"], "peer": p["ipv6"], "shop.step": "pay"},
            )
        )


def send_metrics(meter: Meter, p: Planted, request: Context) -> None:
    """Count and measure; `payer` is left to the exemplars, whose trace is the request's."""
    orders = meter.create_counter("shop.orders", "{order}", "Orders")
    orders.add(3, {"payment": "card", "buyer": p["email"]}, context=request)
    orders.add(4, {"payment": "cash"})
    latency = meter.create_histogram("shop.latency", "s", "Time to pay")
    for seconds in (0.2, 0.4, 3.0):
        latency.record(seconds, {"peer": p["ipv4"], "payer": p["email"]}, context=request)
    meter.create_gauge("shop.temperature", "Cel", "In the shop").set(21.5, {"place": "till"})


def main() -> None:
    """Send everything once."""
    logging.basicConfig(level=logging.WARNING)
    scenario = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    p, service = scenario["planted"], scenario["service"]
    resource = Resource.create(
        {"service.name": service, "deployment.environment.name": "e2e", "owner": f"on call: {p['email']}"}
    )
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    loggers = LoggerProvider(resource=resource)
    loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    without_payer = View(instrument_name="shop.latency", attribute_keys={"peer"})
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    meters = MeterProvider([reader], resource=resource, views=[without_payer])
    request, ids = send_spans(tracers.get_tracer("shop", "1.2.3", attributes={"maintainer": p["email"]}), p)
    send_logs(loggers.get_logger("shop", "1.2.3"), p, request)
    send_metrics(meters.get_meter("shop", "1.2.3"), p, request)
    for provider in (tracers, loggers, meters):
        provider.shutdown()
    print(json.dumps(ids))  # noqa: T201 - what it says is what the test reads


if __name__ == "__main__":
    main()
