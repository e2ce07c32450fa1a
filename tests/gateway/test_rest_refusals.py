"""Whatever is posted to the endpoints beside OTLP: nothing breaks, nothing leaks, and errors name the field."""

import asyncio
import gzip
import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_telemetry.base.otlp_values import MOST_LEVELS
from otel_telemetry.gateway.receive.cleaning import Room
from otel_telemetry.gateway.receive.receiver import Receiver
from tests.gateway.rest_gateway import gateway_opener

ENDPOINTS = ("/log", "/feedback", "/telemetry", "/event", "/v1/events")
SECRET = "jane.roe@example.com"


@pytest.fixture(name="open_gateway")
def open_gateway_fixture(serving, with_tables):
    return gateway_opener(serving, with_tables("sqlite"))


@pytest.fixture(name="client")
async def client_fixture(serving):
    async with serving() as running, httpx.AsyncClient(base_url=running.http) as client:
        yield client


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe\x00", b'{"type": "\xff"}', b"null", b"17", b'"text"', b"[" * 100_000, b"NaN", b'{"a":NaN}'],
)
async def test_what_is_no_json_object_is_refused(client, endpoint, body):
    answer = await client.post(endpoint, content=body)
    assert answer.status_code == 400
    assert "code" in answer.json() or answer.json()["rejected"] == 1


@pytest.mark.parametrize(
    ("endpoint", "body", "field"),
    [
        ("/log", {"payload": {}}, "event"),
        ("/log", {"event": "", "payload": {}}, "event"),
        ("/log", {"event": "x"}, "payload"),
        ("/log", {"event": "x", "payload": []}, "payload"),
        ("/log", {"event": "x", "payload": {"metadata": SECRET}}, "payload.metadata"),
        ("/log", {"event": "x", "payload": {"metadata": {"user_id": [SECRET]}}}, "payload.metadata.user_id"),
        ("/log", {"event": "x", "payload": {"timestamp": SECRET}}, "payload.timestamp"),
        ("/log", {"event": "x", "payload": {"timestamp": True}}, "payload.timestamp"),
        ("/log", {"event": "x", "payload": {"timestamp": 1e300}}, "payload.timestamp"),
        ("/log", {"event": "x", "payload": {"timestamp": -5}}, "payload.timestamp"),
        ("/log", {"event": "run:start", "payload": {}}, "event"),
        ("/feedback", {}, "verdict"),
        ("/feedback", {"verdict": SECRET}, "verdict"),
        ("/feedback", {"verdict": "up", "query": {"a": SECRET}}, "query"),
        ("/feedback", {"verdict": "up", "request_id": "x" * 500}, "request_id"),
        ("/telemetry", {"ts": 1}, "type"),
        ("/telemetry", {"type": "x" * 1_000}, "type"),
        ("/telemetry", {"type": "x", "ts": {"a": SECRET}}, "ts"),
    ],
)
async def test_an_error_names_the_field_and_quotes_nothing(client, endpoint, body, field):
    answer = await client.post(endpoint, json=body)
    assert answer.status_code == 400
    violation = answer.json()["details"][0]["fieldViolations"][0]
    assert violation["field"].startswith(field)
    assert SECRET not in answer.text


async def test_what_is_nested_too_deep_is_replaced_and_the_rest_is_logged(client):
    payload = {"deep": nested(MOST_LEVELS + 40), "n": 1}
    answer = await client.post("/log", json={"event": "x", "payload": payload})
    assert answer.status_code == 200


@pytest.mark.parametrize("header", [{"x-chronicle-extra-meta": "{"}, {"x-chronicle-extra-meta": "[1]"}])
async def test_a_header_that_cannot_be_read_is_named(client, header):
    answer = await client.post("/events", json={"type": "x"}, headers=header)
    assert answer.status_code == 400
    assert "x-chronicle-extra-meta" in answer.text


@pytest.mark.parametrize(
    ("path", "kind", "item"), [("/v1/traces", "x-protobuf", b"\x0a\x00"), ("/events", "json", b"")]
)
async def test_headers_that_go_into_each_item_are_bounded_with_all_of_them(serving, path, kind, item):
    headers = {"content-type": f"application/{kind}", "x-chronicle-extra-meta": json.dumps({"a": "x " * 4_000})}
    async with serving(max_json_bytes=100_000, max_body_bytes=100_000) as running:
        async with httpx.AsyncClient(base_url=running.http, headers=headers) as client:
            few, many = (item * count or json.dumps([{"type": "x"}] * count) for count in (3, 1000))
            assert (await client.post(path, content=few)).is_success
            assert (await client.post(path, content=many)).status_code == 413
        assert sum(len(one.body) for one in running.spooled()) < 100_000


@pytest.mark.parametrize("endpoint", [*ENDPOINTS, "/cache/set"])
async def test_bodies_above_the_limit_are_refused_packed_or_not(serving, endpoint):
    async with serving(max_json_bytes=100_000) as running, httpx.AsyncClient(base_url=running.http) as client:
        large = b'{"a":"' + b"x" * 200_000 + b'"}'
        expected = 404 if endpoint == "/cache/set" else 413  # without a cache there is no such endpoint
        assert (await client.post(endpoint, content=large)).status_code == expected
        packed = {"content-encoding": "gzip"}
        assert (await client.post(endpoint, content=gzip.compress(large), headers=packed)).status_code == expected


async def test_a_large_packed_body_is_taken_by_a_thread_of_its_own(open_gateway):
    async with open_gateway() as gateway:
        events = [{"type": "tick", "data": {"n": n, "mail": f"m{n}@example.com"}} for n in range(2_000)]
        body = gzip.compress(json.dumps({"events": events}).encode())
        answer = await gateway.client.post("/events", content=body, headers={"content-encoding": "gzip"})
        assert (answer.status_code, answer.json()["accepted"]) == (202, 2_000)
        rows = await gateway.until("workflow_event", 2_000)
        assert [row["data"]["n"] for row in rows] == list(range(2_000))
        assert "example.com" not in str(rows)


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/log", {"event": "x", "payload": {"a": "b"}}),
        ("/feedback", {"verdict": "up"}),
        ("/telemetry", {"type": "x"}),
        ("/events", {"type": "x"}),
    ],
)
async def test_nobody_comes_in_without_a_key(serving, sink, endpoint, body):
    async with serving(api_keys=("k" * 32,)) as running, httpx.AsyncClient(base_url=running.http) as client:
        assert (await client.post(endpoint, json=body)).status_code == 401
        assert (await client.post(endpoint, json=body, headers={"x-api-key": "wrong"})).status_code == 401
        assert sink.bodies == []
        answer = await client.post(endpoint, json=body, headers={"authorization": "Bearer " + "k" * 32})
        assert answer.status_code in {200, 202}
        assert await asyncio.to_thread(sink.wait_for, 1)


async def test_a_full_spool_is_told_with_the_time_to_wait_and_nothing_is_acknowledged(serving, sink):
    sink.away = True
    async with serving(spool_max_bytes=1 << 20, max_body_bytes=1 << 20) as running:
        async with httpx.AsyncClient(base_url=running.http) as client:
            filler = {"event": "x", "payload": {"a": "x" * 200_000}}
            answers = [await client.post("/log", json=filler) for _ in range(12)]
        refused = [answer for answer in answers if answer.status_code != 200]
        assert refused
        assert {answer.status_code for answer in refused} <= {429, 503}
        assert all(1 <= int(answer.headers["retry-after"]) <= 3 for answer in refused)
        assert len(running.spooled()) == len(answers) - len(refused)


async def test_an_answer_comes_only_after_the_spool_has_it(serving, sink):
    sink.away = True
    async with serving() as running, httpx.AsyncClient(base_url=running.http) as client:
        for number in range(5):
            answer = await client.post("/feedback", json={"verdict": "up"})
            assert answer.json()["id"].encode() in running.spooled()[number].body


async def test_where_redaction_fails_nothing_is_kept_and_the_sender_is_told(serving, sink):
    class Broken:
        def redact(self, signal: str, body: bytes) -> Any:
            raise RuntimeError(SECRET)

    async with serving(engine=Broken()) as running, httpx.AsyncClient(base_url=running.http) as client:
        for endpoint, body in (("/log", {"event": "x", "payload": {}}), ("/events", {"type": "x"})):
            answer = await client.post(endpoint, json=body)
            assert answer.status_code == 500
            assert SECRET not in answer.text
        assert running.spooled() == []


async def test_an_event_that_cannot_be_redacted_is_told_apart_from_those_that_were(serving, redactor, sink):
    class Partly:
        """Leaves out the second record, as the redactor does with one that it cannot clean."""

        def redact(self, signal: Any, body: bytes) -> Any:
            from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

            message = ExportLogsServiceRequest.FromString(body)
            del message.resource_logs[0].scope_logs[0].log_records[1]
            clean = redactor.redact(signal, message.SerializeToString())
            return type(clean)(clean.body, clean.items, 1, "left out")

    async with serving(engine=Partly()) as running, httpx.AsyncClient(base_url=running.http) as client:
        answer = (await client.post("/events", json=[{"type": "a"}, {"type": "b"}, {"type": "c"}])).json()
    assert (answer["accepted"], answer["rejected"]) == (2, 1)
    assert [outcome["status"] for outcome in answer["outcomes"]] == ["accepted", "rejected", "accepted"]


async def test_entries_that_come_at_once_are_told_each_its_own_fields(serving, sink):
    async with serving() as running, httpx.AsyncClient(base_url=running.http) as client:

        async def post(number: int) -> tuple[int, list[str]]:
            payload = {f"mail{number}": SECRET, "n": number} if number % 2 else {"n": number}
            answer = await client.post("/log", json={"event": "x", "payload": payload})
            return answer.status_code, answer.json()["redacted_fields"]

        answers = await asyncio.gather(*map(post, range(60)))
        assert answers == [(200, [f"mail{number}"] if number % 2 else []) for number in range(60)]
        spooled = running.spooled()
        assert sum(batch.items for batch in spooled) == 60
        assert len(spooled) < 60


async def test_an_entry_that_breaks_redaction_takes_none_along_that_came_with_it(serving, redactor):
    class Picky:
        def redact(self, signal: Any, body: bytes) -> Any:
            if b"poison" in body:
                raise RuntimeError("poison")
            return redactor.redact(signal, body)

    async with serving(engine=Picky()) as running, httpx.AsyncClient(base_url=running.http) as client:

        async def post(number: int) -> int:
            payload = {"a": "poison" if number == 7 else "fine"}
            return (await client.post("/log", json={"event": "x", "payload": payload})).status_code

        answers = await asyncio.gather(*map(post, range(20)))
        assert answers == [500 if number == 7 else 200 for number in range(20)]
        assert sum(batch.items for batch in running.spooled()) == 19


_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=10), inner, max_size=4)),
    max_leaves=12,
)
_names = st.sampled_from(
    [
        "type",
        "event",
        "payload",
        "verdict",
        "id",
        "run_id",
        "step_id",
        "data",
        "timestamp",
        "events",
        "metadata",
        "info",
    ]
)
_kinds = st.sampled_from(["run:start", "step:end", "step:error", "x", "up", "down"])


async def test_any_json_gets_an_answer_and_what_is_accepted_is_stored_or_set_aside(open_gateway):
    """One gateway, many bodies: some fit, most do not; none breaks it, and what it took is in the database."""
    bodies: list[tuple[str, Any]] = []

    @given(
        st.sampled_from([endpoint for endpoint in ENDPOINTS if endpoint != "/telemetry"]),
        st.one_of(_json, st.dictionaries(_names, st.one_of(_json, _kinds), max_size=6)),
    )
    @settings(max_examples=300, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    def collect(endpoint: str, body: Any) -> None:
        bodies.append((endpoint, body))

    await asyncio.to_thread(collect)
    bodies += [("/event", {"type": kind, "run_id": "r", "step_id": "s", "data": None}) for kind in ("x", "step:end")]
    async with open_gateway() as gateway:
        answers = [await gateway.client.post(endpoint, content=json.dumps(body)) for endpoint, body in bodies]
        assert {answer.status_code for answer in answers} <= {200, 202, 400}
        assert sum(answer.status_code == 202 for answer in answers) >= 2
        await gateway.client.post("/log", json={"event": "last", "payload": {}})
        for _ in range(500):
            if any(row["type"] == "last" for row in gateway.rows("workflow_event")):
                break
            await asyncio.sleep(0.02)
        assert gateway.rows("workflow_event")[-1]["type"] == "last"


async def test_nul_is_stored_as_text_that_any_database_takes_and_half_a_character_is_refused(open_gateway):
    async with open_gateway() as gateway:
        assert (await gateway.client.post("/event", content='{"type":"x","run_id":"\\ud800"}')).status_code == 400
        odd = '{"type":"x","run_id":"a\\u0000b","data":{"k\\u0000":"v","big":123456789012345678901234567890}}'
        answer = await gateway.client.post("/event", content=odd)
        assert answer.status_code == 202
        (row,) = await gateway.until("workflow_event", 1)
        assert row["run_id"] == "a\N{REPLACEMENT CHARACTER}b"
        assert set(row["data"]) == {"k\N{REPLACEMENT CHARACTER}", "big"}


async def test_a_client_that_goes_away_costs_nothing(serving, monkeypatch):
    left: list[int] = []
    real = Receiver.room

    def room(self: Receiver, who: str = "") -> Any:
        left.append(self.pending)
        return real(self, who)

    monkeypatch.setattr(Receiver, "room", room)
    async with serving() as running:
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", running.gateway.http_port)
            writer.write(b"POST /log HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\nabc")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.2)
        async with httpx.AsyncClient(base_url=running.http) as client:
            assert (await client.post("/log", json={"event": "x", "payload": {}})).status_code == 200
    assert left[5] == 0  # when the sixth came in, nothing of the first five was held


@pytest.mark.parametrize(
    ("endpoint", "dense"),
    [
        ("/events", b"[" + b",".join([b"1"] * 10_001) + b"]"),
        ("/events", b'{"type":"a","data":[' + b"0," * 400_000 + b"0]}"),
        ("/log", b'{"event":"a","payload":{"d":[' + b"0," * 100_000 + b"0]}}"),
        ("/feedback", b'{"verdict":"up","sources":[' + b"0," * 100_000 + b"0]}"),
        ("/telemetry", b'{"type":"a","data":[' + b"0," * 100_000 + b"0]}"),
    ],
)
async def test_bodies_of_too_many_values_are_refused(client, endpoint, dense):
    answer = await client.post(endpoint, content=gzip.compress(dense), headers={"content-encoding": "gzip"})
    assert answer.status_code == 413
    assert "smaller batches" in answer.text


async def test_many_events_are_redacted_in_slices_with_the_outcome_of_each(client):
    events = [{"type": "note", "data": {"a": "x" * 1_000, "b": SECRET}} for _ in range(1_500)]
    answer = await client.post("/events", json=[*events, 1], timeout=30)
    assert answer.status_code == 202
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (1_500, 1)
    assert answer.json()["outcomes"][-1]["status"] == "rejected"


async def test_an_event_of_too_many_values_is_rejected_with_the_reason(client):
    dense = b'[{"type":"a","data":[' + b'"xxxxxxxxxxxxxxxx",' * 60_000 + b'1]},{"type":"b"}]'
    answer = await client.post("/events", content=dense, timeout=30)
    assert answer.status_code == 202
    left_out, kept = answer.json()["outcomes"]
    assert (left_out["status"], kept["status"]) == ("rejected", "accepted")
    assert left_out["error"] == "more than 100000 values and attributes"


async def test_what_is_too_large_with_its_headers_is_told_so(serving):
    span = b"\x0a\x02\x0a\x00"
    async with serving(max_body_bytes=8_192) as running, httpx.AsyncClient(base_url=running.http) as client:
        headers = {"content-type": "application/x-protobuf", "accept": "application/json", "x-chronicle-run-id": "r"}
        otlp = await client.post("/v1/traces", content=span * 1_200, headers=headers)
        events = await client.post("/events", json=[{"type": "a"}] * 200, headers={"x-chronicle-run-id": "r" * 100})
    for answer in (otlp, events):
        assert answer.status_code == 413
        assert "x-chronicle headers" in answer.text
        assert "8192 bytes" in answer.text


async def test_the_values_of_a_large_body_are_counted_beside_the_loop_that_serves_all(client, monkeypatch):
    in_the_loop: list[bool] = []
    counted = Room.parse_json

    def counting(self, *given):
        in_the_loop.append(asyncio._get_running_loop() is not None)
        counted(self, *given)

    monkeypatch.setattr(Room, "parse_json", counting)
    large = json.dumps({"event": "x", "payload": {"text": "a" * 100_000}})
    assert (await client.post("/log", content=large)).status_code == 200
    assert in_the_loop == [False]
    dense = b'{"event": "x", "payload": {"values": [' + b"0," * 400_000 + b"0]}}"
    assert (await client.post("/log", content=dense)).status_code == 413
    assert in_the_loop == [False, False]
