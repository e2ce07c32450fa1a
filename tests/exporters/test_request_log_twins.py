"""One call, one row: a call that several instrumentations report is counted once, and equal calls stay as many."""

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.derive.chunks import facts_of
from otel_telemetry.exporters.request_log.derive.facts import Fact
from otel_telemetry.exporters.request_log.derive.trace import Trace
from otel_telemetry.exporters.request_log.derive.twins import pair
from otel_telemetry.exporters.request_log.read import span_facts
from tests.exporters.conftest import chat, make_span

OURS = "otel_telemetry.instrument.llm_http"
OTHER = "opentelemetry.instrumentation.anthropic"
SECOND = 1_000_000_000


def openinference(model: str = "gpt-4o-mini", tokens: tuple[int, int] = (100, 20), **more: Any) -> dict[str, Any]:
    """Return the attributes of a model call as OpenInference writes them."""
    counts = {"llm.token_count.prompt": tokens[0], "llm.token_count.completion": tokens[1]}
    return {"openinference.span.kind": "LLM", "llm.model_name": model, "llm.provider": "openai", **counts, **more}


def details(number: int, parent: int, attributes: dict[str, Any], **more: Any) -> records.Span:
    """Return a log record of a model call."""
    return make_span(number, parent, attributes, kind="LOG", local_root=False, seconds=0.0, **more)


def ended(spans: list[records.Span], batches: int = 1) -> Trace:
    trace = Trace()
    for at in range(batches):
        trace.add(facts_of([span_facts.to_fact(span, store_text=False) for span in spans[at::batches]]))
    return trace


def counted(spans: list[records.Span]) -> dict[str, tuple[Any, str | None]]:
    """Return the rows of calls, each with its request, by the span that stands for it."""
    return state(ended(spans))[0]


def state(trace: Trace) -> tuple[dict[str, tuple[Any, str | None]], dict[str, tuple[Any, ...]]]:
    calls = {
        fact.span_id: (fact.row, fact.asked_in.span_id if fact.asked_in is not None else None)
        for fact in trace.facts.values()
        if fact.call is not None and fact.is_counted
    }
    requests = {
        fact.span_id: (dict(fact.known().sum.known()), fact.known().sum.calls, fact.known().sum.retries)
        for fact in trace.facts.values()
        if fact.request_state is not None and fact.request_state.is_request
    }
    return calls, requests


REQUEST = make_span(1, None, {"request_log.route": "chat"}, seconds=60.0)


def test_the_same_answer_is_one_call_whoever_reports_it_and_whenever(written):
    answer = {"gen_ai.response.id": "msg_7"}
    requests, calls = written(
        REQUEST,
        make_span(2, 1, {**chat(), **answer}, scope=OURS, start=1),
        make_span(3, 1, {**chat(), **answer}, scope=OTHER, start=9),
        details(4, 1, {**chat(), **answer}, scope="openlit", start=30),
    )
    assert [row["span_id"] for row in calls] == [f"{2:016x}"]
    assert (requests[0]["llm_calls"], requests[0]["prompt_tokens"]) == (1, 100)


def test_an_id_that_a_provider_uses_again_in_other_traces_is_a_call_in_each(written):
    answer = chat(gen_ai__response__id="chatcmpl-1")
    elsewhere = f"{77:032x}"
    _, calls = written(
        REQUEST,
        make_span(2, 1, answer, scope=OURS, start=1),
        make_span(1, None, {"request_log.route": "chat"}, seconds=60.0, trace_id=elsewhere),
        make_span(2, 1, answer, scope=OURS, start=1, trace_id=elsewhere),
        make_span(3, 1, answer, scope=OTHER, start=1, trace_id=elsewhere),
    )
    found = {(row["trace_id"], row["span_id"], row["provider_request_id"]) for row in calls}
    assert found == {(trace, f"{2:016x}", "chatcmpl-1") for trace in (elsewhere, REQUEST.trace_id)}
    assert len({row["request_id"] for row in calls}) == len({row["id"] for row in calls}) == len(calls) == 2


def test_a_call_is_one_in_another_dialect_of_the_same_scope_too():
    mine = make_span(2, 1, chat(gen_ai__response__id="c-1"), start=1.01, seconds=0.5, scope="case")
    theirs = make_span(3, 1, openinference(), start=1, seconds=0.6, scope="case")
    assert list(counted([REQUEST, mine, theirs])) == [mine.span_id]


@pytest.mark.parametrize(
    ("start", "seconds", "count"),
    [(1.0, 2.0, 1), (1.2, 0.5, 1), (0.5, 4.0, 1), (3.0, 0.5, 1), (2.5, 1.5, 2), (3.1, 1.0, 2), (0.2, 0.7, 2)],
)
def test_without_ids_the_time_tells_whether_two_reports_are_of_one_call(start, seconds, count):
    one = make_span(2, 1, chat(), scope="a", start=1.0, seconds=2.0)
    assert len(counted([REQUEST, one, make_span(3, 1, openinference(), start=start, seconds=seconds)])) == count


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("gpt-4o-mini-2024-07-18", 1),
        ("openai/gpt-4o-mini", 1),
        ("gpt-4o-mini-latest", 1),
        ("gpt-4o-mini-audio", 2),
        ("gpt-4o", 2),
    ],
)
def test_a_name_of_a_model_may_have_a_version_behind_it(name, count):
    one = make_span(2, 1, chat("gpt-4o-mini"), scope="a")
    assert len(counted([REQUEST, one, make_span(3, 1, openinference(name))])) == count


@pytest.mark.parametrize(
    "other",
    [
        {"attributes": chat("gpt-4o"), "scope": "b"},
        {"attributes": chat(tokens=(100, 21)), "scope": "b"},
        {"attributes": chat(), "scope": "a"},
        {"attributes": chat(gen_ai__response__id="y"), "scope": "b"},
        {"attributes": chat(), "scope": "b", "service": "worker", "local_root": True},
    ],
)
def test_another_model_count_answer_source_or_service_is_another_call(other):
    one = make_span(2, 1, chat(gen_ai__response__id="x"), scope="a")
    assert len(counted([REQUEST, one, make_span(3, 1, **other)])) == 2


def test_reports_of_one_scope_stay_apart_even_where_their_answers_have_one_id():
    same = chat(gen_ai__response__id="fixed")
    spans = [REQUEST, *(make_span(n, 1, same, scope=OURS, start=n) for n in range(2, 7))]
    assert len(counted(spans)) == 5
    spans += [make_span(n + 10, 1, same, scope=OTHER, start=n) for n in range(2, 5)]
    assert len(counted(spans)) == 5


def test_fifty_equal_prompts_at_once_are_fifty_calls():
    alone = [make_span(n, 1, chat(), scope=OURS, start=1 + n / 1e4, seconds=2 + n % 7 / 1e3) for n in range(2, 52)]
    assert len(counted([REQUEST, *alone])) == 50


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("ids", [True, False])
def test_fifty_equal_prompts_at_once_that_three_report_are_fifty_calls(seed, ids):
    chance = random.Random(seed)  # noqa: S311  # the same ones each time
    spans = [REQUEST]
    for n in range(2, 52):
        start, seconds = 1 + chance.random() / 100, 1 + chance.random()
        attributes = chat(gen_ai__response__id=f"c-{n}") if ids else chat()
        spans.append(make_span(n, 1, attributes, scope=OURS, start=start, seconds=seconds))
        early, late = chance.random() / 1e3, chance.random() / 1e3
        spans.append(make_span(n + 100, 1, openinference(), start=start - early, seconds=seconds + early + late))
        spans.append(make_span(n + 200, 1, attributes, scope=OTHER, start=start - early / 2, seconds=seconds + early))
    chance.shuffle(spans)
    found = counted(spans)
    assert len(found) == 50
    assert {int(span_id, 16) for span_id in found} == set(range(2, 52))


def test_each_retry_is_a_call_of_its_own_though_one_report_is_of_all_of_them():
    refused = {**chat(), "gen_ai.usage.input_tokens": None, "gen_ai.usage.output_tokens": None, "error.type": "429"}
    tries = [make_span(2, 1, refused, scope=OURS, start=1, seconds=0.1)]
    tries.append(make_span(3, 1, chat(http__request__resend_count=1), scope=OURS, start=2))
    found = counted([REQUEST, *tries, make_span(4, 1, openinference(), start=0.9, seconds=2.2)])
    assert list(found) == [tries[0].span_id, tries[1].span_id]


def test_reports_that_count_differently_are_one_row_that_says_so(written):
    requests, calls = written(
        REQUEST,
        make_span(2, 1, chat(tokens=(1_097, 51), gen_ai__response__id="m"), scope=OURS),
        make_span(3, 1, chat(tokens=(1_001, 51), gen_ai__response__id="m"), scope=OTHER),
    )
    assert (len(calls), requests[0]["prompt_tokens"]) == (1, 1_097)
    problems = json.loads(calls[0]["meta"])["problems"]
    assert problems == {"prompt_tokens": "another report of this call (gen_ai) says 1001"}
    assert calls[0]["cost_source"] == "computed"


def test_what_only_the_other_report_knows_is_on_the_row_with_its_usage(written):
    bare = {key: value for key, value in chat(gen_ai__response__id="m").items() if "usage" not in key}
    more = chat(gen_ai__response__id="m", gen_ai__response__finish_reasons=["stop"])
    requests, calls = written(REQUEST, make_span(2, 1, bare, scope=OURS), make_span(3, 1, more, scope=OTHER))
    assert [(row["prompt_tokens"], row["finish_reason"]) for row in calls] == [(100, "stop")]
    assert requests[0]["cost_usd"] > 0


def test_a_report_outside_of_any_request_belongs_where_its_twin_does():
    loose = make_span(2, 77, chat(gen_ai__response__id="m"), scope=OURS, start=1)
    twin = make_span(3, 1, chat(gen_ai__response__id="m"), scope=OTHER, start=1)
    other = make_span(5, None, {"request_log.route": "b"}, start=50)
    assert [asked for _, asked in counted([REQUEST, other, loose, twin]).values()] == [REQUEST.span_id]


@pytest.mark.parametrize(("counts", "retries"), [([0, 1, 2], 2), ([0, 1, 2, 3], 3), ([3], 3), ([1, 1], 2), ([2, 5], 5)])
def test_retries_are_how_often_it_was_tried_again(counts, retries):
    tries = [
        make_span(n, 1, chat(http__request__resend_count=count, error__type="429"), start=n, seconds=0.1)
        for n, count in enumerate(counts, 2)
    ]
    _, requests = state(ended([REQUEST, *tries]))
    assert requests[REQUEST.span_id][2] == retries


def test_the_last_try_tells_its_own_time_and_that_of_all(written):
    failed = {**chat(), "error.type": "429", "gen_ai.usage.input_tokens": None, "gen_ai.usage.output_tokens": None}
    tries = [
        make_span(2 + n, 1, {**failed, "http.request.resend_count": n}, start=n / 10, seconds=0.02) for n in range(3)
    ]
    last = make_span(9, 1, chat(http__request__resend_count=3), start=0.3, seconds=0.02)
    requests, calls = written(REQUEST, last, *tries)
    assert (calls[-1]["request_latency_ms"], calls[-1]["total_latency_ms"]) == (20.0, 320.0)
    assert requests[0]["retries"] == 3


def test_where_earlier_tries_were_not_seen_the_time_of_all_is_unknown():
    last = make_span(9, 1, chat(http__request__resend_count=2), start=0.3, seconds=0.5)
    ((row, _),) = counted([REQUEST, last]).values()
    assert (row.request_latency_ms, row.total_latency_ms) == (500.0, None)


@st.composite
def reported(draw: st.DrawFn) -> list[records.Span]:
    """Draw calls, each reported by one to three sources, nested or beside each other, with and without ids."""
    spans = [REQUEST]
    number = 10
    for call in range(draw(st.integers(1, 6))):
        start, seconds = draw(st.integers(0, 6)), draw(st.integers(1, 4))
        answer = draw(st.sampled_from([None, f"id-{call}", "shared"]))
        parent = 1
        for scope in draw(st.lists(st.sampled_from([OURS, OTHER, "x"]), min_size=1, max_size=3, unique=True)):
            attributes = chat(tokens=draw(st.sampled_from([(100, 20), (100, 20), (7, 8)])))
            if answer is not None and draw(st.booleans()):
                attributes["gen_ai.response.id"] = answer
            if draw(st.integers(0, 4)) == 0:
                attributes["http.request.resend_count"] = draw(st.integers(0, 3))
            make = details if draw(st.integers(0, 5)) == 0 else make_span
            spans.append(make(number, parent, attributes, scope=scope, start=start + draw(st.sampled_from([0, 0.1]))))
            if make is make_span:
                spans[-1] = dataclasses.replace(spans[-1], end_ns=spans[-1].start_ns + seconds * SECOND)
                parent = draw(st.sampled_from([1, number, 99]))
            number += 1
    return spans


@settings(max_examples=300, deadline=None, derandomize=True)
@given(spans=reported(), chance=st.randoms(use_true_random=False))
def test_siblings_and_twins_are_told_apart_alike_in_any_order_split_and_repetition(spans, chance):
    expected = state(ended(spans))
    shuffled = [*spans, *chance.choices(spans, k=3)]
    chance.shuffle(shuffled)
    assert state(ended(shuffled, batches=chance.randrange(1, len(shuffled)))) == expected


@settings(max_examples=200, deadline=None, derandomize=True)
@given(spans=reported())
def test_no_two_reports_of_one_source_are_one_call_and_no_call_has_two_answers(spans):
    trace = ended(spans)
    for fact in trace.facts.values():
        if fact.is_counted:
            cluster = [fact, *fact.others]
            assert len({(each.source, each.call.dialect if each.call else None) for each in cluster}) == len(cluster)
            assert len({each.answer_id for each in cluster} - {None}) <= 1


def test_a_long_trace_of_two_instrumentations_costs_per_batch_what_the_batch_holds(monkeypatch):
    """Count the reports that are compared: they must not grow with the trace."""
    compared: list[int] = []

    def counting(group: list[Fact]) -> list[list[Fact]]:
        compared.append(len(group))
        return pair(group)

    monkeypatch.setattr("otel_telemetry.exporters.request_log.derive.trace.pair", counting)
    trace = Trace()
    trace.add(facts_of([span_facts.to_fact(REQUEST, store_text=False)]))
    for n in range(2, 400):
        two = [make_span(n, 1, chat(), scope=OURS, start=2 * n), make_span(n + 1_000, 1, openinference(), start=2 * n)]
        trace.add(facts_of([span_facts.to_fact(span, store_text=False) for span in two]))
    assert max(compared) <= 4
    assert REQUEST.span_id in state(trace)[1]


FIELD = Path(__file__).parents[3] / "shared" / "field" / "rows" / "otlp"


@pytest.mark.parametrize("name", ["sibling_openinference_langchain_and_ours", "sibling_same_response_id", "resends"])
def test_traces_from_the_field_become_the_rows_that_they_should(name, written):
    path = FIELD / f"{name}.json"
    if not path.exists():
        pytest.skip("recordings from the field are not beside this checkout")
    case = json.loads(path.read_text())
    requests, calls = written(*field_spans(case["otlp"]))
    for column in ("llm_calls", "prompt_tokens", "retries"):
        if column in case["expected"]:
            assert requests[0][column] == case["expected"][column]
    if "last" in case["expected"]:
        assert calls[-1]["request_latency_ms"] == case["expected"]["last"]["request_latency_ms"]


def field_spans(otlp: dict[str, Any]) -> list[records.Span]:
    found = []
    for resource in otlp["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                attributes = {each["key"]: _value(each["value"]) for each in span["attributes"]}
                found.append(
                    records.Span(
                        trace_id=span["traceId"],
                        span_id=span["spanId"],
                        parent_span_id=span.get("parentSpanId") or None,
                        local_root=not span.get("parentSpanId"),
                        name=span["name"],
                        kind="INTERNAL",
                        start_ns=int(span["startTimeUnixNano"]),
                        end_ns=int(span["endTimeUnixNano"]),
                        status="UNSET",
                        status_message="",
                        attributes=attributes,
                        events=(),
                        resource={"service.name": "app"},
                        scope=scope.get("scope", {}).get("name", ""),
                    )
                )
    return found


def _value(value: dict[str, Any]) -> Any:
    return int(value["intValue"]) if "intValue" in value else next(iter(value.values()))
