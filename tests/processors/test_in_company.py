"""Redaction holds beside wrappers, copies and providers of others: what nobody has cleaned is cleaned or withheld."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry._logs import LoggerProvider as ApiLoggerProvider
from opentelemetry._logs import LogRecord, NoOpLoggerProvider
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.metrics import MeterProvider as ApiMeterProvider
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, ReadableSpan, SpanProcessor, TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_telemetry.base import metrics
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.log import RedactionLogProcessor
from otel_telemetry.processors.metric import MetricRedaction
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.sdk import fail_closed, self_test
from otel_telemetry.processors.span import RedactionSpanProcessor

PLANTED = "erika.muster@example.org"


@pytest.fixture(name="redactor", scope="module")
def redactor_fixture() -> Redactor:
    return Redactor(RedactionSettings())


@pytest.fixture(name="guarded")
def guarded_fixture(redactor: Redactor) -> Iterator[None]:
    fail_closed.guard(RedactionSpanProcessor(redactor), RedactionLogProcessor(redactor), MetricRedaction(redactor))
    yield
    fail_closed.release()


class Wrapper(SpanProcessor):
    """Forwards the public hooks."""

    def __init__(self, *inner: Any) -> None:
        self.inner = inner

    def on_start(self, span, parent_context=None):
        for each in self.inner:
            each.on_start(span, parent_context)

    def on_end(self, span):
        for each in self.inner:
            each.on_end(span)

    def force_flush(self, timeout_millis=30_000):
        return all(each.force_flush(timeout_millis) for each in self.inner)


class EndsOnly(Wrapper):
    """Keeps the start to itself, as samplers of whole traces do."""

    def on_start(self, span, parent_context=None):
        pass


class Copying(Wrapper):
    """Hands on a copy made of what can be read, with a word of its own."""

    def on_end(self, span):
        attributes = {**span.attributes, "copied": PLANTED}
        super().on_end(ReadableSpan(span.name, span.context, None, span.resource, attributes, span.events, span.links))


class InAThread(Wrapper):
    """Hands on in another thread."""

    def on_end(self, span):
        thread = threading.Thread(target=super().on_end, args=(span,))
        thread.start()
        thread.join()


class Pending(SpanProcessor):
    """Exports a copy of each span when it starts."""

    def __init__(self, inner: SpanProcessor) -> None:
        self.inner = inner

    def on_start(self, span: Any, parent_context=None):
        self.inner.on_end(ReadableSpan(span.name, span.context, attributes=dict(span.attributes), events=span.events))


class Holding(SpanProcessor):
    """Keeps the live span of the start, and exports that one at the end."""

    def __init__(self, exporter: Any) -> None:
        self.exporter, self.span = exporter, None

    def on_start(self, span: Any, parent_context=None):
        self.span = span

    def on_end(self, span):
        self.exporter.export([self.span])


def send(provider: Any) -> None:
    span = provider.get_tracer("t").start_span(f"mail {PLANTED}", attributes={"note": PLANTED, "n": 1})
    span.add_event(f"to {PLANTED}", {"inner": PLANTED})
    span.set_attribute("later", [PLANTED])
    span.end()
    provider.force_flush()


def check(exporter: InMemorySpanExporter, spans: int = 1) -> None:
    seen = exporter.get_finished_spans()
    assert len(seen) == spans
    assert all(PLANTED not in span.to_json() for span in seen)
    assert all("REDACTED" in span.to_json() for span in seen)


WRAPPERS = [Wrapper, InAThread]


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("stock", [SimpleSpanProcessor, BatchSpanProcessor])
@pytest.mark.parametrize("first", [True, False], ids=["redaction first", "exporter first"])
def test_inside_a_wrapper_of_public_hooks_in_any_order(redactor, wrapper, stock, first) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    inner = [RedactionSpanProcessor(redactor), stock(exporter)]
    provider.add_span_processor(wrapper(*(inner if first else reversed(inner))))
    send(provider)
    check(exporter)


def test_wrappers_in_wrappers_beside_another_exporter(redactor) -> None:
    outer, inside = InMemorySpanExporter(), InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(outer))
    provider.add_span_processor(
        Wrapper(Wrapper(SimpleSpanProcessor(inside), Wrapper(RedactionSpanProcessor(redactor))))
    )
    send(provider)
    check(outer)
    check(inside)


@pytest.mark.parametrize("wrapper", [EndsOnly, Copying])
def test_a_wrapper_that_starts_nothing_or_hands_on_copies(redactor, wrapper) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(wrapper(RedactionSpanProcessor(redactor), SimpleSpanProcessor(exporter)))
    send(provider)
    check(exporter)


def test_the_concurrent_composite(redactor) -> None:
    exporter, many = InMemorySpanExporter(), ConcurrentMultiSpanProcessor(2)
    provider = TracerProvider(active_span_processor=many, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.add_span_processor(Wrapper(RedactionSpanProcessor(redactor)))
    send(provider)
    check(exporter)


def test_a_held_span_is_clean_where_its_copy_is(redactor) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Wrapper(Holding(exporter), RedactionSpanProcessor(redactor)))
    send(provider)
    check(exporter)


@pytest.mark.usefixtures("guarded")
def test_any_provider_of_the_process_and_any_processor_added_later() -> None:
    for wrap in (lambda each: each, Wrapper, EndsOnly, Copying, InAThread):
        exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(wrap(SimpleSpanProcessor(exporter)))
        send(provider)
        late = InMemorySpanExporter()
        provider.add_span_processor(wrap(BatchSpanProcessor(late)))
        send(provider)
        check(exporter, 2)
        check(late)


@pytest.mark.usefixtures("guarded")
def test_what_is_exported_before_its_end_is_clean_and_the_span_can_still_be_written_to() -> None:
    pending, ended = InMemorySpanExporter(), InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Pending(SimpleSpanProcessor(pending)))
    provider.add_span_processor(SimpleSpanProcessor(ended))
    send(provider)
    check(pending)
    check(ended)
    assert "later" in (ended.get_finished_spans()[0].attributes or {})


@pytest.mark.usefixtures("guarded")
def test_what_cannot_be_redacted_is_withheld_and_counted(monkeypatch, redactor) -> None:
    dropped: list[Any] = []
    monkeypatch.setattr(metrics.dropped, "add", lambda n, a: dropped.append((n, a["signal"], a["reason"])))

    def fails(self: Any, span: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(RedactionSpanProcessor, "_clean", fails)
    monkeypatch.setattr(RedactionLogProcessor, "_clean", fails)
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Wrapper(SimpleSpanProcessor(exporter)))
    send(provider)
    logs, logger_provider = InMemoryLogRecordExporter(), LoggerProvider(shutdown_on_exit=False)
    logger_provider.add_log_record_processor(SimpleLogRecordProcessor(logs))
    logger_provider.get_logger("t").emit(LogRecord(body=PLANTED))
    assert exporter.get_finished_spans() == ()
    assert logs.get_finished_logs() == ()
    assert dropped == [(1, "traces", "redaction_failed"), (1, "logs", "redaction_failed")]


class LogWrapper(LogRecordProcessor):
    def __init__(self, *inner: Any) -> None:
        self.inner = inner

    def on_emit(self, log_record):
        for each in self.inner:
            each.on_emit(log_record)

    def shutdown(self):
        pass

    def force_flush(self, timeout_millis=30_000):
        return all(each.force_flush() for each in self.inner)


def emit(provider: LoggerProvider) -> None:
    provider.get_logger("t").emit(LogRecord(body={"to": [PLANTED]}, attributes={"note": PLANTED}, event_name=PLANTED))
    provider.force_flush()


@pytest.mark.parametrize("stock", [SimpleLogRecordProcessor, BatchLogRecordProcessor])
def test_log_records_inside_a_wrapper_where_redaction_comes_first(redactor, stock) -> None:
    exporter, provider = InMemoryLogRecordExporter(), LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(LogWrapper(RedactionLogProcessor(redactor), stock(exporter)))
    emit(provider)
    sent = encode_logs(exporter.get_finished_logs()).SerializeToString()
    assert PLANTED.encode() not in sent
    assert b"REDACTED" in sent


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("stock", [SimpleLogRecordProcessor, BatchLogRecordProcessor])
def test_log_records_of_any_provider(stock) -> None:
    exporter, provider = InMemoryLogRecordExporter(), LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(LogWrapper(stock(exporter)))
    emit(provider)
    sent = encode_logs(exporter.get_finished_logs()).SerializeToString()
    assert PLANTED.encode() not in sent
    assert b"REDACTED" in sent


def test_metrics_of_readers_that_were_there_before(redactor) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    fail_closed.guard(RedactionSpanProcessor(redactor), RedactionLogProcessor(redactor), MetricRedaction(redactor))
    try:
        provider.get_meter("t").create_counter("c", description=PLANTED).add(1, {"a": PLANTED})
        data = reader.get_metrics_data()
    finally:
        fail_closed.release()
    assert data is not None
    assert PLANTED not in data.to_json()
    assert "REDACTED" in data.to_json()


class Leading(trace.TracerProvider, ApiLoggerProvider, ApiMeterProvider):
    """No provider of the SDK, but leads to some."""

    def __init__(self) -> None:
        self.spans = TracerProvider(shutdown_on_exit=False)
        self.logs = LoggerProvider(shutdown_on_exit=False)
        self.meters = MeterProvider(shutdown_on_exit=False)

    def get_tracer(self, *args: Any, **kwargs: Any):
        return self.spans.get_tracer(*args, **kwargs)

    def get_logger(self, *args: Any, **kwargs: Any):
        return self.logs.get_logger(*args, **kwargs)

    def get_meter(self, *args: Any, **kwargs: Any):
        return self.meters.get_meter(*args, **kwargs)


class OwnSpan(trace.NonRecordingSpan):
    def is_recording(self) -> bool:
        return True


class Foreign(trace.TracerProvider, ApiLoggerProvider, ApiMeterProvider):
    """Makes spans, log records and metrics of its own."""

    def get_tracer(self, *args: Any, **kwargs: Any):
        tracer = trace.NoOpTracer()
        tracer.start_span = lambda *a, **k: OwnSpan(trace.INVALID_SPAN_CONTEXT)  # type: ignore[method-assign]
        return tracer

    def get_logger(self, *args: Any, **kwargs: Any):
        return NoOpLoggerProvider().get_logger("own")

    def get_meter(self, *args: Any, **kwargs: Any):
        return NoOpMeterProvider().get_meter("own")


NOTHING = (trace.NoOpTracerProvider(), NoOpLoggerProvider(), NoOpMeterProvider())


@pytest.mark.usefixtures("guarded")
def test_the_providers_that_are_registered_are_proved_and_their_exporters_see_nothing_of_it(redactor) -> None:
    leading, exporter, logs = Leading(), InMemorySpanExporter(), InMemoryLogRecordExporter()
    leading.spans.add_span_processor(Wrapper(SimpleSpanProcessor(exporter)))
    leading.logs.add_log_record_processor(SimpleLogRecordProcessor(logs))
    self_test.prove(leading, leading, leading, redactor)
    self_test.prove(leading.spans, leading.logs, leading.meters, redactor)
    self_test.prove(TracerProvider(sampling.ALWAYS_OFF, shutdown_on_exit=False), *NOTHING[1:], redactor)
    self_test.prove(NOTHING[0], NOTHING[1], NOTHING[2], redactor)
    assert exporter.get_finished_spans() == ()
    assert logs.get_finished_logs() == ()


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_provider_that_cannot_be_reached_is_refused_by_name(redactor, index) -> None:
    providers: list[Any] = list(NOTHING)
    providers[index] = Foreign()
    with pytest.raises(ConfigurationError, match=r"Foreign exports .* they would leave unredacted\n  next: "):
        self_test.prove(providers[0], providers[1], providers[2], redactor)


def test_without_the_guards_the_proof_of_a_leading_provider_fails(redactor) -> None:
    fail_closed.release()
    with pytest.raises(ConfigurationError, match="cannot reach"):
        self_test.prove(Leading(), *NOTHING[1:], redactor)


def test_released_guards_leave_other_providers_alone() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    send(provider)
    assert PLANTED in exporter.get_finished_spans()[0].to_json()
