"""Answers from a cache of the app are no model calls, whoever tells of them: a span, or a log record in its context."""

import json
from itertools import permutations
from typing import Any

import pytest

from otel_telemetry.exporters.request_log.derive import chunks
from otel_telemetry.exporters.request_log.derive.trace import Trace
from otel_telemetry.exporters.request_log.read import span_facts
from tests.exporters.conftest import chat, make_span

FROM_CACHE = {**chat(), "otel_telemetry.answered_from_cache": True}


def spans() -> list[Any]:
    """Return a request with a cached answer and a call; a log record tells of each, too."""
    log: Any = {"kind": "LOG", "local_root": False, "seconds": 0.0}
    return [
        make_span(1, kind="SERVER"),
        make_span(2, 1, FROM_CACHE),
        make_span(3, 2, chat(), **log),
        make_span(4, 1, chat(gen_ai__response__id="a")),
        make_span(5, 4, chat(gen_ai__response__id="a"), **log),
    ]


def counted(trace: Trace) -> list[int]:
    return sorted(int(fact.span_id, 16) for fact in trace.facts.values() if fact.call is not None and fact.is_counted)


def test_neither_a_cached_answer_nor_its_log_record_is_a_call_in_any_order():
    for order in permutations(spans()):
        trace = Trace()
        for span in order:
            fact = span_facts.to_fact(span, store_text=False)
            trace.add(chunks.load(chunks.row([fact])[-1]))  # as it is stored and read again
        assert counted(trace) == [4], [span.span_id for span in order]


def test_a_cached_answer_makes_no_row(written):
    requests, calls = written(*spans())
    assert [call["span_id"] for call in calls] == [f"{4:016x}"]
    assert [request["llm_calls"] for request in requests] == [1]


@pytest.mark.parametrize(
    ("cost", "text", "count"),
    [(0, "fine", 0), (0.0, "fine", 0), (None, "fine", 1), (0.5, "fine", 1), (None, '{"total_cost": 0}', 1)],
)
def test_langsmith_tells_of_cached_answers_by_their_cost(cost, text, count, written):
    message: dict[str, Any] = {"content": text, "usage_metadata": {"input_tokens": 7}}
    if cost is not None:
        message["usage_metadata"]["total_cost"] = cost
    completion = json.dumps({"generations": [[{"message": {"kwargs": message}}]]})
    usage = {"gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 2, "gen_ai.request.model": "gpt-4o-mini"}
    span = make_span(
        2, 1, {"langsmith.span.kind": "llm", "gen_ai.operation.name": "chat", "gen_ai.completion": completion, **usage}
    )
    _, calls = written(make_span(1, kind="SERVER"), span)
    assert len(calls) == count
