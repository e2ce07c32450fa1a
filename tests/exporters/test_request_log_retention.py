"""Retention: what is old goes, on time and on both databases; what is not stays, and the disk gets its space back."""

import dataclasses
import logging
import time
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from otel_telemetry import metrics
from otel_telemetry.exporters.request_log import retention, schema, waiting
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.retention import Retention
from otel_telemetry.exporters.request_log.store import open_store

NOW = datetime.now(UTC)
TABLES = ("request_log", "llm_call", "span_node")
PACKED = ("request_log", "llm_call", "span_packed")


@pytest.fixture(name="open_")
def open_fixture(url):
    stores = []

    def open_(**settings):
        stores.append(open_store(RequestLogSettings(url=url, **settings)))
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


@pytest.fixture(name="tables", params=["packed", "not packed"])
def tables_fixture(request, monkeypatch):
    """Return the tables in which there is a row for each trace, and, where it is not packed, one for each span."""
    if request.param == "packed":
        return PACKED
    monkeypatch.setattr(waiting, "MOST_SPANS", 0)
    return TABLES


@pytest.fixture(name="asked")
def asked_fixture(span, chat):
    """Return the spans of one request with texts, so many days ago."""

    def asked(number: int, days: float):
        said = {"request_log.query_text": "secret?", "request_log.answer_text": "secret!", "request_log.route": "a"}
        call = {**chat(), "gen_ai.input.messages": "secret?", "gen_ai.output.messages": "secret!"}
        spans = [span(1, None, said, trace_id=f"{number:032x}"), span(2, 1, call, trace_id=f"{number:032x}")]
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


def test_rows_older_than_the_time_go_and_the_others_stay(open_, asked, tables):
    each = 1 if tables is PACKED else 2
    store = open_()
    for number in range(1, 41):
        store.write(asked(number, number * 10))
    trim = Retention(store._engine, NOW - timedelta(days=95), None)
    due = trim.due()
    assert due == {(name, "row"): n for name, n in zip(tables, (31, 31, 31 * each), strict=True)}
    told = [(step.table, step.count) for step in trim.steps() if step.what == "row"]
    assert {name: sum(n for table, n in told if table == name) for name in tables} == {
        name: due[name, "row"] for name in tables
    }
    assert [count(store, name) for name in tables] == [9, 9, 9 * each]
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
    assert [count(store, name) for name in TABLES] == [2, 2, 5]


def test_a_trace_that_still_gets_spans_is_remembered_whole(open_, asked, span, chat):
    store = open_()
    store.write(asked(1, 40))
    late = span(3, 1, chat(), trace_id=f"{1:032x}")
    start = int(NOW.timestamp()) * 1_000_000_000
    store.write([dataclasses.replace(late, start_ns=start, end_ns=start + 1)])
    Retention(store._engine, NOW - timedelta(days=30), None).run(10)
    assert [count(store, name) for name in TABLES] == [0, 1, 3]
    later = dataclasses.replace(late, span_id=f"{4:016x}", start_ns=start, end_ns=start + 1)
    written = store.write([later])
    assert (written.llm_calls, written.dead_letters) == (1, 0)


@pytest.mark.parametrize("said", ["a call", "nothing"])
def test_a_packed_trace_goes_when_its_newest_span_is_old(open_, asked, span, chat, said):
    store = open_()
    last = span(3, 1, chat() if said == "a call" else None, trace_id=f"{1:032x}")
    start = int((NOW - timedelta(days=20)).timestamp()) * 1_000_000_000
    store.write([*asked(1, 40), dataclasses.replace(last, start_ns=start, end_ns=start + 1)])
    trim = Retention(store._engine, NOW - timedelta(days=30), None)
    assert ("span_packed", "row") not in trim.due()
    trim.run(10)
    assert [count(store, name) for name in PACKED] == [0, 1 if said == "a call" else 0, 1]
    assert Retention(store._engine, NOW - timedelta(days=10), None).due()["span_packed", "row"] == 1
    late = dataclasses.replace(last, span_id=f"{4:016x}", attributes=chat(), start_ns=start, end_ns=start + 1)
    assert store.write([late]).llm_calls == 1
    assert count(store, "span_packed") == 0
    assert count(store, "span_node") + count(store, "span_waiting") == 4
    Retention(store._engine, NOW - timedelta(days=10), None).run(10)
    assert f"{1:032x}" not in everything(store)


def test_of_a_packed_trace_nothing_is_left(open_, asked):
    store = open_()
    store.write([*asked(1, 40), *asked(2, 20)])
    trim = Retention(store._engine, NOW - timedelta(days=30), None)
    assert trim.due()["span_packed", "row"] == 1
    trim.run(10)
    assert [count(store, name) for name in PACKED] == [1, 1, 1]
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


def test_a_trim_stops_when_its_time_is_up_and_goes_on_later(open_, asked, monkeypatch, tables):
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
    assert [count(store, name) for name in (*tables, "span_node")] == [0, 0, 0, 0]


def test_spans_that_say_nothing_go_with_their_trace(open_, span, monkeypatch, tables):
    monkeypatch.setattr(retention, "_CHUNK", 2)
    of_spans = "span_packed" if tables is PACKED else "span_waiting"
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
    assert trim.due() == {(of_spans, "row"): 3}
    trim.run(10)
    assert (count(store, of_spans), count(store, "span_waiting")) == ((1, 4) if tables is PACKED else (5, 5))
    assert trim.due() == {}


def test_what_was_trimmed_is_counted(open_, asked, monkeypatch, tables):
    told = []
    monkeypatch.setattr(metrics.rows_trimmed, "add", lambda n, attributes: told.append((attributes["table"], n)))
    store = open_()
    store.write(asked(1, 100))
    Retention(store._engine, NOW - timedelta(days=30), None).run(10)
    assert sorted(told) == [("llm_call", 1), ("request_log", 1), (tables[-1], 1 if tables is PACKED else 2)]


def test_a_database_of_the_first_schema_is_upgraded_and_its_texts_are_found(open_, asked, url):
    store = open_(store_text=True)
    store.write(asked(1, 40))
    with store._engine.begin() as connection:
        for view in ("ask_logs", "events", "chronicle_events"):
            connection.exec_driver_sql(f"DROP VIEW {view}")
        for table in ("run", "step", "event", "state", "seen"):
            connection.exec_driver_sql(f"DROP TABLE workflow_{table}")
        connection.exec_driver_sql("DROP TABLE feedback")
        connection.exec_driver_sql("DROP TABLE browser_event")
        connection.exec_driver_sql("DROP TABLE span_waiting")
        connection.exec_driver_sql("DROP TABLE span_packed")
        for index in ("span_node_ts", "span_node_text", "request_log_text", "llm_call_text"):
            connection.exec_driver_sql(f"DROP INDEX ix_{index}")
        connection.exec_driver_sql("DROP INDEX ix_request_log_report")
        connection.exec_driver_sql("CREATE INDEX ix_request_log_route_ts ON request_log (route, ts)")
        for index in ("request_log_time", "request_log_cache", "llm_call_report"):
            connection.exec_driver_sql(f"DROP INDEX ix_{index}")
        connection.exec_driver_sql("CREATE INDEX ix_request_log_ts ON request_log (ts)")
        connection.exec_driver_sql("CREATE INDEX ix_llm_call_model_ts ON llm_call (model, ts)")
        for column in ("has_text", "of_log", "response_id", "calls_above"):
            connection.exec_driver_sql(f"ALTER TABLE span_node DROP COLUMN {column}")
        connection.exec_driver_sql("UPDATE otel_telemetry_version SET version_num = '0001'")
    store.close()
    store = open_(store_text=True)
    assert count(store, "span_node", "has_text") == 1
    Retention(store._engine, None, NOW - timedelta(days=30)).run(10)
    assert "secret" not in everything(store)
    assert store.write(asked(2, 0)).requests == 1


def test_sqlite_gives_the_space_back(open_at, asked, tmp_path):
    path = tmp_path / "log.db"
    store = open_at(path)
    store.write([span for number in range(1, 2_001) for span in asked(number, 100)])
    store.close()  # what is in the write-ahead log goes into the file
    store.open()
    full = path.stat().st_size
    Retention(store._engine, NOW - timedelta(days=30), None).run(60)
    assert path.stat().st_size < full / 4
    assert (tmp_path / "log.db-wal").stat().st_size == 0


def test_sqlite_does_not_wait_for_readers_when_it_empties_its_log(open_at, asked, tmp_path):
    store = open_at(tmp_path / "log.db")
    store.write([span for number in range(1, 501) for span in asked(number, 100)])
    reader = sa.create_engine(f"sqlite:///{tmp_path / 'log.db'}")
    with reader.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        assert connection.exec_driver_sql("SELECT count(*) FROM llm_call").scalar() == 500
        start = time.monotonic()
        Retention(store._engine, NOW - timedelta(days=30), None).run(60)
        assert time.monotonic() - start < 60
        assert connection.exec_driver_sql("SELECT count(*) FROM llm_call").scalar() == 500
    reader.dispose()
    assert store.write(asked(9, 0)).requests == 1


def test_postgres_drops_the_partitions_of_months_that_are_over(postgres, asked):
    store = open_store(RequestLogSettings(url=postgres.database()))
    engine = store._engine
    assert engine is not None
    store.write([span for number, days in enumerate((5, 70, 100), 1) for span in asked(number, days)])

    def partitions() -> set[str]:
        query = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'llm_call'::regclass"
        with engine.connect() as connection:
            return set(connection.exec_driver_sql(query).scalars())

    old = f"llm_call_{NOW - timedelta(days=100):%Y_%m}"
    assert old in partitions()
    Retention(engine, NOW - timedelta(days=66), None).run(10)
    assert old not in partitions()
    assert [count(store, name) for name in PACKED] == [1, 1, 1]
    assert store.write(asked(3, 100)).llm_calls == 1
    store.write(asked(4, 100))
    assert count(store, "llm_call") == 3
    store.close()
