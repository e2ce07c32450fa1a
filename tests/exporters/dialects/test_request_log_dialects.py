"""Rows from what real packages send are what the model server served, whatever the dialect.

The reasons: docs/architecture.md, D7, D8 and D9.
"""

import importlib.util
import itertools
import json
import random
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_telemetry.base import conventions
from otel_telemetry.exporters.request_log.dialects import dialect_table, shapes
from otel_telemetry.exporters.request_log.price import cost
from otel_telemetry.exporters.request_log.read import span_facts

FIXTURES = Path(__file__).parent / "fixtures"
_spec = importlib.util.spec_from_file_location("dialect_docs", Path(__file__).parent / "dialect_docs.py")
assert _spec is not None
assert _spec.loader is not None
dialect_docs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(dialect_docs)
CASES = [
    pytest.param(file.stem, case, id=f"{file.stem}-{case}")
    for file in sorted(FIXTURES.glob("*.json"))
    for case in json.loads(file.read_text())["cases"]
]
#: Dialect on the row, and what the package does not say: (fixture, or fixture-case) -> (dialect, left out).
SILENT: dict[str, tuple[str, frozenset[str]]] = {
    "genai": ("gen_ai", frozenset()),
    "genai_events": ("gen_ai", frozenset()),
    "openinference": ("openinference", frozenset({"id"})),
    "openinference_agents": ("openinference", frozenset({"id", "cached", "reasoning", "requested", "finish"})),
    "openinference_agents-nested": ("openinference", frozenset({"id"})),
    "openllmetry": ("openllmetry", frozenset()),
    "traceloop": ("openllmetry", frozenset({"reasoning"})),
    "pydantic_ai": ("pydantic_ai", frozenset()),
    "pydantic_ai-nested": ("openinference", frozenset({"id"})),
    "logfire": ("logfire", frozenset()),
    "logfire-stream": ("logfire", frozenset({"id", "finish"})),
    "langfuse": ("langfuse", frozenset({"id", "requested", "finish"})),
    "vercel": ("vercel", frozenset()),
    "vercel_4": ("vercel", frozenset()),
}
#: Cases in which usage did not reach the span: no call asked for it, or the SDK lost it.
NO_USAGE = {"openinference_agents-stream", "vercel_4-stream"}
#: SDKs that say when the first chunk came.
TIMED = {"genai", "genai_events", "openinference", "openllmetry", "traceloop", "pydantic_ai", "langfuse", "vercel"}
WHOSE = {"openinference", "traceloop", "langfuse", "vercel", "vercel_4"}


def silence_of(fixture, case):
    return SILENT.get(f"{fixture}-{case}", SILENT[fixture])


@pytest.fixture(name="rows_of")
def rows_of_fixture(case_of, open_at, tmp_path, rows):
    """Writes a case's spans, in a given order and cut into batches, and returns (case, requests, calls by time)."""
    numbers = itertools.count()

    def rows_of(fixture, case, chance=None, **settings):
        found = case_of(fixture, case)
        spans = list(reading_of(found))
        if chance is not None:
            chance.shuffle(spans)
        path = tmp_path / f"{next(numbers)}.db"
        store = open_at(path, **settings)
        batches = [spans] if chance is None else [[span] for span in spans]
        for batch in batches:
            store.write(batch)
        calls = sorted(rows(path, "llm_call"), key=lambda call: call["ts"])
        return found, rows(path, "request_log"), calls

    return rows_of


def reading_of(found):
    return span_facts.condensed_from_otlp(found.traces())


def known_or_zero(value, served, *, is_known):
    """A count that is 0 may be left out; one that is not reported is unknown."""
    return value is None if not is_known else value == served or (served == 0 and value is None)


@pytest.mark.parametrize(("fixture", "case"), CASES)
def test_each_served_call_has_one_row_with_what_was_served(rows_of, fixture, case):
    found, _, calls = rows_of(fixture, case)
    dialect, silent = silence_of(fixture, case)
    assert len(calls) == len(found.served)
    for call, served in zip(calls, found.served, strict=True):
        assert call["dialect"] == dialect
        assert served["model"] in {call["model"], call["model_requested"]}
        assert call["provider"] == (None if case == "by_hand" else "openai")
        assert call["operation"] == ("embeddings" if case == "embeddings" else "chat")
        assert call["ok"] == (served["status"] == 200)
        if "requested" not in silent:
            assert call["model_requested"] == served["model"]
        usage = served["usage"]
        if usage is None or f"{fixture}-{case}" in NO_USAGE:
            assert (call["prompt_tokens"], call["completion_tokens"], call["cost_usd"]) == (None, None, None)
            continue
        assert call["prompt_tokens"] == usage["prompt"]
        assert known_or_zero(call["completion_tokens"], usage["completion"], is_known=True)
        assert known_or_zero(call["cached_tokens"], usage["cached"], is_known="cached" not in silent)
        assert known_or_zero(call["reasoning_tokens"], usage["reasoning"], is_known="reasoning" not in silent) or (
            usage["reasoning"] == 0
        )
        if case != "embeddings":
            assert call["provider_request_id"] == (None if "id" in silent else served["id"])
            assert call["finish_reason"] or "finish" in silent


@pytest.mark.parametrize(("fixture", "case"), [each for each in CASES if each.values[1] not in ("error", "by_hand")])
def test_cost_is_that_of_the_served_tokens_as_far_as_they_were_told(rows_of, fixture, case):
    found, requests, calls = rows_of(fixture, case)
    _, silent = silence_of(fixture, case)
    if f"{fixture}-{case}" in NO_USAGE:
        assert {call["cost_source"] for call in calls} == {"unpriced"}
        return
    total = Decimal(0)
    for call, served in zip(calls, found.served, strict=True):
        usage = served["usage"]
        cached = 0 if "cached" in silent else usage["cached"]
        tokens = cost.Tokens(usage["prompt"], cached, 0, usage["completion"], 0)
        price = cost.price("openai", served["model"], tokens, datetime.fromisoformat(f"{call['ts']}+00:00"))
        assert isinstance(price, cost.Cost)
        assert Decimal(repr(call["cost_usd"])) == price.total
        total += price.total
    assert Decimal(repr(requests[0]["cost_usd"])) == total


@pytest.mark.parametrize(("fixture", "case"), CASES)
def test_a_request_counts_each_call_once_under_whatever_framework_spans(rows_of, fixture, case):
    found, requests, calls = rows_of(fixture, case)
    assert len(requests) == 1
    assert requests[0]["llm_calls"] == len(found.served)
    assert {call["request_id"] for call in calls} == {requests[0]["id"]}
    if f"{fixture}-{case}" not in NO_USAGE and case != "error":
        assert requests[0]["prompt_tokens"] == sum(served["usage"]["prompt"] for served in found.served)


@pytest.mark.parametrize(("fixture", "case"), CASES)
def test_rows_of_a_package_s_spans_are_the_same_in_any_order(rows_of, fixture, case):
    _, requests, calls = rows_of(fixture, case)
    for seed in range(3):
        chance = random.Random(seed)  # noqa: S311  # an order that can be had again
        assert rows_of(fixture, case, chance)[1:] == (requests, calls)


@pytest.mark.parametrize("fixture", sorted(set(SILENT) - {name for name in SILENT if "-" in name}))
def test_a_refused_call_is_known_as_rate_limited_wherever_the_sdk_says_so(rows_of, fixture):
    _, _, calls = rows_of(fixture, "error")
    complains = not fixture.startswith("vercel")
    assert (calls[0]["rate_limited"], calls[0]["ok"]) == (complains, 0)
    assert "told to fail" in calls[0]["error"]
    assert calls[0]["cost_source"] == (None if complains else "unpriced")


@pytest.mark.parametrize("fixture", [name for name in sorted(SILENT) if "-" not in name])
def test_streams_are_told_from_whole_answers_and_their_first_chunk_is_timed(rows_of, fixture):
    found, _, calls = rows_of(fixture, "stream")
    if fixture == "openinference_agents":
        assert {call["ttfb_ms"] for call in calls} == {None}
        return
    for call, served in zip(calls, found.served, strict=True):
        assert call["streamed"] == 1
        if fixture in TIMED:
            assert served["first_chunk_ms"] * 0.9 < call["ttfb_ms"] < call["total_latency_ms"]
        assert call["total_latency_ms"] > served["first_chunk_ms"]


@pytest.mark.parametrize("fixture", sorted(WHOSE))
def test_who_asked_in_which_session_reaches_the_request(rows_of, fixture):
    _, requests, calls = rows_of(fixture, "chat")
    assert (requests[0]["user_id"], requests[0]["session_id"]) == ("user-1", "session-1")
    assert {call["user_id"] for call in calls} == {"user-1"}


def test_the_conversation_of_an_agent_reaches_the_request_even_from_spans_that_are_not_counted(rows_of):
    for case in ("agent", "nested"):
        _, requests, _ = rows_of("pydantic_ai", case)
        assert len(requests[0]["conversation_id"]) == 36


def test_a_cost_that_a_package_gives_is_kept_beside_ours(rows_of):
    _, _, calls = rows_of("pydantic_ai", "agent")
    assert {call["cost_source"] for call in calls} == {"given"}
    assert [Decimal(json.loads(call["meta"])["computed_cost_usd"]) for call in calls] == [
        Decimal(repr(call["cost_usd"])) for call in calls
    ]
    _, _, calls = rows_of("langfuse", "by_hand")
    assert (calls[0]["cost_usd"], calls[0]["cost_source"], calls[0]["provider"]) == (0.003, "given", None)


# --- texts ------------------------------------------------------------------------------------------------------

PHRASES = ("careful engineer", "weather today", "Sunny, 21", "You asked", "Answer briefly", "anybody there")


@pytest.mark.parametrize(("fixture", "case"), CASES)
def test_no_message_reaches_a_table_unless_asked_for(rows_of, fixture, case):
    _, requests, calls = rows_of(fixture, case)
    stored = json.dumps([requests, calls])
    assert [phrase for phrase in PHRASES if phrase in stored] == []


WITH_TEXTS = [
    each for each in CASES if each.values[1] in {"chat", "agent", "stream", "nested"} and each.values[0] != "genai"
]


@pytest.mark.parametrize(("fixture", "case"), WITH_TEXTS)
def test_messages_are_kept_as_question_and_answer_where_texts_are_asked_for(rows_of, fixture, case):
    _, _, calls = rows_of(fixture, case, store_text=True)
    last = calls[-1]
    asked, answered = json.loads(last["chat_request"]), json.dumps(json.loads(last["chat_response"]))
    assert "careful engineer" in json.dumps(asked) or "weather today" in json.dumps(asked)
    assert "You asked" in answered or "I looked it up" in answered


def test_flat_messages_of_older_conventions_become_lists(rows_of):
    _, _, calls = rows_of("traceloop", "chat", store_text=True)
    asked = json.loads(calls[0]["chat_request"])
    assert [message["role"] for message in asked["prompt"]] == ["system", "user"]
    assert json.loads(calls[0]["chat_response"])[0]["finish_reason"] == "stop"


# --- bad input --------------------------------------------------------------------------------------------------

ODD = st.recursive(
    st.one_of(
        *(
            st.none(),
            st.booleans(),
            st.integers(-(2**70), 2**70),
            st.floats(),
            st.text(max_size=20),
            st.binary(max_size=8),
        ),
        st.sampled_from(
            ['{"total": 1e999}', "[[[", '{"a": ' * 50, '"2026-13-01T00:00:00Z"', "0001-01-01T00:00:00+14:00"]
        ),
        *(st.sampled_from(sorted(dialect.calls)) for dialect in dialect_table.DIALECTS if dialect.calls),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)
NAMES = sorted(
    {name for dialect in dialect_table.DIALECTS for name in (*dialect.names, *dialect.inside, *dialect.marks)}
    | {dialect.kind for dialect in dialect_table.DIALECTS if dialect.kind}
    | {f"{key}{n}.x.{n}" for dialect in dialect_table.DIALECTS for key in dialect.asked if key[-1] == "." for n in "07"}
)


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(attributes=st.dictionaries(st.sampled_from(NAMES), ODD, max_size=25), status=st.sampled_from(["UNSET", "ERROR"]))
def test_whatever_a_dialect_s_attributes_hold_a_span_is_read_and_its_values_fit_the_tables(span, attributes, status):
    call = span_facts.fact(span(1, None, attributes, status=status), store_text=True).call
    if call is not None:
        json.dumps([call.meta, call.response_meta, call.chat_request, call.chat_response], allow_nan=False)
        for name in ("prompt_tokens", "cached_tokens", "completion_tokens", "ttfb_ms", "total_latency_ms"):
            value = getattr(call, name)
            assert value is None or 0 <= value < 2**60
        assert call.cost_usd is None or 0 <= call.cost_usd < 10**6


# --- the docs and the table -------------------------------------------------------------------------------------


def test_the_docs_are_those_of_the_table():
    page = dialect_docs.DOCS.read_text(encoding="utf-8")
    assert dialect_docs.generated() in page, "run python tests/exporters/dialects/dialect_docs.py"


def test_everything_that_a_dialect_says_has_a_meaning_that_is_read():
    constants = [*vars(dialect_table).values(), *vars(conventions).values()]
    known = {value for value in constants if isinstance(value, str)}
    known |= {conventions.USAGE_DETAILS + kind for kind in dialect_table.PRICED_KINDS}
    for dialect in dialect_table.DIALECTS:
        inside = itertools.chain.from_iterable(paths.values() for paths in dialect.inside.values())
        assert {*dialect.names.values(), *inside} <= known, dialect.name


def test_attributes_with_messages_are_content_for_the_redactor_too():
    for dialect in dialect_table.DIALECTS:
        for key in (*dialect.asked, *dialect.answered):
            assert shapes.is_content(key if not key.endswith(".") else f"{key}0.content"), key


def test_attributes_that_say_who_asked_are_hashed_by_the_built_in_policy():
    from otel_telemetry.processors.redact.policy import HASHED_KEYS

    for dialect in dialect_table.DIALECTS:
        for key, meaning in dialect.names.items():
            if meaning in {conventions.USER_ID, conventions.SESSION_ID}:
                assert key in HASHED_KEYS, key


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("acompletion", "chat"),
        ("completion", "chat"),
        ("aresponses", "chat"),
        ("anthropic_messages", "chat"),
        ("aembedding", "embeddings"),
        ("atext_completion", "text_completion"),
        ("arerank", "rerank"),
    ],
)
def test_litellm_s_functions_are_operations(span, name, operation):
    """Its proxy's span of a call, with counts as texts."""
    attributes = {"gen_ai.operation.name": name, "llm.request.type": name, "gen_ai.request.model": "gpt-4o-mini"}
    attributes |= {"gen_ai.usage.input_tokens": "11", "gen_ai.usage.output_tokens": "3", "gen_ai.system": "openai"}
    row = span_facts.fact(span(1, None, {**attributes, "gen_ai.cost.total_cost": 0.5}), store_text=False).call
    assert row is not None
    assert (row.operation, row.prompt_tokens, row.cost_usd, row.cost_source) == (operation, 11, Decimal("0.5"), "given")


def test_a_function_of_litellm_that_is_no_model_call_is_none(span):
    attributes = {"gen_ai.operation.name": "aget_thread", "gen_ai.request.model": "gpt-4o-mini"}
    assert span_facts.fact(span(1, None, attributes), store_text=False).call is None
