"""Retention: what is old goes, on time and on both databases; what is not stays, and the disk gets its space back."""

import dataclasses
import logging
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from otel_telemetry.base import metrics
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.store import retention
from otel_telemetry.exporters.request_log.store.retention import Retention
from otel_telemetry.exporters.request_log.store.store import open_store

NOW = datetime.now(UTC)
TABLES = ("request_log", "llm_call", "trace_facts")


@pytest.fixture(name="open_")
def open_fixture(url):
    stores = []

    def open_(**settings):
        stores.append(open_store(RequestLogSettings(url=url, **settings)))
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


@pytest.fixture(name="asked")
def asked_fixture(span, chat):
    """Return the spans of one request with texts, so many days ago."""

    def asked(number: int, days: float):
        attributes = {
            "request_log.query_text": "secret?",
            "request_log.answer_text": "secret!",
            "request_log.route": "a",
        }
        call = {**chat(), "gen_ai.input.messages": "secret?", "gen_ai.output.messages": "secret!"}
        spans = [span(1, None, attributes, trace_id=f"{number:032x}"), span(2, 1, call, trace_id=f"{number:032x}")]
        start = int((NOW - timedelta(days=days)).timestamp()) * 1_000_000_000
        return [dataclasses.replace(each, start_ns=start, end_ns=start + 1_000_000_000) for each in spans]

    return asked


def count(store, name: str, condition: str = "1 = 1") -> int:
    with store._engine.connect() as connection:
        query = f"SELECT count(*) FROM {name} WHERE {condition}"  # noqa: S608
        return int(connection.exec_driver_sql(query).scalar_one())


def everything(store) -> str:
    with store._engine.connect() as connection:
        return "".join(str(connection.execute(sa.select(table)).all()) for table in schema.metadata.sorted_tables)


def test_rows_older_than_the_time_go_and_the_others_stay(open_, asked):
    store = open_()
    for number in range(1, 41):
        store.write(asked(number, number * 10))
    trim = Retention(store._engine, NOW - timedelta(days=95), None)
    due = trim.due()
    assert due == {(name, "row"): n for name, n in zip(TABLES, (31, 31, 31), strict=True)}
    found = [(step.table, step.count) for step in trim.steps() if step.what == "row"]
    assert {name: sum(n for table, n in found if table == name) for name in TABLES} == {
        name: due[name, "row"] for name in TABLES
    }
    assert [count(store, name) for name in TABLES] == [9, 9, 9]
    assert trim.due() == {}
    store.write(asked(1, 10))
    assert count(store, "llm_call") == 9


def test_texts_older_than_their_time_are_removed_everywhere_and_the_rows_stay(open_, asked, span):
    store = open_(store_text=True)
    below = span(3, 1, {"request_log.query_text": "secret below"}, trace_id=f"{1:032x}")
    old = asked(1, 40)
    store.write([*old, dataclasses.replace(below, start_ns=old[0].start_ns, end_ns=old[0].end_ns)])
    assert "secret" in everything(store)
    Retention(store._engine, None, NOW - timedelta(days=30)).run(10)
    assert "secret" not in everything(store)
    store.write(asked(2, 20))
    before = everything(store)
    trim = Retention(store._engine, None, NOW - timedelta(days=30))
    assert trim.due() == {}
    trim.run(10)
    assert everything(store) == before
    assert before.count("secret?") >= 2
    assert [count(store, name) for name in TABLES] == [2, 2, 2]


def test_a_trace_that_still_gets_spans_is_remembered_whole(open_, asked, span, chat):
    store = open_()
    store.write(asked(1, 40))
    late = span(3, 1, chat(), trace_id=f"{1:032x}")
    start = int(NOW.timestamp()) * 1_000_000_000
    store.write([dataclasses.replace(late, start_ns=start, end_ns=start + 1)])
    Retention(store._engine, NOW - timedelta(days=30), None).run(10)
    assert [count(store, name) for name in TABLES] == [0, 1, 2]
    later = dataclasses.replace(late, span_id=f"{4:016x}", start_ns=start, end_ns=start + 1)
    written = store.write([later])
    assert (written.llm_calls, written.dead_letters) == (1, 0)


@pytest.mark.parametrize("content", ["a call", "nothing"])
def test_a_trace_goes_when_its_newest_span_is_old(open_, asked, span, chat, content):
    store = open_()
    last = span(3, 1, chat() if content == "a call" else None, trace_id=f"{1:032x}")
    start = int((NOW - timedelta(days=20)).timestamp()) * 1_000_000_000
    store.write([*asked(1, 40), dataclasses.replace(last, start_ns=start, end_ns=start + 1)])
    trim = Retention(store._engine, NOW - timedelta(days=30), None)
    assert ("trace_facts", "row") not in trim.due()
    trim.run(10)
    assert [count(store, name) for name in TABLES] == [0, 1 if content == "a call" else 0, 1]
    assert Retention(store._engine, NOW - timedelta(days=10), None).due()["trace_facts", "row"] == 1
    late = dataclasses.replace(last, span_id=f"{4:016x}", attributes=chat(), start_ns=start, end_ns=start + 1)
    assert store.write([late]).llm_calls == 1
    assert count(store, "trace_facts") == 2
    Retention(store._engine, NOW - timedelta(days=10), None).run(10)
    assert f"{1:032x}" not in everything(store)


def test_of_a_trace_nothing_is_left(open_, asked):
    store = open_()
    store.write([*asked(1, 40), *asked(2, 20)])
    trim = Retention(store._engine, NOW - timedelta(days=30), None)
    assert trim.due()["trace_facts", "row"] == 1
    trim.run(10)
    assert [count(store, name) for name in TABLES] == [1, 1, 1]
    assert f"{1:032x}" not in everything(store)


def test_writing_trims_at_most_once_in_200_writes(open_, asked, monkeypatch):
    runs = []
    real = Retention.run

    def counted(self, seconds):
        runs.append(seconds)
        real(self, seconds)

    monkeypatch.setattr(Retention, "run", counted)
    store = open_(retention_days=30)
    store.write(asked(1, 40))
    assert (len(runs), count(store, "request_log")) == (1, 0)
    for _ in range(199):
        store.write(asked(2, 40))
    assert (len(runs), count(store, "request_log")) == (1, 1)
    store.write([])
    assert (len(runs), count(store, "request_log")) == (2, 0)
    assert max(runs) <= 0.5


def test_without_retention_nothing_is_ever_deleted(open_, asked):
    store = open_()
    store.write(asked(1, 20_000))
    assert count(store, "request_log") == 1


def test_a_trim_that_fails_is_told_and_the_write_stands(open_, asked, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(Retention, "run", broken)
    store = open_(retention_days=30)
    with caplog.at_level(logging.WARNING):
        assert store.write(asked(1, 0)).requests == 1
    assert "could not be trimmed" in caplog.text


def test_a_trim_stops_when_its_time_is_up_and_goes_on_later(open_, asked, monkeypatch):
    monkeypatch.setattr(retention, "_CHUNK", 5)
    store = open_()
    store.write([span for number in range(1, 31) for span in asked(number, 100 + number)])
    trim = Retention(store._engine, NOW - timedelta(days=30), None)
    runs = 0
    while trim.due():
        trim.run(0)
        runs += 1
        assert runs < 200
    assert runs > 5
    assert [count(store, name) for name in TABLES] == [0, 0, 0]


def test_spans_that_say_nothing_go_with_their_trace(open_, span, monkeypatch):
    monkeypatch.setattr(retention, "_CHUNK", 2)
    store = open_()
    for number, days in ((1, 40), (2, 41), (3, 42), (4, 20)):
        start = int((NOW - timedelta(days=days)).timestamp()) * 1_000_000_000
        store.write(
            [
                dataclasses.replace(span(n, None, trace_id=f"{trace:032x}"), start_ns=start, end_ns=start + 1)
                for trace, n in ((number, 1), (9, number))
            ]
        )
    trim = Retention(store._engine, NOW - timedelta(days=30), None)
    assert trim.due() == {("trace_facts", "row"): 3}
    trim.run(10)
    assert count(store, "trace_facts") == 5
    assert trim.due() == {}


def test_what_was_trimmed_is_counted(open_, asked, monkeypatch):
    counted = []
    monkeypatch.setattr(metrics.rows_trimmed, "add", lambda n, attributes: counted.append((attributes["table"], n)))
    store = open_()
    store.write(asked(1, 100))
    Retention(store._engine, NOW - timedelta(days=30), None).run(10)
    assert sorted(counted) == [("llm_call", 1), ("request_log", 1), ("trace_facts", 1)]
