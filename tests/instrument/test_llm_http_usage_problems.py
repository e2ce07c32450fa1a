"""Counts that cannot be true: the row is there, counts nothing of them, and says what was wrong."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.read import span_facts
from otel_telemetry.instrument.llm_http import usage_problems
from otel_telemetry.instrument.llm_http.dialects.base import CallState
from tests.instrument.conftest import Telemetry

OPENAI = "https://api.openai.com/v1/chat/completions"


def asked(telemetry: Telemetry, usage: Any, url: str = OPENAI, **more: Any) -> Any:
    """Return the row of a call whose answer has that usage."""
    answer = {"id": "c", "model": "gpt-4o", "choices": [], "usage": usage, **more}
    reply = httpx.Response(200, headers={"content-type": "application/json"}, content=json.dumps(answer))
    with httpx.Client(transport=httpx.MockTransport(lambda _: reply)) as client:
        client.post(url, json={"model": "gpt-4o", "messages": []})
    call = span_facts.fact(span_facts.from_sdk(telemetry.span()), store_text=False).call
    assert call is not None
    assert telemetry.faults() == 0
    return call


@pytest.mark.parametrize(
    ("count", "problem"),
    [
        (-5, "negative"),
        (-0.5, "negative"),
        (2**60, "absurdly large"),
        (10**30, "absurdly large"),
        (1e300, "absurdly large"),
        (1.5, "not a whole number"),
        ("12", "not a number"),
        (True, "not a number"),
    ],
)
def test_what_is_no_count_is_said_and_not_counted(count, problem, telemetry):
    call = asked(telemetry, {"prompt_tokens": count, "completion_tokens": 3})
    assert (call.prompt_tokens, call.completion_tokens, call.cost_usd) == (None, 3, None)
    assert call.meta == {"unpriced": "token counts are missing", "problems": {"prompt_tokens": problem}}


@pytest.mark.parametrize("usage", [[], "many", 7])
def test_a_usage_that_is_no_map_is_said(usage, telemetry):
    call = asked(telemetry, usage)
    assert (call.prompt_tokens, call.meta["problems"]) == (None, {"usage": "not a map"})


def test_a_usage_that_is_null_is_no_problem(telemetry):
    assert "problems" not in asked(telemetry, None).meta


def test_a_detail_that_is_no_count_is_said(telemetry):
    usage = {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": -3}}
    call = asked(telemetry, usage)
    assert (call.prompt_tokens, call.cached_tokens) == (10, None)
    assert call.meta["problems"] == {"cached_tokens": "negative"}


@pytest.mark.parametrize(("total", "is_wrong"), [(500, True), (0, True), (120, False), (None, False), (127, False)])
def test_a_total_that_nothing_adds_up_to_is_said(total, is_wrong, telemetry):
    details = {"reasoning_tokens": 7}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": total, "completion_tokens_details": details}
    call = asked(telemetry, usage)
    assert call.cost_source == "computed"
    assert ("problems" in call.meta) is is_wrong


@pytest.mark.parametrize("tier", ["ultra", "x" * 999])
def test_a_tier_that_nobody_knows_has_no_price(tier, telemetry):
    call = asked(telemetry, {"prompt_tokens": 100, "completion_tokens": 20}, service_tier=tier)
    assert (call.cost_usd, call.cost_source) == (None, "unpriced")
    assert call.meta["unpriced"].startswith("no price for the tier ")


def test_a_bill_beyond_all_amounts_is_said(telemetry):
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "cost": 1e300}
    call = asked(telemetry, usage, "https://openrouter.ai/api/v1/chat/completions")
    assert call.cost_usd is None
    assert list(call.meta["problems"].values()) == ["not an amount of money"]


def test_only_known_words_of_a_span_become_problems():
    problems = ["prompt_tokens: negative", "prompt_tokens: Anna asked for it", "why? me: negative", 7, "negative"]
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "otel_telemetry.usage_problems": problems,
        "gen_ai.usage.input_tokens": 1,
        "gen_ai.usage.output_tokens": 1,
    }
    span = records.Span(
        trace_id="1" * 32,
        span_id="2" * 16,
        parent_span_id=None,
        local_root=True,
        name="chat m",
        kind="CLIENT",
        start_ns=1,
        end_ns=2,
        status="UNSET",
        status_message="",
        events=(),
        attributes=attributes,
        resource={},
    )
    call: Any = span_facts.fact(span, store_text=False).call
    assert call.meta["problems"] == {"prompt_tokens": "negative"}


COUNTS: st.SearchStrategy[Any] = st.sampled_from([None, 0, 1, 3, 14, -1, 2.0, 2.5, True, "3", 1 << 53, {}, []])
NAMES = st.sampled_from(["prompt_tokens", "total_tokens", "totalTokenCount", "audio_tokens", "details", "tier"])
USAGES = st.dictionaries(NAMES, COUNTS | st.dictionaries(NAMES, COUNTS, max_size=2), max_size=4)


@given(USAGES | COUNTS, st.sampled_from([None, 0, 3, 11]), st.sampled_from([None, 0, 3]))
def test_what_is_passed_at_a_glance_has_no_problem(usage: Any, asked: int | None, answered: int | None) -> None:
    seen = CallState()
    seen.input_tokens, seen.output_tokens = asked, answered
    if usage_problems._is_plain(seen, usage):
        assert not [*usage_problems._problems(seen, "usage", usage)]
