"""What follows from a plain trace by a few comparisons is what follows from it by all the steps of trace.py."""

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.derive import chunks
from otel_telemetry.exporters.request_log.derive.facts import Fact
from otel_telemetry.exporters.request_log.derive.plain import PlainTrace, plain
from otel_telemetry.exporters.request_log.derive.trace import Trace
from otel_telemetry.exporters.request_log.read import span_facts
from otel_telemetry.exporters.request_log.store import tables
from tests.exporters.test_request_log_order import SAYINGS, START, traces

CALLS = [saying for saying in SAYINGS if "gen_ai.operation.name" in saying and "request_log.stage" not in saying]
REQUESTS = [{"request_log.route": "a"}, {"request_log.id": "r-1", "request_log.prompt_tokens": 7}, {}]


def facts(spans: Sequence[records.Span]) -> list[Fact]:
    return chunks.facts_of([span_facts.to_fact(span, store_text=False) for span in spans])


def derived(trace: Trace | PlainTrace) -> dict[str, Any]:
    """Return the rows of a trace, to which request each call belongs, and which ids the app gave."""
    requests = {
        span_id: tables._request(fact, "id") for span_id, fact in trace.requests.items() if fact.known().is_request
    }
    calls = {
        span_id: (fact.row, fact.asked_in.span_id if fact.asked_in is not None else None)
        for span_id, fact in trace.calls.items()
        if fact.is_counted
    }
    return {"requests": requests, "calls": calls, "named": {fact.span_id for fact in trace.claimants()}}


def same(spans: list[records.Span]) -> bool:
    """Compare the two ways where there are two; return whether there are."""
    found = plain(facts(spans))
    if found is None:
        return False
    whole = Trace()
    whole.add(facts(spans))
    assert derived(found) == derived(whole)
    return True


def span_of(number: int, parent: int | None, attributes: dict[str, Any], **more: Any) -> records.Span:
    given: dict[str, Any] = {
        "trace_id": "1" * 32,
        "span_id": f"{number:016x}",
        "parent_span_id": None if parent is None else f"{parent:016x}",
        "local_root": parent is None,
        "name": "span",
        "kind": "INTERNAL",
        "start_ns": START + number,
        "end_ns": START + number + 1_000_000,
        "status": "UNSET",
        "status_message": "",
        "attributes": attributes,
        "events": (),
        "resource": {"service.name": "chat"},
    }
    return records.Span(**given | more)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(spans=traces(), chance=st.randoms(use_true_random=False))
def test_a_trace_of_any_kind_has_the_same_rows_either_way(spans, chance):
    one = [span for span in spans if span.trace_id == spans[0].trace_id]
    chance.shuffle(one)
    same(list({span.span_id: span for span in one}.values()))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(chance=st.randoms(use_true_random=False))
def test_a_request_above_its_calls_is_plain(chance):
    spans = [span_of(1, chance.choice([None, 99]), chance.choice(REQUESTS), local_root=True)]
    between = [1]
    for number in range(2, 2 + chance.randrange(1, 6)):
        saying = chance.choice([{}, *CALLS])
        spans.append(span_of(number, chance.choice(between), saying, status=chance.choice(["UNSET", "ERROR"])))
        if not saying:
            between.append(number)
    chance.shuffle(spans)
    found = facts(spans)
    assert same(spans) == (any(fact.call is not None or fact.has_request_fields for fact in found))


def test_what_needs_more_than_comparisons_is_not_plain(chat):
    request, call = span_of(1, None, {"request_log.route": "a"}), span_of(2, 1, chat())
    others = {
        "a call below a call": span_of(3, 2, chat()),
        "a call that was tried again": span_of(3, 1, {**chat(), "http.request.resend_count": 2}),
        "a call of another source": span_of(3, 1, chat(), scope="another"),
        "a call that says something of its request": span_of(3, 1, {**chat(), "request_log.route": "b"}),
        "a stage": span_of(3, 1, {"request_log.stage": "web"}),
        "another request": span_of(3, 1, {"request_log.route": "b"}),
        "where it enters again": span_of(3, 1, {}, local_root=True),
        "another service": span_of(3, 1, chat(), resource={"service.name": "worker"}),
        "a call whose parent is missing": span_of(3, 9, chat()),
        "a log record": span_of(3, 2, chat(), kind="LOG"),
    }
    assert same([request, call])
    for what, span in others.items():
        assert not same([request, call, span]), what
    round_about = [span_of(3, 4, {}), span_of(4, 3, {}), span_of(5, 4, chat())]
    assert not same([request, call, *round_about])
