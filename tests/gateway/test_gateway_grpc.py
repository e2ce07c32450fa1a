import asyncio
import time
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import MalformedTelemetry, StoreUnavailable
from otel_telemetry.gateway.spool.writer import Spool
from otel_telemetry.processors.otlp.redactor import OtlpRedactor

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LIMIT = 64 << 20


async def export(
    running: Any,
    body: bytes,
    *,
    metadata: Any = None,
    method: str = TRACES,
    compression: Any = None,
    patience: Any = 10,
) -> Any:
    """Send raw bytes; return (answer, None) or (None, the RpcError)."""
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(running.grpc, options=options) as channel:
        call = channel.unary_unary(method, bytes, bytes)
        try:
            return await call(body, metadata=metadata, compression=compression, timeout=patience), None
        except grpc.aio.AioRpcError as error:
            return None, error


def details(error: Any) -> Any:
    trailers = dict(error.trailing_metadata())
    status = Status.FromString(trailers["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    return status, trailers


def emit_with_stock_exporters(endpoint: str, compression: Any) -> Any:
    options = {"endpoint": endpoint, "insecure": True, "compression": compression}
    tracers, loggers = TracerProvider(), LoggerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(**options)))
    loggers.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(**options)))
    meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(**options), 60_000)])
    with tracers.get_tracer("app").start_as_current_span("call", attributes={"to": "bob@example.com"}):
        loggers.get_logger("app").emit(body="mail bob@example.com", severity_text="INFO")
    meters.get_meter("app").create_counter("mails").add(1, {"to": "bob@example.com"})
    for provider in (tracers, loggers, meters):
        provider.shutdown()


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_the_stock_grpc_exporters_are_served_and_what_they_sent_is_stored_redacted(
    running: Any, compression: Any
) -> None:
    await asyncio.to_thread(emit_with_stock_exporters, f"http://{running.grpc}", compression)
    batches = running.spooled()
    assert sorted(batch.signal for batch in batches) == ["logs", "metrics", "traces"]
    assert all(b"bob@example.com" not in batch.body for batch in batches)
    assert running.sink.wait_for(3)


async def test_full_success_is_the_empty_answer(running: Any, make_request: Any) -> None:
    assert await export(running, make_request("one")) == (b"", None)
    assert await export(running, b"") == (b"", None)
    assert [batch.body for batch in running.spooled()] == [make_request("one")]


async def test_success_is_answered_only_after_the_commit(
    running: Any, make_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[Any] = []
    append = Spool.append

    def holding(self: Spool, signal: Signal, body: bytes, items: int) -> Any:
        future = append(self, signal, body, items)
        outer = type(future)()
        held.append((future, outer))
        return outer

    monkeypatch.setattr(Spool, "append", holding)
    answering = asyncio.create_task(export(running, make_request("one")))
    while not held:  # noqa: ASYNC110 - it is set in a thread
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    assert not answering.done()
    future, outer = held[0]
    outer.set_result(future.result(5))
    assert await answering == (b"", None)


async def test_a_commit_that_fails_is_never_acknowledged(
    running: Any, make_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Spool, signal: Signal, body: bytes, items: int) -> Any:
        raise StoreUnavailable("disk I/O error in /a/path")

    monkeypatch.setattr(Spool, "append", failing)
    _, error = await export(running, make_request("one"))
    status, trailers = details(error)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "/a/path" not in error.details()
    wait = RetryInfo.FromString(trailers["google.rpc.retryinfo-bin"]).retry_delay
    assert 1 <= wait.seconds <= 3
    detail = RetryInfo()
    assert status.details[0].Unpack(detail)
    assert detail.retry_delay == wait


async def test_overload_tells_when_to_come_back_in_both_trailers(
    serving: Any, make_request: Any, make_sink: Any
) -> None:
    away = make_sink()
    away.away = True
    async with serving(sinks=[away], spool_max_bytes=1 << 20, max_body_bytes=1 << 20) as running:
        body = make_request("big", note="n" * 400_000)
        errors = [error for _, error in [await export(running, body) for _ in range(5)] if error]
        assert len(running.spooled()) == 5 - len(errors)
    assert errors
    for error in errors:
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        status, trailers = details(error)
        wait = RetryInfo.FromString(trailers["google.rpc.retryinfo-bin"]).retry_delay
        assert 1 <= wait.seconds + wait.nanos / 1e9 <= 3
        assert status.details[0].type_url.endswith("google.rpc.RetryInfo")


async def test_the_stock_exporter_waits_as_told_and_then_gets_through(serving: Any, make_sink: Any) -> None:
    away = make_sink()
    away.away = True
    async with serving(sinks=[away], spool_max_bytes=1 << 20, max_body_bytes=1 << 20) as running:
        filler = "x" * 400_000
        for _ in range(3):
            body = ExportTraceServiceRequest()
            body.resource_spans.add().scope_spans.add().spans.add(trace_id=b"1" * 16, span_id=b"1" * 8, name=filler)
            await export(running, body.SerializeToString())
        exporting = asyncio.create_task(asyncio.to_thread(big_span, running.grpc))
        await asyncio.sleep(0.5)
        away.away = False
        await exporting
        names = [batch.body for batch in running.spooled() if b"patient" in batch.body]
    assert len(names) == 1


def big_span(endpoint: str) -> Any:
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"http://{endpoint}", insecure=True)))
    tracers.get_tracer("app").start_span("patient", attributes={"x": "y" * 400_000}).end()
    tracers.shutdown()


@pytest.mark.parametrize("service", ["trace.v1.Trace", "logs.v1.Logs", "metrics.v1.Metrics"])
async def test_a_malformed_request_is_refused_for_good(running: Any, service: str) -> None:
    method = f"/opentelemetry.proto.collector.{service}Service/Export"
    _, error = await export(running, b"\x0a\xff\xff\xff", method=method)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    status, trailers = details(error)
    assert "not a valid protobuf" in status.message
    assert "google.rpc.retryinfo-bin" not in trailers


async def test_a_malformed_field_is_named_in_the_details(serving: Any, make_request: Any) -> None:
    class Strict:
        def redact(self, signal: Signal, body: bytes) -> Any:
            raise MalformedTelemetry("not a time", "resource_spans[0]")

    async with serving(engine=Strict()) as running:
        _, error = await export(running, make_request("one"))
    status, _ = details(error)
    detail = BadRequest()
    assert status.details[0].Unpack(detail)
    assert detail.field_violations[0].field == "resource_spans[0]"


async def test_one_malformed_span_is_told_as_partial_success(running: Any, make_request: Any) -> None:
    answer, _ = await export(running, make_request("good", "bad", ids=(b"12345678", b"short")))
    partial = ExportTraceServiceResponse.FromString(answer).partial_success
    assert partial.rejected_spans == 1
    assert "span_id" in partial.error_message
    assert running.spooled()[0].items == 1


async def test_a_message_above_the_limit_is_resource_exhausted_also_when_it_was_small_compressed(
    serving: Any, make_request: Any
) -> None:
    async with serving(max_body_bytes=1 << 20) as running:
        body = make_request("big", note="n" * (2 << 20))
        for compression in (None, grpc.Compression.Gzip):
            _, error = await export(running, body, compression=compression)
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "google.rpc.retryinfo-bin" not in dict(error.trailing_metadata() or ())
        assert await export(running, make_request("small")) == (b"", None)


async def test_messages_above_grpcs_own_default_limit_are_taken(running: Any, make_request: Any) -> None:
    assert await export(running, make_request("big", note="n" * (6 << 20))) == (b"", None)


async def test_an_unknown_service_is_unimplemented(running: Any) -> None:
    _, error = await export(running, b"", method="/opentelemetry.proto.collector.other.v1.OtherService/Export")
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_with_keys_only_their_holders_come_in(serving: Any, make_request: Any) -> None:
    async with serving(api_keys=("a key",)) as running:
        for metadata in (None, (("authorization", "Bearer no"),), (("x-api-key", "no"),)):
            _, error = await export(running, make_request("one"), metadata=metadata)
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        for metadata in ((("authorization", "Bearer a key"),), (("x-api-key", "a key"),)):
            assert await export(running, make_request("one"), metadata=metadata) == (b"", None)
        assert len(running.spooled()) == 2


async def test_where_redaction_fails_the_answer_is_internal_and_nothing_is_stored(
    serving: Any, make_request: Any
) -> None:
    class Broken:
        def redact(self, signal: Signal, body: bytes) -> Any:
            raise RuntimeError("bob@example.com")

    async with serving(engine=Broken()) as running:
        _, error = await export(running, make_request("one"))
        assert running.spooled() == []
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "bob" not in error.details()


async def test_good_requests_beside_bad_ones_go_on(running: Any, make_request: Any) -> None:
    answers = await asyncio.gather(
        *[export(running, make_request(f"{n}") if n % 2 else b"\x0a\xff\xff") for n in range(40)]
    )
    assert [error is None for _, error in answers] == [False, True] * 20
    assert len(running.spooled()) == 20


async def test_a_client_that_gives_up_leaves_no_bytes_reserved(
    serving: Any, redactor: OtlpRedactor, make_request: Any
) -> None:
    class Slow:
        def redact(self, signal: Signal, body: bytes) -> Any:
            time.sleep(0.3)
            return redactor.redact(signal, body)

    limits = {"max_pending_bytes": 2 << 20, "max_body_bytes": 1 << 20}
    async with serving(engine=Slow(), **limits) as running:
        body = make_request("big", note="n" * 300_000)
        gone = await asyncio.gather(*[export(running, body, patience=0.1) for _ in range(3)])
        assert {error.code() for _, error in gone} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        await asyncio.sleep(0.7)
        assert await export(running, make_request("huge", note="n" * 900_000)) == (b"", None)


async def test_many_connections_at_once_are_all_served(running: Any, make_request: Any) -> None:
    failures: list[grpc.RpcError] = []

    def send(number: int) -> Any:
        with grpc.insecure_channel(running.grpc) as channel:
            for part in range(10):
                try:
                    channel.unary_unary(TRACES, bytes, bytes)(make_request(f"{number}-{part}"), timeout=20)
                except grpc.RpcError as error:
                    failures.append(error)

    await asyncio.gather(*[asyncio.to_thread(send, number) for number in range(8)])
    assert failures == []
    assert len(running.spooled()) == 80
