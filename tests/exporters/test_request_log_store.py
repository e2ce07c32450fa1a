"""The store: one bad row never takes its batch along, and odd values have a defined outcome."""

import dataclasses
import importlib.metadata
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from otel_telemetry.base import metrics
from otel_telemetry.exporters.request_log.db import coerce

PRICES = importlib.metadata.version("genai-prices")


@pytest.fixture(name="dead_letters")
def dead_letters_fixture(monkeypatch):
    """What the counter of dead letters counted, as (count, attributes)."""
    counted = []
    monkeypatch.setattr(metrics.dead_lettered, "add", lambda n, attributes: counted.append((n, attributes)))
    return counted


class Unreadable(dict[str, Any]):
    """Attributes that break when they are read."""

    def __iter__(self):
        raise RuntimeError("cannot be read")

    def items(self):
        raise RuntimeError("cannot be read")


def test_what_a_write_did_is_reported(store, span, chat):
    spans = [span(1, None, {"request_log.route": "a"}), span(2, 1, chat())]
    written = store.write(spans)
    assert (written.spans, written.requests, written.llm_calls, written.dead_letters) == (2, 1, 1, 0)
    again = store.write(spans)
    assert (again.spans, again.requests, again.llm_calls) == (0, 0, 0)


def test_of_a_span_that_comes_twice_with_different_content_the_first_stays(store, span, chat, rows, tmp_path):
    store.write([span(1, None, chat(tokens=(1, 1)))])
    store.write([span(1, None, chat(tokens=(9, 9)))])
    assert rows(tmp_path / "log.db", "request_log")[0]["prompt_tokens"] == 1


def test_a_span_that_the_database_refuses_goes_aside_and_the_others_are_stored(  # noqa: PLR0917  # fixtures
    store, span, chat, rows, tmp_path, dead_letters
):
    spans = [span(n, None, chat(), trace_id=f"{n:032x}") for n in range(1, 20)]
    refused = span(
        7, None, {**chat(), "gen_ai.input.messages": "secret", "client.address": "secret"}, trace_id="bad\ud800trace"
    )
    written = store.write([*spans[:10], refused, *spans[10:]])
    path = tmp_path / "log.db"
    assert len(rows(path, "request_log")) == 19
    letters = rows(path, "dead_letter")
    assert written.dead_letters == len(letters) == 1
    assert "utf-8" in letters[0]["reason"]
    assert json.loads(letters[0]["item"])["gen_ai.request.model"] == "gpt-4o-mini"
    assert "secret" not in letters[0]["item"]
    assert dead_letters == [(1, {"exporter": "request_log", "reason": "refused"})]


def test_a_span_that_cannot_be_read_goes_aside_and_the_others_are_stored(  # noqa: PLR0917  # fixtures
    store, span, chat, rows, tmp_path, dead_letters
):
    broken = dataclasses.replace(span(1, None, chat()), attributes=Unreadable(chat()))
    with pytest.raises(RuntimeError):
        broken.attributes.items()
    store.write([broken, span(2, None, chat())])
    path = tmp_path / "log.db"
    assert [row["span_id"][-1] for row in rows(path, "request_log")] == ["2"]
    assert "cannot be read" in rows(path, "dead_letter")[0]["reason"]
    assert len(dead_letters) == 1


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("a\x00b", "a\ufffdb"),
        ("\\N", "\\N"),
        ("a\\b\tc\nd\re\\.", "a\\b\tc\nd\re\\."),
        ("a\ud800b", "a?b"),
        ("x" * 10_000_000, "x" * coerce.TEXT_LIMIT),
        ("😀" * 5000, "😀" * coerce.TEXT_LIMIT),
        ("", None),
        (12, "12"),
        (True, "true"),
        ([1], None),
        (b"\x00\xff", None),
    ],
)
def test_odd_text_has_a_defined_outcome_in_columns_and_in_meta(written, span, chat, value, stored):
    requests, calls = written(
        span(1, None, {**chat(), "request_log.route": value, "request_log.odd": value, "gen_ai.response.id": value})
    )
    assert requests[0]["route"] == (stored[: coerce.NAME_LIMIT] if stored is not None else None)
    assert calls[0]["provider_request_id"] == stored
    if isinstance(value, str) and stored is not None:
        assert json.loads(requests[0]["meta"])["odd"] == stored
    if stored is None or len(value if isinstance(value, str) else "") > coerce.TEXT_LIMIT:
        assert value == "" or "route" in json.loads(requests[0]["meta"])["problems"]


def test_odd_keys_and_deep_or_wide_values_are_bounded(written, span):
    deep: list[Any] = []
    for _ in range(500):
        deep = [deep]
    attributes = {"request_log.k\x00\ud800" + "y" * 1000: 1, "request_log.deep": deep, "request_log.wide": [1] * 10_000}
    requests, _ = written(span(1, None, {"request_log.route": "a", **attributes}))
    meta = json.loads(requests[0]["meta"])
    assert len(meta["wide"]) == 256
    assert "wide" in meta["problems"]
    assert len(json.dumps(meta.get("deep"))) < 200  # of what is nested too deep, only the outside can be looked at
    assert max(len(key) for key in meta) == coerce.ID_LIMIT


def test_a_map_of_many_keys_does_not_grow_without_bound(written, span):
    attributes = {f"request_log.k{n}": n for n in range(5_000)}
    requests, _ = written(span(1, None, {**attributes, "request_log.route": "a"}))
    assert len(json.loads(requests[0]["meta"])) < 300
    assert requests[0]["route"] == "a"


def test_times_far_in_past_and_future_are_stored_as_they_are(written, span, chat):
    first = dataclasses.replace(span(1, None, chat()), start_ns=1_000, end_ns=1_001_000)
    last = dataclasses.replace(span(2, None, chat(), trace_id="b" * 32), start_ns=2**64 - 1, end_ns=2**64 - 1)
    requests, _ = written(first, last)
    assert sorted(row["ts"] for row in requests) == ["1970-01-01 00:00:00.000001", "2554-07-21 23:34:33.709551"]
    assert sorted(row["latency_ms"] for row in requests) == [0.0, 1.0]


@pytest.mark.parametrize(("start", "end"), [(0, 1_790_000_000_000_000_000), (1_790_000_000_000_000_000, 0)])
def test_a_span_that_lacks_one_of_its_times_is_stored_at_the_other_and_has_no_latency(written, span, chat, start, end):
    requests, calls = written(dataclasses.replace(span(1, None, chat()), start_ns=start, end_ns=end))
    assert requests[0]["ts"] == calls[0]["ts"] == "2026-09-21 14:13:20.000000"
    assert requests[0]["latency_ms"] is None
    assert (calls[0]["total_latency_ms"], calls[0]["request_latency_ms"]) == (None, None)
    assert "problems" not in json.loads(requests[0]["meta"] or "{}")


def test_a_span_without_times_is_stored_at_the_time_at_which_it_came(written, span, chat):
    before = datetime.now(UTC).replace(tzinfo=None)
    requests, calls = written(dataclasses.replace(span(1, None, chat()), start_ns=0, end_ns=0))
    assert requests[0]["ts"] == calls[0]["ts"]
    assert before <= datetime.fromisoformat(requests[0]["ts"]) <= datetime.now(UTC).replace(tzinfo=None)
    assert (requests[0]["latency_ms"], calls[0]["total_latency_ms"]) == (None, None)


def test_a_trace_that_says_nothing_has_no_row_until_a_span_of_it_does(store, span, chat, rows, tmp_path):
    path = tmp_path / "log.db"

    def sizes():
        return [len(rows(path, table)) for table in ("facts", "request_log")]

    assert store.write([span(1, None, {"http.route": "/chat"}, kind="SERVER"), span(2, 1)]).spans == 2
    assert store.write([span(2, 1), span(3, 2)]).spans == 1
    assert sizes() == [3, 0]
    assert store.write([span(4, 3, chat())]).requests == 1
    assert sizes() == [4, 1]
    assert json.loads(rows(path, "request_log")[0]["meta"])["http_route"] == "/chat"
    assert store.write([span(5, 4), span(3, 2)]).spans == 1
    assert sizes() == [5, 1]


def test_a_call_finds_its_request_when_the_last_span_between_them_comes(store, span, chat, rows, tmp_path):
    def requests():
        return [row["span_id"][-2:] for row in rows(tmp_path / "log.db", "request_log")]

    store.write([span(1, None, {"http.route": "/chat"}, kind="SERVER"), span(2, 1), span(3, 1)])
    store.write([span(6, 5, chat()), span(7, 5)])
    assert store.write([span(5, 4), span(8, 7)]).spans == 2
    assert requests() == []
    assert store.write([span(4, 2), span(3, 1)]).requests == 1
    assert requests() == ["01"]


BAD = {
    "gen_ai.usage.input_tokens": -1,
    "gen_ai.usage.output_tokens": 2**60,
    "gen_ai.usage.cache_read.input_tokens": float("nan"),
    "gen_ai.request.model": "a\x00\ud800" * 100,
    "gen_ai.request.odd": "x" * 10_000_000,
    "gen_ai.request.deep": {"a": [{"b\x00": float("inf")}] * 1_000},
    "request_log.cost_usd": float("nan"),
    "request_log.router_confidence": float("-inf"),
    "request_log.no_such_column": b"\xff" * 1_000,
    "request_log.stage_ms.web": "\x00",
}


def test_bad_values_of_every_kind_cost_no_row_neither_theirs_nor_their_neighbours(written, span, chat, dead_letters):
    far = dataclasses.replace(span(3, 2, {**chat(), **BAD}, trace_id="b" * 32), start_ns=2**64 - 1, end_ns=1)
    spans = [span(1, None, {**chat(), **BAD}), span(2, None, {**BAD}, trace_id="b" * 32), far]
    requests, calls = written(*spans, span(4, None, chat(), trace_id="c" * 32))
    assert [row["span_id"][-1] for row in requests] == ["1", "2", "4"]
    assert [row["span_id"][-1] for row in calls] == ["1", "3", "4"]
    assert [(row["prompt_tokens"], row["completion_tokens"], row["ok"]) for row in requests] == [
        *[(None, None, 1)] * 2,
        (100, 20, 1),
    ]
    assert [row["cost_source"] for row in requests] == ["unpriced", "unpriced", "computed genai-prices/" + PRICES]
    assert all(len(row["meta"]) < 40_000 for row in (*requests[:2], *calls[:2]))
    assert dead_letters == []


def test_of_duplicates_with_different_content_the_one_that_was_stored_first_counts(written, span, chat):
    first, second = span(1, None, chat(tokens=(1, 1))), span(1, None, chat(tokens=(9, 9), model="gpt-4o"))
    requests, calls = written(first, second, span(1, 7, {"request_log.route": "other"}))
    assert [(row["prompt_tokens"], row["model"], row["route"]) for row in requests] == [(1, "gpt-4o-mini", None)]
    assert [(row["prompt_tokens"], row["model"]) for row in calls] == [(1, "gpt-4o-mini")]


def test_a_write_of_nothing_is_fine(store):
    assert store.write([]).spans == 0
