"""A trace that came whole is one row; what a later span makes of it is what it would be had it never been packed."""

from typing import Any

import pytest
import sqlalchemy as sa

from otel_telemetry import records
from otel_telemetry.exporters.request_log import packed, schema
from otel_telemetry.exporters.request_log.store import Store
from tests.exporters.unpacking import rows_of

OF_SPANS = (schema.span_packed, schema.span_node, schema.span_waiting)
ALL = (schema.request_log, schema.llm_call, schema.span_node, schema.span_waiting)


@pytest.fixture(name="opened")
def opened_fixture(open_url, url):
    return open_url(url)


@pytest.fixture(name="whole")
def whole_fixture(span, chat) -> list[records.Span]:
    """A request with a branch, two calls of which one wraps a third, and a span that says nothing."""
    return [
        span(1, None, {"request_log.route": "web", "http.route": "/chat"}, kind="SERVER", seconds=5.0),
        span(2, 1),
        span(3, 2, chat(gen_ai__response__id="a", request_log__stage="final"), start=1.0),
        span(4, 2, {**chat("gpt-4o"), "gen_ai.operation.name": "chat", "gen_ai.response.id": "b"}, start=2.0),
        span(5, 4, {**chat("gpt-4o"), "gen_ai.response.id": "b"}, start=2.0),
        span(6, 1),
    ]


def engine_of(store: Store) -> sa.Engine:
    assert store._engine is not None
    return store._engine


def sizes(store: Store) -> list[int]:
    """How many rows there are of traces that are packed, and of spans that are not: derived, and waiting."""
    with engine_of(store).connect() as connection:
        return [connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() for table in OF_SPANS]


def contents(store: Store) -> dict[str, list[Any]]:
    return rows_of(engine_of(store), ALL)


def emptied(store: Store) -> Store:
    with engine_of(store).begin() as connection:
        for table in (*ALL, schema.span_packed):
            connection.execute(sa.delete(table))
    return store


def test_a_trace_that_came_whole_has_one_row_beside_its_request_and_its_calls(opened, whole):
    written = opened.write(whole)
    assert (written.spans, written.requests, written.llm_calls) == (6, 1, 2)
    assert sizes(opened) == [1, 0, 0]
    with engine_of(opened).connect() as connection:
        ((number, key, newest, body),) = connection.execute(sa.select(schema.span_packed))
    assert key == packed.trace_key(whole[0].trace_id)
    assert newest.isoformat() == "2026-09-21T14:13:22+00:00"
    pack = packed.unpacked(number, body)
    assert pack.keys() == {(each.trace_id, each.span_id) for each in whole}


@pytest.mark.parametrize("late", range(6))
def test_a_span_that_comes_later_changes_what_it_would_have_changed_in_any_order(opened, whole, late):
    opened.write(whole)
    expected = contents(opened)
    emptied(opened).write(whole[:late] + whole[late + 1 :])
    opened.write([whole[late]])
    assert contents(opened) == expected
    assert opened.write(whole).spans == 0


def test_a_further_span_unpacks_a_trace_for_good(opened, whole, span, chat):
    opened.write(whole)
    assert opened.write([span(7, 6, chat("gpt-4o"))]).llm_calls == 1
    assert sizes(opened) == [0, 7, 0]
    found = contents(opened)["request_log"][0]
    assert found["llm_calls"] == 3
    assert opened.write([span(8, 7)]).spans == 1
    assert sizes(opened) == [0, 7, 1]


def test_what_comes_again_leaves_a_packed_trace_as_it_is(opened, whole):
    opened.write(whole)
    before = contents(opened)
    assert opened.write([*whole[2:], whole[0]]).spans == 0
    assert opened.write(whole).spans == 0
    assert sizes(opened) == [1, 0, 0]
    assert contents(opened) == before


def test_traces_beside_a_packed_one_are_written_whatever_becomes_of_it(opened, whole, span, chat):
    opened.write(whole)
    other = [span(1, None, chat(), trace_id="b" * 32, kind="SERVER"), span(2, 1, trace_id="b" * 32)]
    assert opened.write([*other, whole[3]]).spans == 2
    assert opened.write([span(3, 2, chat(), trace_id="b" * 32), *whole]).spans == 1
    assert sizes(opened) == [1, 3, 0]


def test_spans_that_say_nothing_are_packed_too(opened, span):
    assert opened.write([span(1, None, {"http.route": "/"}, kind="SERVER"), span(2, 1), span(3, 2)]).spans == 3
    assert sizes(opened) == [1, 0, 0]


@pytest.mark.parametrize(
    ("why", "spans"),
    [
        ("a span in between is missing", [(1, None, {}), (3, 2, {"request_log.stage": "web"})]),
        ("its request has an id of the app's", [(1, None, {"request_log.id": "r-1"})]),
        ("texts are stored", [(1, None, {"request_log.query_text": "why?", "request_log.route": "a"})]),
        ("it has too many spans", [(1, None, {}), *((n, 1, {}) for n in range(2, packed.MOST_SPANS + 2))]),
    ],
)
def test_a_trace_is_not_packed_where(open_url, url, span, why, spans):
    store = open_url(url, store_text=True)
    assert store.write([span(*each) for each in spans]).spans == len(spans), why
    assert sizes(store)[0] == 0


def test_a_trace_of_which_spans_are_known_already_is_not_packed(opened, whole, span):
    opened.write([span(9, 8)])
    opened.write(whole)
    assert sizes(opened)[0] == 0


def test_traces_that_have_the_same_number_are_told_apart(opened, whole, span, chat, monkeypatch):
    monkeypatch.setattr(packed, "trace_key", lambda _: -7)
    other = [span(1, None, chat(), trace_id="b" * 32)]
    opened.write(whole)
    opened.write(other)
    assert sizes(opened) == [2, 0, 0]
    opened.write([span(2, 1, trace_id="b" * 32)])
    assert sizes(opened) == [1, 1, 1]
    assert opened.write([*whole, *other]).spans == 0


def test_a_sum_of_any_size_is_formed_anew(opened, span, chat):
    """Sums are in pico-dollars: of what costs more than nine million dollars they exceed 64 bits."""
    calls = [span(number, 1, {**chat(), "request_log.cost_usd": 999_999}) for number in range(2, 13)]
    opened.write([span(1, None, {"request_log.route": "a"}), *calls])
    assert sizes(opened)[0] == 1
    opened.write([span(13, 1, {**chat(), "request_log.cost_usd": 1})])
    assert contents(opened)["request_log"][0]["cost_usd"] == 11 * 999_999 + 1
    assert sizes(opened) == [0, 13, 0]


def test_a_sum_that_has_to_be_formed_anew_in_a_batch_is_formed(opened, span, chat):
    """The call that ended last turns out to wrap another one, in the batch with which all of them come."""
    spans = [span(1, None, {"request_log.route": "a"}, seconds=9.0), span(2, 1, chat("gpt-4o"), seconds=8.0)]
    spans += [span(3, 2, chat("gpt-4o-mini"), seconds=2.0), span(4, 1, chat("o3"), seconds=1.0)]
    opened.write(spans)
    at_once = contents(opened)
    emptied(opened)
    for each in spans:
        opened.write([each])
    assert contents(opened) == at_once
    assert at_once["request_log"][0]["llm_calls"] == 2
