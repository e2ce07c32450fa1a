import asyncio
import gzip
import itertools
import json
import socket
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from otel_telemetry.base.destinations import Signal
from otel_telemetry.gateway.receive import bodies
from otel_telemetry.processors.otlp.redactor import OtlpRedactor

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}
GZIP = {"content-encoding": "gzip"}
EXAMPLES = Path(__file__).parents[1] / "otlp_examples"


@pytest.fixture
async def client(running: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.http) as made:
        yield made


def span_json(**fields: Any) -> dict[str, Any]:
    good = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "mail bob@example.com"}
    return good | fields


def trace_json(*spans: Any) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}).encode()


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
async def test_the_stock_http_exporter_is_served_and_what_it_sent_is_stored_redacted(
    running: Any, compression: Any
) -> None:
    provider = TracerProvider()
    exporter = OTLPSpanExporter(endpoint=f"{running.http}/v1/traces", compression=compression)
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def emit() -> None:
        with provider.get_tracer("app").start_as_current_span("call", attributes={"to": "bob@example.com"}):
            pass
        provider.shutdown()

    await asyncio.to_thread(emit)
    (batch,) = running.spooled()
    assert b"call" in batch.body
    assert b"bob@example.com" not in batch.body
    assert running.sink.wait_for(1)
    assert running.sink.bodies == [batch.body]


@pytest.mark.parametrize(
    ("name", "path"), [("trace", "traces"), ("logs", "logs"), ("events", "logs"), ("metrics", "metrics")]
)
async def test_the_examples_of_each_signal_are_stored(
    running: Any, client: httpx.AsyncClient, name: str, path: str
) -> None:
    example = EXAMPLES / f"{name}.json"
    answer = await client.post(f"/v1/{path}", content=example.read_bytes(), headers=JSON)
    assert (answer.status_code, answer.json()) == (200, {})
    assert [batch.signal for batch in running.spooled()] == [path]


async def test_success_in_protobuf_is_the_empty_response(
    running: Any, client: httpx.AsyncClient, make_request: Any
) -> None:
    answer = await client.post("/v1/traces", content=make_request("one"), headers=PROTOBUF)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert running.spooled()[0].body == make_request("one")


async def test_an_empty_request_succeeds_and_stores_nothing(running: Any, client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/logs", content=b"", headers=PROTOBUF)).status_code == 200
    assert (await client.post("/v1/logs", content=b"{}", headers=JSON)).status_code == 200
    assert running.spooled() == []


async def test_a_malformed_span_is_told_as_partial_success_and_the_good_ones_are_stored(
    running: Any, client: httpx.AsyncClient
) -> None:
    body = trace_json(span_json(name="good"), span_json(startTimeUnixNano="x"), span_json(name="also good"))
    answer = await client.post("/v1/traces", content=body, headers=JSON)
    partial = answer.json()["partialSuccess"]
    assert (answer.status_code, partial["rejectedSpans"]) == (200, "1")
    assert "resourceSpans[0].scopeSpans[0].spans[1].startTimeUnixNano" in partial["errorMessage"]
    stored = ExportTraceServiceRequest.FromString(running.spooled()[0].body)
    assert [s.name for s in stored.resource_spans[0].scope_spans[0].spans] == ["good", "also good"]


async def test_partial_success_in_protobuf_has_the_signals_own_message(
    running: Any, client: httpx.AsyncClient, make_request: Any
) -> None:
    body = make_request("good", "bad", ids=(b"12345678", b"short"))
    answer = await client.post("/v1/traces", content=body, headers=PROTOBUF)
    partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert (answer.status_code, partial.rejected_spans) == (200, 1)
    assert "span_id" in partial.error_message
    assert running.spooled()[0].items == 1


@pytest.mark.parametrize(
    ("content", "headers", "status", "message"),
    [
        (b"\x0a\xff\xff", PROTOBUF, 400, "not a valid protobuf"),
        (b"{", JSON, 400, "not JSON"),
        (b"[" * 100_000, JSON, 400, "nested too deeply"),
        (trace_json(span_json(traceId="zz")), JSON, 400, "spans[0].traceId"),
        (gzip.compress(b"{}" * 1000, mtime=0)[:-9], JSON | GZIP, 400, "cut off"),
        (b"{}", JSON | GZIP, 400, "not gzip"),
        (gzip.compress(b"{}", mtime=0) + b"{}", JSON | GZIP, 400, "not gzip"),
        (gzip.compress(b"{}", mtime=0) + b"\0\0{}", JSON | GZIP, 400, "not gzip"),
        (gzip.compress(b"{}", mtime=0) + gzip.compress(b"", mtime=0)[:-3], JSON | GZIP, 400, "cut off"),
        (gzip.compress(b"", mtime=0) * 10_001, JSON | GZIP, 400, "gzip members"),
        (b"{}", JSON | {"content-encoding": "zstd"}, 415, "content encoding must be gzip"),
    ],
)
async def test_bad_input_is_refused_for_good_with_a_status_in_the_requests_encoding(
    *, running: Any, client: httpx.AsyncClient, content: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    answer = await client.post("/v1/traces", content=content, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, headers["content-type"])
    if headers["content-type"] == "application/json":
        code, text = answer.json()["code"], answer.json()["message"]
    else:
        code, text = Status.FromString(answer.content).code, Status.FromString(answer.content).message
    assert code == 3
    assert message in text
    assert "retry-after" not in answer.headers
    assert running.spooled() == []


async def test_the_field_at_fault_is_in_the_details(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/traces", content=trace_json(span_json(traceId="zz")), headers=JSON)
    (detail,) = answer.json()["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert detail["fieldViolations"][0]["field"] == "resourceSpans[0].scopeSpans[0].spans[0].traceId"


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/xml", "multipart/form-data"])
async def test_another_content_type_is_refused(client: httpx.AsyncClient, content_type: str) -> None:
    answer = await client.post("/v1/traces", content=b"x", headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (415, 3)


async def test_a_content_type_with_parameters_and_capitals_is_understood(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/traces", content=b"{}", headers={"content-type": "Application/JSON; charset=utf-8"})
    assert answer.status_code == 200


async def test_no_error_repeats_any_of_the_payload(client: httpx.AsyncClient) -> None:
    secret = "alice@example.com"
    bodies = [trace_json(span_json(traceId=secret)), secret.encode(), trace_json(span_json(kind=secret))]
    for body in bodies:
        for headers in (JSON, PROTOBUF):
            answer = await client.post("/v1/traces", content=body, headers=headers)
            assert secret not in answer.text


async def test_a_body_above_the_limit_is_refused_plain_chunked_or_as_a_bomb(serving: Any) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 1024

    async with serving(max_body_bytes=20_000) as running, httpx.AsyncClient(base_url=running.http) as client:
        for content, extra in (
            (b"x" * 20_001, {}),
            (chunks(), {}),
            (gzip.compress(b"\0" * 5_000_000, mtime=0), GZIP),
            (gzip.compress(b"\0" * 20_001, mtime=0), GZIP),
        ):
            answer = await client.post("/v1/traces", content=content, headers=PROTOBUF | extra)
            assert answer.status_code == 413
            assert Status.FromString(answer.content).code == 8
        assert (await client.post("/v1/logs", content=b"", headers=PROTOBUF)).status_code == 200


async def test_a_bomb_is_not_unpacked_beyond_the_limit(serving: Any) -> None:
    bomb = gzip.compress(b"\0" * (200 << 20), compresslevel=9)
    async with serving(max_body_bytes=1 << 20) as running, httpx.AsyncClient(base_url=running.http) as client:
        tracemalloc.start()
        answer = await client.post("/v1/traces", content=bomb, headers=PROTOBUF | GZIP)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert answer.status_code == 413
    assert peak < 16 << 20


async def test_json_has_a_limit_of_its_own(serving: Any) -> None:
    async with serving(max_json_bytes=2000) as running, httpx.AsyncClient(base_url=running.http) as client:
        big = trace_json(*[span_json()] * 50)
        assert (await client.post("/v1/traces", content=big, headers=JSON)).status_code == 413
        assert (await client.post("/v1/traces", content=gzip.compress(big), headers=JSON | GZIP)).status_code == 413


async def test_good_requests_beside_bad_ones_go_on(running: Any, client: httpx.AsyncClient, make_request: Any) -> None:
    async def send(number: int) -> httpx.Response:
        if number % 2:
            return await client.post("/v1/traces", content=b"\x0a\xff", headers=PROTOBUF)
        return await client.post("/v1/traces", content=make_request(f"span {number}"), headers=PROTOBUF)

    answers = await asyncio.gather(*[send(number) for number in range(40)])
    assert [answer.status_code for answer in answers] == [200, 400] * 20
    assert len(running.spooled()) == 20


async def test_a_full_spool_is_told_unredacted_with_a_time_to_wait_that_clients_accept(
    serving: Any, redactor: OtlpRedactor, make_request: Any, make_sink: Any
) -> None:
    redacted = []

    class Counting:
        def redact(self, signal: Signal, body: bytes) -> Any:
            redacted.append(body)
            return redactor.redact(signal, body)

    away = make_sink()
    away.away = True
    limits = {"spool_max_bytes": 1 << 20, "max_body_bytes": 1 << 20}
    serve = serving(engine=Counting(), sinks=[away], **limits)
    async with serve as running, httpx.AsyncClient(base_url=running.http) as client:
        redacted.clear()
        body = make_request("big", note="n" * 300_000)
        answers = [await client.post("/v1/traces", content=body, headers=PROTOBUF) for _ in range(6)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert answers[0].status_code == 200
        assert refused
        assert all(1 <= int(answer.headers["retry-after"]) <= 3 for answer in refused)
        assert all(Status.FromString(answer.content).code == 14 for answer in refused)
        assert len(running.spooled()) == len(redacted) == len(answers) - len(refused)
        health = await client.get("/health")
        assert health.json()["parts"]["exporters"]["kept"]["status"] == "waiting"
        assert (health.status_code, health.json()["parts"]["spool"]["status"]) == (503, "full")


async def test_too_much_at_once_is_told_to_come_back(serving: Any, redactor: OtlpRedactor, make_request: Any) -> None:
    release = threading.Event()

    class Slow:
        def redact(self, signal: Signal, body: bytes) -> Any:
            release.wait(10)
            return redactor.redact(signal, body)

    limits = {"max_pending_bytes": 2 << 20, "max_body_bytes": 1 << 20}
    async with serving(engine=Slow(), **limits) as running, httpx.AsyncClient(base_url=running.http) as client:
        body = make_request("big", note="n" * 400_000)
        sending = [asyncio.create_task(client.post("/v1/traces", content=body, headers=PROTOBUF)) for _ in range(4)]
        done, _ = await asyncio.wait(sending, return_when="FIRST_COMPLETED", timeout=10)
        assert {task.result().status_code for task in done} == {429}
        release.set()
        codes = sorted(answer.status_code for answer in await asyncio.gather(*sending))
        assert codes == [200, 200, 429, 429]
        assert (await client.post("/v1/traces", content=body, headers=PROTOBUF)).status_code == 200


async def test_one_request_that_redaction_chokes_on_does_not_make_the_gateway_unhealthy(
    serving: Any, make_request: Any, redactor: OtlpRedactor
) -> None:
    class ChokesOnPoison:
        def redact(self, signal: Signal, body: bytes) -> Any:
            if b"poison" in body:
                raise ValueError
            return redactor.redact(signal, body)

    async with serving(engine=ChokesOnPoison()) as running, httpx.AsyncClient(base_url=running.http) as client:
        answer = await client.post("/v1/traces", content=make_request("poison"), headers=PROTOBUF)
        assert answer.status_code == 500
        assert (await client.get("/health")).status_code == 200


async def test_where_redaction_fails_nothing_is_stored_and_the_sender_is_told_not_to_retry(
    serving: Any, make_request: Any, redactor: OtlpRedactor, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        broken = True

        def redact(self, signal: Signal, body: bytes) -> Any:
            if self.broken:
                raise ValueError("bob@example.com broke it")
            return redactor.redact(signal, body)

    engine = Broken()
    async with serving(engine=engine) as running, httpx.AsyncClient(base_url=running.http) as client:
        answer = await client.post("/v1/traces", content=make_request("one"), headers=PROTOBUF)
        assert answer.status_code == 500
        assert Status.FromString(answer.content).code == 13
        assert running.spooled() == []
        assert "bob" not in answer.text + caplog.text
        health = await client.get("/health")
        assert (health.status_code, health.json()["parts"]["redaction"]["status"]) == (503, "failing")
        engine.broken = False
        assert (await client.post("/v1/traces", content=make_request("one"), headers=PROTOBUF)).status_code == 200
        assert (await client.get("/health")).status_code == 200


async def test_other_methods_and_paths_say_what_there_is(client: httpx.AsyncClient) -> None:
    wrong = await client.get("/v1/traces")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    for answer in (wrong, await client.post("/v1/spans", content=b"")):
        assert "POST /v1/traces, /v1/logs, /v1/metrics" in answer.json()["message"]
    assert (await client.get("/nothing")).status_code == 404


async def test_who_asks_for_health_at_the_same_time_shares_one_look(
    running: Any, client: httpx.AsyncClient, monkeypatch: Any
) -> None:
    """Also where the one who asked first has left."""
    works, looks, go_on = running.gateway.receiver.works, itertools.count(), threading.Event()

    def slow() -> bool:
        next(looks)
        go_on.wait(20)
        return bool(works())

    monkeypatch.setattr(running.gateway.receiver, "works", slow)
    asked = [asyncio.create_task(client.get("/health")) for _ in range(30)]
    await asyncio.sleep(0.3)
    asked.pop(0).cancel()
    go_on.set()
    assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
    assert next(looks) == 1
    assert (await client.get("/health")).status_code == 200
    assert next(looks) == 3


async def test_health_names_every_part(running: Any, client: httpx.AsyncClient, make_request: Any) -> None:
    await client.post("/v1/traces", content=make_request("one"), headers=PROTOBUF)
    assert running.sink.wait_for(1)
    answer = await client.get("/health")
    health = answer.json()
    assert (answer.status_code, health["status"]) == (200, "ok")
    assert health["version"]
    assert health["parts"]["redaction"] == {"status": "ok"}
    assert health["parts"]["spool"]["batches"] == 1
    assert set(health["parts"]["exporters"]) == {"kept"}


async def test_metrics_are_prometheus_text_with_the_state_of_the_spool(
    running: Any, client: httpx.AsyncClient, make_request: Any
) -> None:
    await client.post("/v1/traces", content=make_request("one"), headers=PROTOBUF)
    assert running.sink.wait_for(1)
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    assert "otel_telemetry_spool_batches 1.0" in lines
    assert any(line.startswith('otel_telemetry_spool_lag_items{exporter="kept"} ') for line in lines)


async def test_with_keys_only_their_holders_come_in_and_health_tells_others_only_up_or_down(
    serving: Any, make_request: Any
) -> None:
    async with (
        serving(api_keys=("first key", "second key")) as running,
        httpx.AsyncClient(base_url=running.http) as client,
    ):
        body = make_request("one")
        for header in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": ""}, {"authorization": "Basic first key"}):
            answer = await client.post("/v1/traces", content=body, headers=PROTOBUF | header)
            assert (answer.status_code, Status.FromString(answer.content).code) == (401, 16)
        for header in ({"authorization": "bearer first key"}, {"x-api-key": "second key"}):
            assert (await client.post("/v1/traces", content=body, headers=PROTOBUF | header)).status_code == 200
            assert "parts" in (await client.get("/health", headers=header)).json()
            assert (await client.get("/metrics", headers=header)).status_code == 200
        assert (await client.get("/health")).json() == {"status": "ok"}
        assert (await client.get("/metrics")).status_code == 401
        assert len(running.spooled()) == 2


async def test_a_client_that_hangs_up_in_the_middle_of_a_body_harms_nobody(
    running: Any, client: httpx.AsyncClient, make_request: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", running.gateway.http_port)) as connection:
        connection.sendall(
            b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-length: 999\r\n"
            b"content-type: application/x-protobuf\r\n\r\nab"
        )
        await asyncio.sleep(0.05)
    answer = await client.post("/v1/traces", content=make_request("one"), headers=PROTOBUF)
    assert answer.status_code == 200
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_body_that_trickles_in_too_slowly_is_refused(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_READ_SECONDS", 0.2)

    async def trickle() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(1.5)
        yield b"b"

    async with httpx.AsyncClient(base_url=running.http) as client:
        started = time.monotonic()
        answer = await client.post("/v1/traces", content=trickle(), headers=PROTOBUF)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert time.monotonic() - started < 20
