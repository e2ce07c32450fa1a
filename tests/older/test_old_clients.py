"""Each way in which clients of older systems write what they send is taken, or refused where they read the refusal."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.exporters.gateway_program import Gateway
from tests.waiting import eventually

RUN, STEP = "0193a000-0000-7000-8000-000000000001", "0193a000-0000-7000-8000-000000000002"
NIL = "00000000-0000-0000-0000-000000000000"
AT = "2026-11-29T10:00:00.000Z"
JSON = {"content-type": "application/json"}


@pytest.fixture(name="gateway", scope="module")
def gateway_fixture(tmp_path_factory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    stored = {"url": f"sqlite:///{folder / 'new.db'}", "store_text": True}
    running = Gateway(folder, request_log=stored, gateway={"telemetry_per_minute": 0})
    yield running
    running.stop()


@pytest.fixture(name="client", scope="module")
def client_fixture(gateway) -> Iterator[httpx.Client]:
    """One connection, which is kept, as the clients keep theirs."""
    with httpx.Client(base_url=gateway.url, timeout=60) as client:
        yield client


@pytest.fixture(name="found")
def found_fixture(gateway, stored):
    """Returns the rows of a table of which a column has a value, once there are some."""

    def found(table: str, column: str, value: Any) -> list[dict[str, Any]]:
        url = f"sqlite:///{gateway.folder / 'new.db'}"
        rows: list[dict[str, Any]] = eventually(lambda: [row for row in stored(url, table) if row[column] == value])
        return rows

    return found


def packed(body: Any) -> bytes:
    return gzip.compress(json.dumps(body).encode())


# --- how a body is sent, to any endpoint ----------------------------------------------------------------------------
BODIES: dict[str, Any] = {
    "/log": {"event": "sent", "payload": {"message": "Hello world"}},
    "/telemetry": {"type": "page_view", "sid": "s"},
    "/feedback": {"verdict": "up", "sid": "s"},
    "/cache/set": {"key": "sent", "data": {"a": 1}, "ttl": 60},
    **{path: {"type": "sent", "run_id": RUN} for path in ("/event", "/events", "/v1/event", "/v1/events")},
}
HEADERS: dict[str, dict[str, str]] = {
    "as JSON": JSON,
    "with a charset": {"content-type": "application/json; charset=utf-8"},
    "with another spelling": {"Content-Type": "Application/JSON;charset=UTF-8"},
    "as text": {"content-type": "text/plain;charset=UTF-8"},
    "as a form": {"content-type": "application/x-www-form-urlencoded"},
    "without a type": {},
    "with a key that is not asked for": {**JSON, "authorization": "Bearer anything"},
    "with accept": {**JSON, "accept": "text/event-stream; charset=utf-8"},
}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
def test_a_body_is_taken_however_it_is_named(client, path, headers):
    answer = client.post(path, content=json.dumps(BODIES[path]).encode(), headers=headers)
    assert answer.status_code in {200, 202}, answer.text


@pytest.mark.parametrize("path", BODIES)
def test_a_body_may_be_packed_come_in_pieces_or_begin_with_a_mark(client, path):
    plain = json.dumps(BODIES[path]).encode()
    sent = (
        {"content": gzip.compress(plain), "headers": {**JSON, "content-encoding": "gzip"}},
        {"content": iter((plain[:5], plain[5:])), "headers": JSON},
        {"content": b"\xef\xbb\xbf" + plain, "headers": JSON},
        {"content": b"\r\n " + plain + b"\n", "headers": JSON},
    )
    for each in sent:
        answer = client.post(path, **each)
        assert answer.status_code in {200, 202}, answer.text


@pytest.mark.parametrize("path", BODIES)
def test_a_slash_at_the_end_changes_nothing(client, path):
    answer = client.post(f"{path}/", json=BODIES[path], follow_redirects=False)
    assert answer.status_code in {200, 202}, answer.text


def test_paths_of_the_cache_may_end_with_a_slash_too_and_others_are_none(client):
    assert client.post("/cache/set", json={"key": "k/", "data": 1}).status_code == 200
    assert client.get("/cache/get/", params={"key": "k/"}).json()["hit"]
    assert client.delete("/cache/", params={"key": "k/"}).json() == {"deleted": True}
    assert client.get("/health/").json()["status"] == "ok"
    for nowhere in ("/nowhere/", "/log//x/"):
        assert client.get(nowhere).status_code == 404


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT"])
def test_a_method_that_is_not_served_is_answered_with_those_that_are(client, path, method):
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[[]]", b'"text"', b"\xff\xfe", b'{"a": \xe9}', b"[NaN", b"1"])
def test_what_is_no_such_body_is_refused_and_the_connection_goes_on(client, path, body):
    answer = client.post(path, content=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error" if "outcomes" in answer.json() else "message"]
    assert client.post(path, json=BODIES[path]).status_code in {200, 202}


@pytest.mark.parametrize("path", ["/", "/healthz", "/health"])
def test_whoever_watched_an_older_system_is_told_that_it_is_well(client, path):
    answer = client.get(path)
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    assert client.head(path).status_code == 200


@pytest.mark.parametrize("path", ["/chat", "/chat/completions", "/v1/chat/completions"])
def test_a_model_call_is_told_where_chronicle_s_client_reads_it_that_there_is_no_proxy(client, path):
    answer = client.post(path, json={"model": "m", "messages": []})
    assert answer.status_code == 404
    assert answer.json()["error"]["details"]["body"].startswith("model calls are not passed on here")


# --- chronicle's clients --------------------------------------------------------------------------------------------
STARTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a number as id": ({"id": 42}, {"id": "42", "status": "started"}),
    "nothing but an id": ({"name": None}, {"name": None}),
    "null everywhere": (
        dict.fromkeys(("description", "application", "input", "status", "tags", "info", "trace_id", "span_id")),
        {"status": "started", "tags": None, "info": None, "input": None},
    ),
    "no tags": ({"tags": []}, {"tags": None}),
    "one tag": ({"tags": "a"}, {"tags": ["a"]}),
    "a status of its own": ({"status": "queued"}, {"status": "queued"}),
    "an input of text": ({"input": "words"}, {"input": "words"}),
    "an input that is a number": ({"input": 0}, {"input": 0}),
    "an input that is false": ({"input": False}, {"input": False}),
    "an empty input": ({"input": {}}, {"input": {}}),
    "null within info": ({"info": {"a": None}}, {"info": {"a": None}}),
    "fields that nobody knows": ({"more": [1], "context": {"x": 1}}, {"name": "n"}),
    "a time with a zone": ({"time": "2026-11-29T12:00:00+02:00"}, {"name": "n"}),
    "a time in seconds": ({"time": 1_795_946_400}, {"name": "n"}),
    "a time in milliseconds": ({"time": 1_795_946_400_000}, {"name": "n"}),
    "a time without a zone": ({"time": "2026-11-29T10:00:00"}, {"name": "n"}),
}


@pytest.mark.parametrize("case", STARTS)
def test_a_run_starts_however_it_is_told(client, found, case):
    more, expected = STARTS[case]
    event = {"type": "run:start", "id": f"run {case}", "name": "n", "time": AT, **more}
    answer = client.post("/events", json={"events": [event]})
    assert (answer.status_code, answer.json()["rejected"]) == (202, 0)
    (row,) = found("workflow_run", "id", str(event["id"]))
    assert {name: row[name] for name in expected} == expected
    assert row["created_at"].isoformat() == "2026-11-29T10:00:00+00:00"


STEPS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "an output of null": ([{"type": "step:end", "data": {"output": None}}], {"status": "finished", "output": None}),
    "no output": ([{"type": "step:end", "data": {}}], {"status": "finished", "output": None}),
    "no data": ([{"type": "step:end"}], {"status": "finished", "output": None}),
    "an error of text": ([{"type": "step:error", "data": {"error": "no"}}], {"status": "error", "output": "no"}),
    "an empty error": ([{"type": "step:error", "data": {"error": {}}}], {"status": "error", "output": {}}),
    "a state that is a number": ([{"type": "step:state", "data": {"state": 5}}], {"status": "5"}),
    "a state, then the end, at one time": (
        [{"type": "step:state", "data": {"state": "x"}}, {"type": "step:end", "data": {"output": [1]}}],
        {"status": "finished", "output": [1]},
    ),
}


@pytest.mark.parametrize("case", STEPS)
def test_a_step_goes_on_however_it_is_told(client, found, case):
    about = {"run_id": RUN, "step_id": f"step {case}", "time": AT}
    start = {"type": "step:start", **about, "data": {"type": "t", "input": 1, "context": {"z": 1}}, "extra": True}
    later, expected = STEPS[case]
    events = [start, *({**event, **about} for event in later)]
    assert client.post("/v1/events", json={"events": events}).json()["accepted"] == len(events)
    (row,) = found("workflow_step", "id", about["step_id"])
    assert {name: row[name] for name in expected} == expected
    assert row["type"] == "t"


OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no ids": ({}, {"run_id": None, "step_id": None}),
    "ids of nothing": ({"run_id": NIL, "step_id": NIL}, {"run_id": NIL, "step_id": NIL}),
    "numbers as ids": ({"run_id": 7, "step_id": 8}, {"run_id": "7", "step_id": "8"}),
    "a number with a point": ({"run_id": 7.5}, {"run_id": "7.5"}),
    "null as ids": ({"run_id": None, "step_id": None}, {"run_id": None}),
    "data of text": ({"data": "words"}, {"data": "words"}),
    "data that is a number": ({"data": 5}, {"data": 5}),
    "no data": ({"data": None}, {"data": None}),
    "a list": ({"data": [1, {"a": None}]}, {"data": [1, {"a": None}]}),
    "an error of text": ({"error": "no"}, {"error": "no"}),
    "an error of its own": ({"error": {"code": 4}}, {"error": {"code": 4}}),
    "no number": ({"data": {"n": float("nan")}}, {"data": {"n": None}}),
}


@pytest.mark.parametrize("case", OTHERS)
def test_an_event_of_its_own_type_is_kept_however_it_is_told(client, found, case):
    more, expected = OTHERS[case]
    body = json.dumps({"type": f"own {case}", **more}).encode()  # Python's, with NaN
    assert client.post("/event", content=body, headers=JSON).status_code == 202
    (row,) = found("workflow_event", "type", f"own {case}")
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(
    "bad",
    [
        {"type": "step:start", "data": {"type": "t"}},
        {"type": "step:end", "run_id": RUN},
        {"type": "run:start", "name": "n"},
        {"type": "run:update", "status": "x"},
        {"type": 5},
        {"type": None},
        {"data": {}},
        {"type": "x", "time": "yesterday"},
        {"type": "x", "run_id": {"a": 1}},
        "text",
        None,
        [],
    ],
)
def test_one_bad_event_is_told_and_takes_none_along(client, found, bad):
    good = [{"type": "beside", "run_id": str(bad), "data": {"n": number}} for number in range(2)]
    answer = client.post("/events", json={"events": [good[0], bad, good[1]]})
    outcomes = [each["status"] for each in answer.json()["outcomes"]]
    assert (answer.status_code, outcomes) == (202, ["accepted", "rejected", "accepted"])
    assert len(found("workflow_event", "run_id", str(bad))) == 2
    alone = client.post("/events", json={"events": [bad]})
    assert alone.status_code == 400
    assert alone.json()["error"]["details"]["body"]


@pytest.mark.parametrize("body", [[], {"events": []}])
def test_no_events_are_no_fault(client, body):
    assert client.post("/events", json=body).status_code == 202


@pytest.mark.parametrize("body", [{"events": None}, {"events": {"type": "x"}}, {"events": "x"}])
def test_what_is_no_list_of_events_is_refused(client, body):
    assert client.post("/events", json=body).json()["error"]["details"]["body"] == "events: must be a list"


# --- the service's clients ------------------------------------------------------------------------------------------
ENTRIES: dict[str, Any] = {
    "nothing": {},
    "numbers as ids": {"metadata": {"user_id": 7, "session_id": 8.5, "request_id": 9}},
    "no metadata": {"metadata": None},
    "empty metadata": {"metadata": {}},
    "null as ids": {"metadata": {"user_id": None, "session_id": None, "request_id": None}},
    "an answer of text": {"response": "hello"},
    "no answer": {"response": None},
    "counts as text": {"response": {"tokens": "15", "latency_ms": "200"}},
    "counts below zero": {"response": {"tokens": -1, "latency_ms": -4.5}},
    "a large number": {"response": {"tokens": 10**30}},
    "a list of arguments": {"args": [1, 2]},
    "a number as tool": {"tool": 5},
    "a number as service": {"service": 5},
    "no service": {"service": None},
    "Python's time": {"timestamp": "2025-09-03 10:30:00.123456"},
    "seconds": {"timestamp": 1_756_895_400.5},
    "no time": {"timestamp": ""},
    "other scripts": {"message": "héllo ☃ 日本"},
    "levels": {"a": {"b": {"c": [{"d": None}]}}},
}


@pytest.mark.parametrize("case", ENTRIES)
def test_an_entry_is_logged_however_it_is_written(client, found, case):
    entry = {"event": f"entry {case}", "payload": ENTRIES[case], "source": "more", "level": 3}
    answer = client.post("/log", json=entry)
    assert (answer.status_code, answer.json()["status"]) == (200, "logged")
    (row,) = found("workflow_event", "type", entry["event"])
    assert (row["data"] or {}).keys() == ENTRIES[case].keys()


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"payload": {}}, "event"),
        ({"event": "x"}, "payload"),
        ({"event": None, "payload": {}}, "event"),
        ({"event": "", "payload": {}}, "event"),
        ({"event": 5, "payload": {}}, "event"),
        ({"event": "x", "payload": None}, "payload"),
        ({"event": "x", "payload": [1]}, "payload"),
        ({"event": "x", "payload": {"metadata": "x"}}, "payload.metadata"),
        ({"event": "x", "payload": {"timestamp": "soon"}}, "payload.timestamp"),
        ({"event": "run:start", "payload": {}}, "event"),
    ],
)
def test_an_entry_that_lacks_what_it_needs_is_refused_with_the_field(client, entry, field):
    answer = client.post("/log", json=entry)
    assert answer.status_code == 400
    assert answer.json()["details"][0]["fieldViolations"][0]["field"] == field


VALUES: dict[str, Any] = {"object": {"a": 1}, "text": "t", "list": [1], "null": None, "number": 0, "false": False}


@pytest.mark.parametrize("case", VALUES)
@pytest.mark.parametrize("ttl", [60, "60", 1.5, None])
def test_a_value_comes_back_with_its_times(client, case, ttl):
    stored = client.post("/cache/set", json={"key": case, "data": VALUES[case], "ttl": ttl}).json()
    assert (stored["status"], stored["key"]) == ("cached", case)
    found = client.get("/cache/get", params={"key": case}).json()
    shown = VALUES[case] if isinstance(VALUES[case], dict) else {"value": VALUES[case]}
    assert found["hit"]
    times = {name: found["data"][name] for name in ("timestamp", "ttl_remaining")}
    assert found["data"] == {**shown, **times}


def test_a_number_as_key_is_that_key(client):
    assert client.post("/cache/set", json={"key": 5, "data": {"a": 1}}).json()["key"] == "5"
    assert client.get("/cache/get?key=5").json()["hit"]


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"data": 1}, "key"),
        ({"key": "", "data": 1}, "key"),
        ({"key": None, "data": 1}, "key"),
        ({"key": "k"}, "data"),
        ({"key": "k", "data": 1, "ttl": 0}, "ttl"),
        ({"key": "k", "data": 1, "ttl": -1}, "ttl"),
        ({"key": "k", "data": 1, "ttl": "long"}, "ttl"),
    ],
)
def test_a_value_that_cannot_be_kept_is_refused_with_the_field(client, item, field):
    answer = client.post("/cache/set", json=item)
    assert answer.status_code == 400
    assert answer.json()["details"][0]["fieldViolations"][0]["field"] == field


@pytest.mark.parametrize(("method", "path"), [("GET", "/cache/get"), ("GET", "/cache/get?key="), ("DELETE", "/cache")])
def test_a_key_that_is_missing_is_told(client, method, path):
    assert client.request(method, path).json()["message"] == "key: is missing"


# --- web pages ------------------------------------------------------------------------------------------------------
SEEN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing more": ({}, {"data": None}),
    "null": (dict.fromkeys(("ts", "sid", "ua", "data")), {"data": None}),
    "a time in milliseconds": ({"ts": 1_795_963_000_000}, {"data": {"ts": 1_795_963_000_000}}),
    "a time in parts": ({"ts": 1_795_963_000_000.25}, {"data": {"ts": 1_795_963_000_000.25}}),
    "a time in words": ({"ts": "Sun Nov 29 2026"}, {"data": {"ts": "Sun Nov 29 2026"}}),
    "a number as session": ({"sid": 0.8231}, {}),
    "a number as agent": ({"ua": 5}, {"user_agent": "5"}),
    "data of text": ({"data": "words"}, {"data": "words"}),
    "data of text with a time": ({"data": "words", "ts": 1}, {"data": {"value": "words", "ts": 1}}),
    "a list": ({"data": [1]}, {"data": [1]}),
    "fields that nobody knows": ({"url": "/x", "referrer": None}, {"data": None}),
}


@pytest.mark.parametrize("case", SEEN)
def test_what_a_page_tells_is_kept_however_it_tells_it(client, found, case):
    more, expected = SEEN[case]
    answer = client.post("/telemetry", json={"type": f"seen {case}", **more})
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    (row,) = found("browser_event", "type", f"seen {case}")
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize("body", [{}, {"type": None}, {"type": ""}, {"type": 7}, {"type": "x" * 200}])
def test_a_page_that_does_not_say_what_happened_is_told(client, body):
    answer = client.post("/telemetry", json=body)
    assert (answer.status_code, answer.json()["details"][0]["fieldViolations"][0]["field"]) == (400, "type")


JUDGED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing more": ({}, {"verdict": "down", "note": None, "sources": None}),
    "null": (dict.fromkeys(("sid", "query", "answer", "model", "scope", "sources", "request_id")), {"model": None}),
    "numbers": ({"query": 5, "answer": 6.5, "scope": 7, "model": 8}, {"query": "5", "scope": "7", "model": "8"}),
    "sources of text": ({"sources": "one, two"}, {"sources": "one, two"}),
    "a list of sources": ({"sources": [{"t": 1}]}, {"sources": [{"t": 1}]}),
    "ids that are numbers": ({"request_id": 5, "sid": 6}, {"request_id": "5"}),
    "fields that nobody knows": ({"rating": 5, "tags": []}, {"verdict": "down"}),
}


@pytest.mark.parametrize("case", JUDGED)
def test_feedback_is_kept_however_it_is_given(client, found, case):
    more, expected = JUDGED[case]
    answer = client.post("/feedback", json={"verdict": "down", **more}).json()
    assert answer["ok"]
    (row,) = found("feedback", "id", answer["id"])
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize("verdict", ["UP", "good", "", 1, True, None, ["up"]])
def test_a_verdict_is_up_or_down(client, verdict):
    answer = client.post("/feedback", json={"verdict": verdict})
    assert (answer.status_code, answer.json()["details"][0]["fieldViolations"][0]["field"]) == (400, "verdict")
