"""What is posted to the endpoints beside OTLP becomes the same rows as over OTLP, redacted, on both databases."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Histogram, InMemoryMetricReader

from otel_telemetry.gateway.receive.rest import Clients, Rest
from otel_telemetry.instrument.cache_measures import CacheMeasures
from otel_telemetry.instrument.client_address import client_address, networks
from otel_telemetry.instrument.log_measures import LogMeasures
from tests.gateway.rest_gateway import gateway_opener, pseudonyms

SECTION_7 = {
    "user_id": "user123",
    "email": "test@example.com",
    "api_key": "sk-1234567890abcdef",
    "message": "Hello world",
}


@pytest.fixture(name="new_database", params=["sqlite", "postgres"])
def new_database_fixture(request, with_tables):
    """Makes a database without rows and returns its URL."""
    return lambda: with_tables(request.param)


@pytest.fixture(name="open_gateway")
def open_gateway_fixture(serving, new_database):
    return gateway_opener(serving, new_database())


@pytest.fixture(name="gateway")
async def gateway_fixture(open_gateway):
    async with open_gateway() as gateway:
        yield gateway


async def test_the_contract_s_example_is_logged_with_its_fields_redacted(gateway):
    answer = await gateway.client.post("/log", json={"event": "tool_execution", "payload": SECTION_7})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["status"], body["redacted_fields"]) == ("logged", ["user_id", "email", "api_key"])
    assert body["event_id"].startswith("evt_")
    (row,) = await gateway.until("workflow_event", 1)
    assert (row["id"], row["type"]) == (body["event_id"], "tool_execution")
    assert row["data"] == {
        "user_id": "[REDACTED_USER_ID]",
        "email": "[REDACTED_EMAIL]",
        "api_key": "[REDACTED_API_KEY]",
        "message": "Hello world",
    }
    assert row["user_id"] == pseudonyms.of("user123")


async def test_a_log_entry_s_metadata_service_and_time_fill_columns(gateway):
    payload = {
        "timestamp": "2026-11-20T10:11:12Z",
        "service": "shop",
        "tool": "search",
        "args": {"q": ["a", 1, None, 2.5, True]},
        "response": {"text": "secret answer", "tokens": 12, "latency_ms": 3.5},
        "metadata": {"user_id": "anna", "session_id": 17, "request_id": "r-1"},
    }
    answer = await gateway.client.post("/log", json={"event": "response_generation", "payload": payload})
    assert answer.json()["redacted_fields"] == ["user_id", "session_id"]
    (row,) = await gateway.until("workflow_event", 1)
    assert (row["application"], row["request_id"]) == ("shop", "r-1")
    assert (row["user_id"], row["session_id"]) == (pseudonyms.of("anna"), pseudonyms.of("17"))
    assert row["ts"] == datetime(2026, 11, 20, 10, 11, 12, tzinfo=UTC)
    assert row["data"]["args"] == {"q": ["a", 1, None, 2.5, True]}
    assert row["data"]["response"] == {"tokens": 12, "latency_ms": 3.5}


async def test_feedback_is_kept_with_who_and_about_what_but_without_texts(gateway):
    given = {
        "verdict": "down",
        "request_id": "r-1",
        "sid": "s-1",
        "query": "secret question",
        "answer": "secret answer",
        "note": "mail me at jane@example.com",
        "model": "gpt-4o",
        "scope": "docs",
        "sources": ["a", {"url": "b"}],
    }
    answer = await gateway.client.post("/feedback", json=given)
    assert (answer.status_code, answer.json()["ok"]) == (200, True)
    (row,) = await gateway.until("feedback", 1)
    assert row["id"] == answer.json()["id"]
    assert (row["verdict"], row["request_id"], row["model"], row["scope"]) == ("down", "r-1", "gpt-4o", "docs")
    assert (row["query"], row["answer"]) == (None, None)
    assert row["note"] == "mail me at [REDACTED_EMAIL]"
    assert row["sources"] == ["a", {"url": "b"}]
    assert (row["session_id"], row["ip_hash"]) == (pseudonyms.of("s-1"), pseudonyms.of_ip("127.0.0.1"))
    assert abs(datetime.now(UTC) - row["ts"]) < timedelta(minutes=5)


async def test_with_texts_stored_feedback_keeps_question_and_answer_redacted(open_gateway):
    async with open_gateway(store_text=True) as gateway:
        await gateway.client.post("/feedback", json={"verdict": "up", "query": "I am bob@example.com", "answer": "Hi"})
        (row,) = await gateway.until("feedback", 1)
        assert (row["query"], row["answer"]) == ("I am [REDACTED_EMAIL]", "Hi")


async def test_what_a_browser_tells_has_the_server_s_time_and_keeps_its_own(gateway):
    event = {"type": "page_view", "ts": 1_700_000_000_000, "sid": "s-1", "data": {"path": "/a"}}
    answer = await gateway.client.post("/telemetry", json=event, headers={"user-agent": "Firefox/140"})
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    beacon = {"content-type": "text/plain;charset=UTF-8"}
    await gateway.client.post("/telemetry", content=json.dumps({"type": "error", "ua": "Given"}), headers=beacon)
    rows = await gateway.until("browser_event", 2)
    first, second = rows
    assert (first["type"], first["data"]) == ("page_view", {"path": "/a", "ts": 1_700_000_000_000})
    assert (first["user_agent"], first["session_id"]) == ("Firefox/140", pseudonyms.of("s-1"))
    assert first["ip_hash"] == pseudonyms.of_ip("127.0.0.1")
    assert abs(datetime.now(UTC) - first["ts"]) < timedelta(minutes=5)
    assert (second["user_agent"], second["data"]) == ("Given", None)


async def test_a_trusted_proxy_s_word_on_the_client_s_address_is_believed_and_no_other_s(open_gateway):
    trusted = networks(["127.0.0.0/8"])
    clients = Clients(60, lambda peer, headers: client_address(peer, headers, trusted))
    for rest, expected in ((Rest(clients=clients), "203.0.113.9"), (Rest(), "127.0.0.1")):
        async with open_gateway(rest=rest) as gateway:
            forwarded = {"x-forwarded-for": "198.51.100.1, 203.0.113.9"}
            before = len(gateway.rows("browser_event"))
            await gateway.client.post("/telemetry", json={"type": "x"}, headers=forwarded)
            rows = await gateway.until("browser_event", before + 1)
            assert rows[-1]["ip_hash"] == pseudonyms.of_ip(expected)


async def test_a_client_may_tell_sixty_events_a_minute_and_hears_when_to_go_on(gateway):
    answers = [await gateway.client.post("/telemetry", json={"type": "x"}) for _ in range(62)]
    assert [answer.status_code for answer in answers] == [200] * 60 + [429] * 2
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 61
    assert len(await gateway.until("browser_event", 60)) == 60


async def test_addresses_of_one_ipv6_network_are_one_client(open_gateway):
    trusted = networks(["127.0.0.0/8"])
    rest = Rest(clients=Clients(3, lambda peer, headers: client_address(peer, headers, trusted)))
    async with open_gateway(rest=rest) as gateway:

        async def from_address(address: str) -> int:
            answer = await gateway.client.post("/telemetry", json={"type": "x"}, headers={"x-forwarded-for": address})
            return int(answer.status_code)

        assert [await from_address(f"2001:db8::{n}") for n in range(4)] == [200, 200, 200, 429]
        assert await from_address("2001:db8:0:1::1") == 200


EVENTS: list[dict[str, Any]] = [
    {"type": "run:start", "id": "r1", "name": "answer", "input": {"q": "why"}, "time": 1_790_000_000},
    {"type": "step:start", "run_id": "r1", "step_id": "s1", "time": 1_790_000_001, "data": {"type": "llm"}},
    {"type": "step:end", "run_id": "r1", "step_id": "s1", "time": 1_790_000_002_000, "data": {"output": "so"}},
    {"type": "approval", "run_id": "r1", "timestamp": "2026-09-21T16:13:23+02:00", "data": {"by": "b@example.com"}},
    {"type": "run:update", "id": "r1", "status": "finished", "output": "so", "ts": 1_790_000_004.5},
]


def comparable(gateway: Any) -> dict[str, Any]:
    """Return all rows of workflows without the ids that the gateway made."""
    names = ("workflow_run", "workflow_step", "workflow_event")
    return {
        name: sorted(
            [{k: v for k, v in row.items() if (name, k) != ("workflow_event", "id")} for row in gateway.rows(name)],
            key=str,
        )
        for name in names
    }


async def test_events_one_by_one_in_a_batch_backwards_and_over_otlp_give_the_same_rows(serving, new_database):
    found: list[Any] = []
    for way in ("batch", "single", "backwards", "otlp"):
        async with gateway_opener(serving, new_database())(store_text=True) as gateway:
            await send(gateway, way)
            await gateway.until("workflow_event", 1)
            await gateway.until("workflow_step", 1)
            await run_stored(gateway, found[:1])
            found.append(comparable(gateway))
    assert found[1:] == found[:1] * 3
    (run,), (step,), (event,) = found[0].values()
    assert (run["status"], run["input"], run["output"]) == ("finished", {"q": "why"}, "so")
    assert (run["updated_at"] - run["created_at"]).total_seconds() == 4.5
    assert (step["status"], step["output"], step["type"]) == ("finished", "so", "llm")
    assert (event["type"], event["data"]) == ("approval", {"by": "[REDACTED_EMAIL]"})


async def send(gateway: Any, way: str) -> None:
    if way == "batch":
        assert (await gateway.client.post("/v1/events", json={"events": EVENTS})).status_code == 202
    elif way == "otlp":
        answer = await gateway.client.post("/v1/logs", json=as_otlp(EVENTS))
        assert answer.status_code == 200
    else:
        for event in EVENTS if way == "single" else reversed(EVENTS):
            answer = await gateway.client.post("/event", json=event)
            assert (answer.status_code, answer.json()["accepted"]) == (202, 1)


def as_otlp(events: list[dict[str, Any]]) -> Any:
    """Return events as any SDK would send them."""
    times = (1_790_000_000, 1_790_000_001, 1_790_000_002, 1_790_000_003, 1_790_000_004.5)
    request = ExportLogsServiceRequest()
    logs = request.resource_logs.add().scope_logs.add().log_records
    for event, at in zip(events, times, strict=True):
        record = logs.add(event_name="request_log.workflow", time_unix_nano=round(at * 1e9))
        for key, value in event.items():
            if key not in {"time", "timestamp", "ts"}:
                text = value if isinstance(value, str) else json.dumps(value)
                record.attributes.add(key=f"request_log.{key}").value.string_value = text
    return json_format.MessageToDict(request)


async def run_stored(gateway: Any, wanted: list[Any]) -> None:
    """Wait until the run has its last word, and all of it is as wanted: what comes after that word is still to come."""
    for _ in range(500):
        is_over = [row["status"] for row in gateway.rows("workflow_run")] == ["finished"]
        if is_over and wanted in ([], [comparable(gateway)]):
            return
        await asyncio.sleep(0.02)


async def test_good_events_beside_bad_ones_are_kept_and_each_has_its_outcome(gateway):
    items = [
        {"type": "approval", "run_id": "r1"},
        {"type": "step:end", "step_id": "s"},
        {"type": "run:start"},
        {"no": "type"},
        "not an object",
        {"type": "x", "timestamp": "yesterday"},
        {"type": "run:update", "run_id": 7, "status": "waiting"},
    ]
    answer = await gateway.client.post("/events", json={"events": items})
    body = answer.json()
    assert (answer.status_code, body["accepted"], body["rejected"]) == (202, 2, 5)
    assert [outcome["status"] for outcome in body["outcomes"]] == ["accepted", *["rejected"] * 5, "accepted"]
    assert [outcome["index"] for outcome in body["outcomes"]] == list(range(7))
    fields = [(outcome["field"], outcome["error"]) for outcome in body["outcomes"][1:6]]
    assert fields == [
        ("run_id", "is missing"),
        ("run_id", "is missing"),
        ("type", "is missing"),
        ("", "must be a JSON object"),
        ("timestamp", "must be a time: ISO 8601, or a number since 1970"),
    ]
    (run,) = await gateway.until("workflow_run", 1)
    (event,) = await gateway.until("workflow_event", 1)
    assert (run["id"], run["status"], event["type"]) == ("7", "waiting", "approval")
    assert event["id"] == body["outcomes"][0]["id"]


async def test_where_no_event_is_good_the_request_is_refused_with_the_outcomes(gateway):
    answer = await gateway.client.post("/v1/event", json={"type": "step:end"})
    assert (answer.status_code, answer.json()["outcomes"][0]["field"]) == (400, "step_id")
    assert (await gateway.client.post("/events", json={"events": []})).status_code == 202


@pytest.mark.parametrize("endpoint", ["/log", "/feedback", "/events", "/telemetry"])
async def test_a_request_sent_again_with_its_idempotency_key_makes_no_second_row(gateway, endpoint):
    bodies: dict[str, Any] = {
        "/log": {"event": "x", "payload": {}},
        "/feedback": {"verdict": "up"},
        "/events": {"events": [{"type": "x"}, {"type": "x"}, {"type": "run:update", "id": "r", "info": {"a": 1}}]},
        "/telemetry": {"type": "x"},
    }
    table = {"/feedback": "feedback", "/telemetry": "browser_event"}.get(endpoint, "workflow_event")
    key = {"idempotency-key": "once".rjust(600, "-")}
    first = await gateway.client.post(endpoint, json=bodies[endpoint], headers=key)
    again = await gateway.client.post(endpoint, json=bodies[endpoint], headers=key)
    assert first.json() == again.json()
    await gateway.client.post(endpoint, json=bodies[endpoint], headers={"idempotency-key": "twice".rjust(600, "-")})
    expected = 4 if endpoint == "/events" else 2
    assert len(await gateway.until(table, expected)) == expected


async def test_headers_fill_the_columns_of_their_names_where_the_event_does_not(gateway):
    headers = {
        "x-chronicle-application": "shop",
        "x-chronicle-environment": "prod",
        "x-chronicle-organization-id": "org",
        "x-chronicle-project-id": "proj",
        "x-chronicle-user-id": "anna",
        "x-chronicle-workflow-id": "w1",
        "x-chronicle-workflow-name": "checkout",
        "x-chronicle-run-id": "r1",
        "x-chronicle-step-id": "s1",
        "x-chronicle-step-index": "3",
        "x-chronicle-prompt-id": "p1",
        "x-chronicle-prompt-version": "7",
        "x-chronicle-extra-meta": '{"team":"a"}',
    }
    events = [
        {"type": "approval"},
        {"type": "approval", "run_id": "r2"},
        {"type": "run:start", "id": "r9"},
        {"type": "step:end"},
    ]
    assert (await gateway.client.post("/events", json=events, headers=headers)).status_code == 202
    first, second = await gateway.until("workflow_event", 2)
    assert {first["run_id"], second["run_id"]} == {"r1", "r2"}
    expected = {
        "application": "shop",
        "environment": "prod",
        "organization_id": "org",
        "project_id": "proj",
        "user_id": pseudonyms.of("anna"),
        "workflow_id": "w1",
        "workflow_name": "checkout",
        "step_id": "s1",
        "step_index": 3,
        "prompt_id": "p1",
        "prompt_version": "7",
        "meta": {"team": "a"},
    }
    assert {name: first[name] for name in expected} == expected
    (step,) = await gateway.until("workflow_step", 1)
    assert (step["run_id"], step["id"], step["status"]) == ("r1", "s1", "finished")
    (run,) = await gateway.until("workflow_run", 1)
    assert (run["id"], run["application"], run["environment"]) == ("r9", "shop", "prod")
    assert run["info"]["team"] == "a"
    assert run["info"]["workflow_name"] == "checkout"


CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "request_log.prompt_id": "own",
}


def otlp_call(service: str | None) -> dict[str, Any]:
    """Return a trace request of one model call, as OTLP/JSON."""
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in CALL.items()]
    span = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "attributes": attributes}
    named = [{"key": "service.name", "value": {"stringValue": service}}] if service else []
    return {"resourceSpans": [{"resource": {"attributes": named}, "scopeSpans": [{"spans": [span]}]}]}


@pytest.mark.parametrize(
    ("service", "application"), [("own", "own"), ("unknown_service:python", "shop"), (None, "shop")]
)
async def test_headers_of_otlp_requests_fill_columns_of_model_calls_too(gateway, service, application):
    headers = {
        "x-chronicle-application": "shop",
        "x-chronicle-environment": "prod",
        "x-chronicle-user-id": "anna",
        "x-chronicle-workflow-id": "w1",
        "x-chronicle-run-id": "r1",
        "x-chronicle-step-index": "3",
        "x-chronicle-prompt-id": "header",
        "x-chronicle-extra-meta": '{"team":"a","n":[1]}',
    }
    answer = await gateway.client.post("/v1/traces", json=otlp_call(service), headers=headers)
    assert answer.status_code == 200
    (row,) = await gateway.until("llm_call", 1)
    assert (row["application"], row["environment"]) == (application, "prod")
    assert (row["workflow_id"], row["run_id"], row["step_index"]) == ("w1", "r1", 3)
    assert (row["prompt_id"], row["user_id"]) == ("own", pseudonyms.of("anna"))
    assert row["meta"]["team"] == "a"
    assert row["meta"]["n"] == [1]


async def test_headers_of_otlp_logs_fill_columns_of_events_too_and_unreadable_ones_are_refused(gateway):
    event = [{"type": "approval"}]
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(event_name="request_log.workflow")
    record.attributes.add(key="request_log.type").value.string_value = event[0]["type"]
    body = request.SerializeToString()
    protobuf = {"content-type": "application/x-protobuf"}
    headers = {"x-chronicle-run-id": "r1", "x-chronicle-application": "shop"}
    assert (await gateway.client.post("/v1/logs", content=body, headers=protobuf | headers)).status_code == 200
    (row,) = await gateway.until("workflow_event", 1)
    assert (row["run_id"], row["application"], row["type"]) == ("r1", "shop", "approval")
    wrong = {"x-chronicle-step-index": "first"}
    assert (await gateway.client.post("/v1/logs", content=body, headers=protobuf | wrong)).status_code == 400


async def test_log_entries_that_were_accepted_count_as_drift_or_set_the_output_rate(open_gateway):
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("test")
    measures = LogMeasures(meter, CacheMeasures(meter))
    async with open_gateway(rest=Rest(measure=measures.record)) as gateway:

        async def log(event: str, **payload: Any) -> int:
            return int((await gateway.client.post("/log", json={"event": event, "payload": payload})).status_code)

        assert [await log("policy_violation", policy="jane@example.com") for _ in range(2)] == [200, 200]
        assert await log("policy_violation", metadata="wrong") == 400
        for response in ({"tokens": 100, "latency_ms": 2_000}, {"tokens": "x", "latency_ms": 0}, {"tokens": True}):
            assert await log("response_generation", response=response) == 200
    data: Any = reader.get_metrics_data()
    found = {
        metric.name: [(point.value, dict(point.attributes)) for point in metric.data.data_points]
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        if not isinstance(metric.data, Histogram)
    }
    assert found["telemetry_cache.drift_incidents"] == [(2, {"policy": "policy"})]
    assert found["telemetry_cache.tokens_per_second"] == [(50.0, {})]
