"""Model calls: what is one, how its attributes are read, what it cost."""

import itertools
import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot

from otel_telemetry.exporters.request_log.price import cost, price_table
from otel_telemetry.exporters.request_log.read import span_facts

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def call_of(span, *, store_text=False):
    row = span_facts.fact(span, store_text=store_text).call
    assert row is not None
    return row


# --- what is a call ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["invoke_agent", "execute_tool", "create_agent", "invoke_workflow", "retrieval"])
def test_operations_that_repeat_what_their_calls_report_are_no_calls(written, span, chat, operation):
    agent = span(1, None, {**chat(), "gen_ai.operation.name": operation}, kind="SERVER")
    requests, calls = written(agent, span(2, 1, chat()))
    assert [call["span_id"][-1] for call in calls] == ["2"]
    assert requests[0]["prompt_tokens"] == 100


def test_of_nested_spans_for_one_call_only_the_innermost_counts(written, span, chat):
    spans = span(1, None, {"request_log.route": "a"}), span(2, 1, chat()), span(3, 2, {}), span(4, 3, chat())
    requests, calls = written(*spans)
    assert [call["span_id"][-1] for call in calls] == ["4"]
    assert requests[0]["llm_calls"] == 1


def test_the_wrapping_call_loses_its_row_when_the_inner_one_comes_later(store, span, chat, rows, tmp_path):
    store.write([span(1, None, {"request_log.route": "a"}), span(2, 1, chat(tokens=(7, 7)))])
    assert rows(tmp_path / "log.db", "request_log")[0]["prompt_tokens"] == 7
    store.write([span(3, 2, chat())])
    assert [call["span_id"][-1] for call in rows(tmp_path / "log.db", "llm_call")] == ["3"]
    assert rows(tmp_path / "log.db", "request_log")[0]["prompt_tokens"] == 100


def test_a_span_of_an_older_convention_with_model_and_usage_is_a_call(span):
    call = call_of(
        span(
            1,
            None,
            {
                "gen_ai.system": "openai",
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.usage.prompt_tokens": 50,
                "gen_ai.usage.completion_tokens": 5,
            },
        )
    )
    assert (call.dialect, call.provider, call.prompt_tokens, call.completion_tokens) == ("gen_ai.old", "openai", 50, 5)
    assert span_facts.fact(span(1, None, {"gen_ai.request.model": "gpt-4o"}), store_text=False).call is None


def test_current_names_win_over_older_ones_on_the_same_span(span, chat):
    call = call_of(span(1, None, {"gen_ai.usage.prompt_tokens": 1, **chat(), "gen_ai.system": "else"}))
    assert (call.prompt_tokens, call.provider, call.dialect) == (100, "openai", "gen_ai")


# --- counts -----------------------------------------------------------------------------------------------------


def anthropic(**usage):
    return {"gen_ai.operation.name": "chat", "gen_ai.request.model": "claude-opus-4-5", **usage}


@pytest.mark.parametrize(
    ("attributes", "basis", "prompt"),
    [
        ({"gen_ai.usage.input_tokens": 100, "gen_ai.usage.cache_read.input_tokens": 40}, "inclusive", 100),
        ({"gen_ai.usage.input_tokens": 10, "gen_ai.usage.cache_read.input_tokens": 40}, "exclusive", 50),
        (
            {
                "gen_ai.system": "anthropic",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.cache_read_input_tokens": 40,
                "gen_ai.usage.cache_creation_input_tokens": 5,
            },
            "exclusive",
            145,
        ),
        ({"gen_ai.system": "openai", "gen_ai.usage.input_tokens": 100}, "inclusive", 100),
        ({}, None, None),
    ],
)
def test_prompt_tokens_include_cached_ones_whatever_the_span_counted(span, attributes, basis, prompt):
    call = call_of(span(1, None, anthropic(**attributes)))
    assert (call.token_basis, call.prompt_tokens) == (basis, prompt)


@pytest.mark.parametrize(
    "value", [-1, True, float("nan"), float("inf"), 1.5, "twelve", "-1", "1.5", 2**53 + 1, 2**70, [1], b"1"]
)
def test_an_absurd_count_is_unknown_and_noted_and_the_row_stays(written, span, chat, value):
    requests, calls = written(span(1, None, {**chat(), "gen_ai.usage.input_tokens": value}))
    assert calls[0]["prompt_tokens"] is None
    assert "gen_ai.usage.input_tokens" in json.loads(calls[0]["meta"])["problems"]
    assert calls[0]["completion_tokens"] == 20
    assert requests[0]["prompt_tokens"] is None
    assert (calls[0]["cost_usd"], calls[0]["cost_source"]) == (None, "unpriced")


def test_counts_that_come_as_text_are_counts(span, chat):
    """Micrometer, and so Spring AI, has only texts as values."""
    call = call_of(span(1, None, chat() | {"gen_ai.usage.input_tokens": "100", "gen_ai.usage.output_tokens": "7"}))
    assert (call.prompt_tokens, call.completion_tokens) == (100, 7)
    assert call.cost_usd is not None


def test_reasoning_that_exceeds_the_output_was_counted_beside_it(span, chat):
    call = call_of(span(1, None, {**chat(tokens=(10, 5)), "gen_ai.usage.reasoning.output_tokens": 30}))
    assert (call.completion_tokens, call.reasoning_tokens) == (35, 30)


def test_a_call_without_its_output_count_is_not_priced_by_its_input_alone(span, chat):
    attributes = chat()
    del attributes["gen_ai.usage.output_tokens"]
    assert call_of(span(1, None, attributes)).cost_source == "unpriced"
    embedding = {**attributes, "gen_ai.operation.name": "embeddings", "gen_ai.request.model": "text-embedding-3-small"}
    assert call_of(span(1, None, embedding)).cost_usd == Decimal("0.000002")


def test_the_model_that_answered_is_priced_else_the_one_that_was_asked_for(span, chat):
    answered = call_of(span(1, None, chat("gpt-4o", gen_ai__response__model="gpt-4o-mini")))
    assert (answered.cost_usd, answered.meta["price_match"]) == (Decimal("0.000027"), "name")
    alias = call_of(span(1, None, chat("gpt-4o-mini", gen_ai__response__model="of-tomorrow")))
    assert (alias.cost_usd, alias.model) == (Decimal("0.000027"), "of-tomorrow")
    assert (alias.meta["price_match"], alias.meta["price_model"]) == ("requested", "gpt-4o-mini")
    assert call_of(span(1, None, chat("of-tomorrow", gen_ai__response__model="too"))).cost_source == "unpriced"


# --- time, outcome ----------------------------------------------------------------------------------------------


def test_tokens_per_second_is_the_rate_after_the_first_chunk_of_a_streamed_call(span, chat):
    streamed = chat(tokens=(10, 101), gen_ai__request__stream=True, gen_ai__response__time_to_first_chunk=0.5)
    call = call_of(span(1, None, streamed, seconds=2.5))
    assert (call.ttfb_ms, call.total_latency_ms, call.tokens_per_second) == (500.0, 2500.0, 50.0)


@pytest.mark.parametrize(
    "change",
    [
        {"gen_ai.request.stream": False},
        {"gen_ai.response.time_to_first_chunk": None},
        {"gen_ai.response.time_to_first_chunk": 9.0},
        {"gen_ai.usage.output_tokens": 1},
        {"gen_ai.usage.reasoning.output_tokens": 50},
    ],
)
def test_tokens_per_second_is_unknown_where_it_would_be_a_guess(span, chat, change):
    streamed = chat(tokens=(10, 101), gen_ai__request__stream=True, gen_ai__response__time_to_first_chunk=0.5)
    assert call_of(span(1, None, {**streamed, **change}, seconds=2.5)).tokens_per_second is None


def test_a_span_that_ends_before_it_starts_has_no_latency(written, span, chat):
    requests, calls = written(span(1, None, chat(), seconds=-1))
    assert calls[0]["total_latency_ms"] is None
    assert requests[0]["latency_ms"] is None
    assert "latency" in json.loads(calls[0]["meta"])["problems"]


@pytest.mark.parametrize(
    ("attributes", "streamed"),
    [
        ({}, None),
        ({"gen_ai.request.stream": True}, True),
        ({"gen_ai.request.stream": False}, False),
        ({"llm.request.type": "chat", "llm.is_streaming": False}, False),
        ({"llm.request.type": "chat"}, None),
        ({"ai.operationId": "ai.generateText.doGenerate"}, False),
        ({"ai.operationId": "ai.streamText.doStream"}, True),
        ({"ai.operationId": "ai.embed.doEmbed"}, None),
        ({"openinference.span.kind": "LLM", "llm.invocation_parameters": '{"stream": false}'}, False),
        ({"openinference.span.kind": "LLM", "llm.invocation_parameters": '{"top_p": 1}'}, None),
        ({"gen_ai.response.time_to_first_chunk": 0.1}, True),
    ],
)
def test_a_call_was_streamed_or_was_not_where_its_span_says_so(span, chat, attributes, streamed):
    assert call_of(span(1, None, {**chat(), **attributes})).streamed is streamed


def test_retries_rate_limits_and_errors_reach_call_and_request(written, span, chat):
    limited = chat(http__request__resend_count=2, http__response__status_code=429, error__type="429")
    requests, calls = written(
        span(1, None, {"request_log.route": "a"}), span(2, 1, limited, status="ERROR", status_message="too many")
    )
    assert (calls[0]["retries"], calls[0]["rate_limited"], calls[0]["ok"], calls[0]["error"]) == (2, 1, 0, "too many")
    assert calls[0]["request_latency_ms"] is None
    assert (requests[0]["retries"], requests[0]["rate_limited"], requests[0]["ok"]) == (2, 1, 1)


# --- cost -------------------------------------------------------------------------------------------------------


def test_prices_are_those_of_genai_prices_for_every_model_by_its_name():
    compared = 0
    prompts = itertools.cycle([0, 900, 150_000, 400_000])
    for provider in get_snapshot().providers:
        for model, prompt in zip(provider.models, prompts, strict=False):
            cached, written = prompt // 3, prompt // 5
            ours = cost.price(provider.id, model.id, cost.Tokens(prompt, cached, written, 500, 0), NOW)
            if isinstance(ours, cost.NoPrice):
                continue
            usage = Usage(input_tokens=prompt, cache_read_tokens=cached, cache_write_tokens=written, output_tokens=500)
            known = price_table.find(provider.id, model.id.lower())
            assert not isinstance(known, str)
            theirs = known[0].calc_price(usage, provider, genai_request_timestamp=NOW)
            assert abs(ours.total - theirs.total_price) < Decimal("3e-12"), (provider.id, model.id)
            compared += 1
    assert compared > 1_000


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-5-nano-super"),
        ("anthropic", "claude-opus-4-5-turbo"),
        ("anthropic", "claude-opus-4-50"),
        ("azure.ai.openai", "o4-mini-next"),
        ("openai", "not-a-model"),
        ("a-provider-of-tomorrow", "gpt-4o"),
        (None, "gpt-4o"),
        ("openai", None),
    ],
)
def test_a_model_that_is_not_listed_by_that_very_name_has_no_price(provider, model):
    assert isinstance(cost.price(provider, model, cost.Tokens(10, 0, 0, 10, 0), NOW), cost.NoPrice)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("anthropic", "claude-opus-4-5-20251101"),
        ("openai", "GPT-4o-2024-08-06"),
        ("gcp.vertex_ai", "gemini-2.5-flash"),
        ("azure.ai.openai", "gpt-4o"),
        ("mistral_ai", "mistral-large-latest"),
        ("gcp.gemini", "gemini-2.0-flash-lite-001"),
    ],
)
def test_dated_versions_and_the_convention_s_provider_names_are_exact_matches(provider, model):
    assert isinstance(cost.price(provider, model, cost.Tokens(10, 0, 0, 10, 0), NOW), cost.Cost)


def test_a_free_model_of_openrouter_costs_nothing():
    found = cost.price("openrouter", "deepseek/deepseek-chat-v3-0324:free", cost.Tokens(10, 0, 0, 10, 0), NOW)
    assert isinstance(found, cost.Cost)
    assert (found.total, found.match) == (Decimal(0), "name")


@pytest.mark.parametrize(("model", "match"), [("claude-opus-4-5", "name"), ("claude-opus-4-5-20311101", "version")])
def test_a_row_tells_how_the_price_table_knows_its_model(written, span, chat, model, match):
    computed = chat(model, gen_ai__provider__name="anthropic")
    given = {**computed, "request_log.cost_usd": 0.5}
    _, calls = written(span(1, None, {}), span(2, 1, computed), span(3, 1, given))
    metas = [json.loads(call["meta"]) for call in calls]
    assert [meta["price_match"] for meta in metas] == [match, match]
    assert ["computed_cost_usd" in meta for meta in metas] == [False, True]


def test_parts_of_a_cost_add_up_to_it(written, span, chat):
    usage = chat("gpt-4o", (1000, 200), gen_ai__usage__cache_read__input_tokens=400)
    requests, calls = written(span(1, None, usage))
    assert calls[0]["cost_source"] == "computed"
    assert calls[0]["price_version"] == cost.price_version()
    expected = calc_price(
        Usage(input_tokens=1000, cache_read_tokens=400, output_tokens=200),
        "gpt-4o",
        provider_id="openai",
        genai_request_timestamp=NOW,
    )
    for row in (calls[0], requests[0]):
        assert Decimal(str(row["cost_usd"])) == expected.total_price
        parts = [row["cost_input_usd"], row["cost_cached_usd"], row["cost_output_usd"]]
        assert sum(Decimal(str(part)) for part in parts) == expected.total_price
    assert requests[0]["cost_source"] == f"computed {cost.price_version()}"


def test_one_call_without_a_price_makes_the_request_s_cost_unknown_not_smaller(written, span, chat):
    requests, calls = written(
        span(1, None, {"request_log.route": "a"}), span(2, 1, chat()), span(3, 1, chat("of-tomorrow"))
    )
    assert sorted(call["cost_source"] for call in calls) == ["computed", "unpriced"]
    assert (requests[0]["cost_usd"], requests[0]["cost_source"]) == (None, "unpriced")
    assert requests[0]["prompt_tokens"] == 200


def test_a_cost_that_the_producer_gives_is_kept_with_the_computed_one_beside(written, span, chat):
    requests, calls = written(
        span(1, None, {"request_log.route": "a"}), span(2, 1, chat(gen_ai__usage__cost=0.25)), span(3, 1, chat())
    )
    assert (calls[0]["cost_usd"], calls[0]["cost_source"]) == (0.25, "given")
    assert json.loads(calls[0]["meta"])["computed_cost_usd"] == "0.000027000000"
    assert requests[0]["cost_usd"] == 0.250027
    assert requests[0]["cost_source"] == f"mixed {cost.price_version()}"
    assert requests[0]["cost_input_usd"] is None


def test_a_zero_that_a_proxy_gives_for_a_model_it_cannot_price_is_no_cost(span, chat):
    assert call_of(span(1, None, chat("of-tomorrow", gen_ai__usage__cost=0.0))).cost_source == "unpriced"
    priced = call_of(span(1, None, chat("of-tomorrow", request_log__cost_usd=0.0)))
    assert (priced.cost_usd, priced.cost_source) == (0, "given")


@pytest.mark.parametrize(
    ("failure", "cost_usd", "source"),
    [
        ({"error.type": "429"}, 0.000027, f"computed {cost.price_version()}"),
        ({"error.type": "ServerError", "http.response.status_code": 503}, 0.000027, f"computed {cost.price_version()}"),
        ({"error.type": "ReadTimeout"}, None, "unpriced"),
        ({"error.type": "RemoteProtocolError", "http.response.status_code": 200}, None, "unpriced"),
    ],
)
def test_a_refused_call_costs_nothing_and_one_that_broke_off_an_unknown_amount(  # noqa: PLR0917  # fixtures
    written, span, chat, failure, cost_usd, source
):
    failed = {**chat(), **failure}
    del failed["gen_ai.usage.input_tokens"], failed["gen_ai.usage.output_tokens"]
    requests, _ = written(
        span(1, None, {"request_log.route": "a"}), span(2, 1, failed, status="ERROR"), span(3, 1, chat())
    )
    assert requests[0]["llm_calls"] == 2
    assert (requests[0]["cost_usd"], requests[0]["cost_source"]) == (cost_usd, source)


def test_unpriced_calls_are_counted_once_however_often_they_come(store, span, chat, monkeypatch):
    counted = []
    from otel_telemetry.base import metrics

    monkeypatch.setattr(metrics.unpriced_calls, "add", lambda n, attributes: counted.append((n, attributes["model"])))
    for _ in range(3):
        store.write([span(1, None, chat("of-tomorrow"))])
    assert counted == [(1, "of-tomorrow")]


# --- what else is kept ------------------------------------------------------------------------------------------


def test_other_gen_ai_attributes_are_kept_and_the_stage(span, chat):
    call = call_of(
        span(
            1,
            None,
            chat(
                gen_ai__request__temperature=0.5,
                gen_ai__response__finish_reasons=("stop", "stop"),
                gen_ai__response__system_fingerprint="fp",
                request_log__stage="final",
            ),
        )
    )
    assert call.meta == {"price_match": "name", "gen_ai.request.temperature": 0.5, "stage": "final"}
    assert call.response_meta == {"gen_ai.response.system_fingerprint": "fp"}
    assert call.finish_reason == "stop"


def test_the_columns_of_workflows_and_organisations_are_read_from_the_call(span, chat):
    call = call_of(span(1, None, {**chat(), "request_log.workflow_id": "w", "request_log.step_index": "3"}))
    assert (call.workflow_id, call.step_index) == ("w", 3)
    fact = span_facts.fact(span(1, 9, {**chat(), "request_log.workflow_id": "w"}), store_text=False)
    assert not fact.has_request_fields
