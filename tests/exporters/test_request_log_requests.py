"""Requests: which spans are requests, what their rows say, and what must never be in a table."""

import json
from pathlib import Path

import pytest

from otel_telemetry.base import records

SECRET = "the patient asks about her results"


def attrs(**columns):
    return {f"request_log.{name.replace('__', '.')}": value for name, value in columns.items()}


# --- which span is a request ------------------------------------------------------------------------------------


def test_a_declined_request_without_any_model_call_is_a_row(written, span):
    requests, _ = written(span(1, None, attrs(route="none", degraded="encrypted_room"), kind="SERVER"))
    assert (requests[0]["degraded"], requests[0]["llm_calls"], requests[0]["cost_usd"]) == ("encrypted_room", 0, None)


def test_a_server_span_with_a_model_call_below_is_a_request_and_one_without_is_none(written, span, chat):
    requests, _ = written(
        span(1, None, kind="SERVER"), span(2, 1), span(3, 2, chat()), span(4, None, kind="SERVER", trace_id="b" * 32)
    )
    assert [request["span_id"][-1] for request in requests] == ["1"]


def test_the_outermost_span_that_says_something_of_a_request_is_it(written, span, chat):
    requests, calls = written(
        span(1, None, kind="SERVER"),
        span(2, 1, attrs(route="outer")),
        span(3, 2, attrs(route="inner")),
        span(4, 3, chat()),
        span(5, 1, chat()),
    )
    assert [request["route"] for request in requests] == ["outer"]
    assert {call["request_id"] for call in calls} == {requests[0]["id"]}


def test_naming_its_stage_alone_does_not_make_a_span_a_request(written, span, chat):
    requests, _ = written(span(1, None, kind="SERVER"), span(2, 1, attrs(stage="web")), span(3, 2, chat()))
    assert [request["span_id"][-1] for request in requests] == ["1"]
    assert json.loads(requests[0]["stage_ms"]) == {"web": 1000.0}


def test_a_service_that_calls_another_has_a_request_in_each(written, span, chat):
    requests, calls = written(
        span(1, None, attrs(route="front"), service="front", kind="SERVER"),
        span(2, 1, service="front", kind="CLIENT"),
        span(3, 2, service="back", kind="SERVER"),
        span(4, 3, chat(), service="back"),
    )
    assert [(request["service"], request["llm_calls"]) for request in requests] == [("front", 0), ("back", 1)]
    assert calls[0]["request_id"] == requests[1]["id"]


def test_a_parent_that_turns_out_to_be_of_another_service_makes_a_local_root(store, span, chat, rows, tmp_path):
    store.write([span(2, 1, service="back"), span(3, 2, chat(), service="back")])
    assert rows(tmp_path / "log.db", "request_log") == []
    store.write([span(1, None, service="front")])
    assert [row["span_id"][-1] for row in rows(tmp_path / "log.db", "request_log")] == ["2"]


def test_two_requests_of_one_trace_are_told_apart_by_ancestry(written, span, chat):
    requests, calls = written(
        span(1, None, attrs(route="a")), span(2, None, attrs(route="b")), span(3, 1, chat()), span(4, 2, chat())
    )
    assert [request["llm_calls"] for request in requests] == [1, 1]
    assert [call["request_id"] for call in calls] == [request["id"] for request in requests]


def test_a_call_whose_chain_is_broken_goes_to_the_only_request_until_there_are_two(store, span, chat, rows, tmp_path):
    path = tmp_path / "log.db"
    store.write([span(1, None, attrs(route="a")), span(5, 4, chat())])
    assert rows(path, "llm_call")[0]["request_id"] == rows(path, "request_log")[0]["id"]
    store.write([span(2, None, attrs(route="b"))])
    assert rows(path, "llm_call")[0]["request_id"] is None
    assert [row["llm_calls"] for row in rows(path, "request_log")] == [0, 0]
    store.write([span(4, 2)])
    assert [row["llm_calls"] for row in rows(path, "request_log")] == [0, 1]


# --- ids --------------------------------------------------------------------------------------------------------


def test_the_app_s_own_id_is_the_row_s_id(written, span, chat):
    requests, calls = written(span(1, None, attrs(id="req-7")), span(2, 1, chat()))
    assert requests[0]["id"] == calls[0]["request_id"] == "req-7"


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_an_id_that_the_app_gave_twice_loses_no_row_in_either_order(  # noqa: PLR0917  # fixtures
    store, span, chat, rows, tmp_path, order
):
    spans = {n: span(n, None, {**attrs(id="same", route=f"r{n}"), **chat()}) for n in (1, 2)}
    for n in order:
        store.write([spans[n]])
    found = rows(tmp_path / "log.db", "request_log")
    assert {(row["id"] == "same", row["route"]) for row in found} == {(True, "r1"), (False, "r2")}
    calls = rows(tmp_path / "log.db", "llm_call")
    assert {call["request_id"] for call in calls} == {row["id"] for row in found}


@pytest.mark.parametrize("bad", ["[REDACTED_API_KEY]", "a" * 32 + "-" + "b" * 16, {"a": 1}, "", b"x"])
def test_an_id_that_cannot_be_a_key_is_not_used(written, span, bad):
    requests, _ = written(span(1, None, attrs(id=bad, route="a")))
    assert requests[0]["id"] == f"{requests[0]['trace_id']}-{requests[0]['span_id']}"


# --- columns ----------------------------------------------------------------------------------------------------


def test_every_column_that_an_app_says_arrives_with_its_type(written, span):
    text = {name: f"a {name}" for name in ("session_id", "conversation_id", "user_id", "route", "router_source")}
    numbers = {"allow_tps": 3, "prompt_tokens": 10, "llm_calls": 2, "retries": 1, "router_confidence": 0.5}
    flags = dict.fromkeys(("escalated", "fallback_fired", "cache_hit", "ceiling_hit", "per_user_cap_hit"), True)
    requests, _ = written(
        span(1, None, attrs(**text, **numbers, **flags, ttfb_ms=12.5, cost_usd="0.5", topk='[{"id": 1}]', scope="s"))
    )
    row = requests[0]
    assert {name: row[name] for name in text} == text
    assert {name: row[name] for name in numbers} == numbers
    assert all(row[name] == 1 for name in flags)
    assert (row["ttfb_ms"], row["cost_usd"], row["cost_source"]) == (12.5, 0.5, "given")
    assert (json.loads(row["topk"]), row["scope"]) == ([{"id": 1}], "s")


def test_values_that_come_as_text_get_the_column_s_type(written, span):
    requests, _ = written(
        span(1, None, attrs(router_confidence="0.25", cache_hit="yes", escalated="0", allow_tps="7", ttfb_ms="1e2"))
    )
    row = requests[0]
    assert (row["router_confidence"], row["cache_hit"], row["escalated"], row["allow_tps"], row["ttfb_ms"]) == (
        *(0.25, 1, 0),
        *(7, 100.0),
    )


@pytest.mark.parametrize(
    ("column", "bad"),
    [
        ("router_confidence", 1.5),
        ("router_confidence", "high"),
        ("cache_hit", "perhaps"),
        ("prompt_tokens", -1),
        ("ttfb_ms", float("nan")),
        ("cost_usd", "-1"),
        ("cost_usd", "NaN"),
        ("cost_usd", float("inf")),
        ("stage_ms", "[1]"),
        ("route", b"\xff"),
        ("trace_id", "mine"),
    ],
)
def test_a_value_that_does_not_fit_is_left_out_and_noted_and_the_row_stays(written, span, column, bad):
    requests, _ = written(span(1, None, attrs(**{column: bad, "degraded": "x"})))
    assert requests[0]["degraded"] == "x"
    assert requests[0][column] in (None, 0) or column == "trace_id"
    assert column in json.loads(requests[0]["meta"])["problems"]


def test_maps_may_come_as_json_or_key_by_key(written, span):
    requests, _ = written(
        span(1, None, attrs(stage_ms='{"router": 12}', stage_ms__web=1400, models__router="small", models__final="big"))
    )
    assert json.loads(requests[0]["stage_ms"]) == {"router": 12, "web": 1400}
    assert json.loads(requests[0]["models"]) == {"router": "small", "final": "big"}


def test_the_model_of_the_final_stage_is_the_request_s_where_nothing_else_names_it(written, span, chat):
    named = attrs(models='{"router": "small", "final": "big"}')
    requests, _ = written(span(1, None, named))
    assert requests[0]["model"] == "big"
    requests, _ = written(span(1, None, {**named, "request_log.model": "own"}, trace_id="a" * 32))
    assert next(each["model"] for each in requests if each["trace_id"] == "a" * 32) == "own"
    requests, _ = written(span(1, None, named, trace_id="b" * 32), span(2, 1, chat(), trace_id="b" * 32))
    assert next(each["model"] for each in requests if each["trace_id"] == "b" * 32) == "gpt-4o-mini"


def test_keys_that_are_no_column_land_in_meta_beside_what_http_says(written, span):
    http = {"http.route": "/chat", "http.request.method": "POST", "http.response.status_code": 404}
    requests, _ = written(span(1, None, {**attrs(tenant="blue", deep={"a": [1]}), **http}))
    assert json.loads(requests[0]["meta"]) == {
        "tenant": "blue",
        "deep": {"a": [1]},
        "http_route": "/chat",
        "http_method": "POST",
        "http_status_code": 404,
    }
    assert requests[0]["route"] == "/chat"


def test_people_sessions_and_conversations_are_read_from_general_attributes_too(written, span):
    general = {"user.id": "u-1", "session.id": "s-1", "gen_ai.conversation.id": "c-1"}
    requests, _ = written(span(1, None, {**general, **attrs(route="a")}))
    assert [requests[0][name] for name in ("user_id", "session_id", "conversation_id")] == ["u-1", "s-1", "c-1"]


@pytest.mark.parametrize(
    ("change", "attributes", "ok"),
    [
        ({}, {}, 1),
        ({"status": "ERROR"}, {}, 0),
        ({}, {"http.response.status_code": 503}, 0),
        ({}, {"http.response.status_code": 404}, 1),
        ({}, {"request_log.ok": False}, 0),
        ({}, {"request_log.error": "no answer"}, 0),
    ],
)
def test_a_request_went_well_unless_span_status_or_app_say_otherwise(written, span, change, attributes, ok):
    requests, _ = written(span(1, None, {"request_log.route": "a", **attributes}, **change))
    assert requests[0]["ok"] == ok


def test_the_error_is_what_the_exception_said(written, span):
    event = records.Event("exception", 1, {"exception.type": "ValueError", "exception.message": "too long"})
    requests, _ = written(span(1, None, attrs(route="a"), status="ERROR", events=[event]))
    assert requests[0]["error"] == "ValueError: too long"


def test_the_model_of_a_request_is_that_of_the_last_final_call(written, span, chat):
    requests, _ = written(
        span(1, None, attrs(route="a")),
        span(2, 1, {**chat("router-model"), **attrs(stage="router")}, start=5),
        span(3, 1, {**chat("first-final"), **attrs(stage="final")}, start=1),
        span(4, 1, {**chat("gpt-4o"), **attrs(stage="final"), "gen_ai.response.id": "resp-4"}, start=2),
    )
    assert (requests[0]["model"], requests[0]["provider_request_id"]) == ("gpt-4o", "resp-4")
    assert json.loads(requests[0]["models"]) == {"router": "router-model", "final": "gpt-4o"}
    assert json.loads(requests[0]["stage_ms"]) == {"router": 1000.0, "final": 2000.0}


def test_what_the_app_says_goes_before_what_its_calls_add_up_to(written, span, chat):
    requests, _ = written(span(1, None, attrs(prompt_tokens=7, model="mine", stage_ms__web=5)), span(2, 1, chat()))
    assert (requests[0]["prompt_tokens"], requests[0]["model"], requests[0]["completion_tokens"]) == (7, "mine", 20)
    assert json.loads(requests[0]["stage_ms"]) == {"web": 5}


# --- what must not be in a table --------------------------------------------------------------------------------

CONTENT = {
    "gen_ai.input.messages": json.dumps([{"role": "user", "content": SECRET}]),
    "gen_ai.output.messages": [{"content": SECRET}],
    "gen_ai.system_instructions": SECRET,
    "gen_ai.prompt.0.content": SECRET,
    "gen_ai.completion.0.content": SECRET,
    "gen_ai.prompt": SECRET,
    "gen_ai.tool.call.arguments": SECRET,
    "gen_ai.retrieval.query.text": SECRET,
    "gen_ai.memory.records": SECRET,
    "gen_ai.of_tomorrow": SECRET * 9,
    "gen_ai.of_tomorrow.list": [SECRET] * 9,
    "input.value": SECRET,
    "llm.input_messages.0.message.content": SECRET,
    "request_log.query_text": SECRET,
    "request_log.answer_text": SECRET,
    "request_log.normalized": SECRET,
}


def everything_in(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))


def test_messages_reach_no_table_unless_asked_for(open_at, tmp_path, span, chat):
    path = tmp_path / "log.db"
    store = open_at(path)
    event = records.Event("gen_ai.user.message", 1, {"content": SECRET})
    spans = [span(1, None, {**CONTENT, **attrs(route="a")}, events=[event]), span(2, 1, {**chat(), **CONTENT})]
    store.write([*spans, span(3, 1, {**CONTENT, "gen_ai.operation.name": "invoke_agent"})])
    assert SECRET.encode() not in everything_in(path)


def test_messages_are_kept_where_the_setting_says_so(written, span, chat):
    requests, calls = written(span(1, None, {**chat(), **CONTENT}), store_text=True)
    assert requests[0]["query_text"] == requests[0]["answer_text"] == requests[0]["normalized"] == SECRET
    assert json.loads(calls[0]["chat_request"])["input.messages"] == [{"role": "user", "content": SECRET}]
    assert json.loads(calls[0]["chat_response"]) == [{"content": SECRET}]


@pytest.mark.parametrize("key", ["client.address", "http.client_ip", "request_log.ip_hash", "net.peer.ip"])
@pytest.mark.parametrize("value", ["192.0.2.77", "2001:db8::7", "[REDACTED_IP]", "10.0.0.1:443", ["192.0.2.77"], 7])
def test_an_address_that_is_not_a_pseudonym_reaches_no_table(written, span, tmp_path, key, value):
    requests, _ = written(span(1, None, {**attrs(route="a"), key: value}))
    assert requests[0]["ip_hash"] is None
    assert b"192.0.2.77" not in everything_in(tmp_path / "written.db")
    assert b"2001:db8" not in everything_in(tmp_path / "written.db")
    problems = json.loads(requests[0]["meta"] or "{}").get("problems")
    assert problems == (None if value == "[REDACTED_IP]" else {"ip_hash": "not a pseudonym"})


def test_a_pseudonym_is_kept_from_wherever_the_address_was(written, span):
    requests, _ = written(span(1, None, {**attrs(route="a"), "http.request.header.x_forwarded_for": ["0123456789ab"]}))
    assert requests[0]["ip_hash"] == "0123456789ab"
