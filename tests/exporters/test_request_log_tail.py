"""Tail: every request that is committed is shown once, whoever wrote it, on both databases."""

import itertools
import threading
from collections.abc import Iterator
from typing import cast

import pytest
import sqlalchemy as sa

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import postgres, schema
from otel_telemetry.exporters.request_log.operate import tail
from otel_telemetry.exporters.request_log.operate.tail import Filter, Tail
from otel_telemetry.exporters.request_log.store.store import open_store

ALL = Filter()


@pytest.fixture(name="store")
def store_fixture(url):
    store = open_store(RequestLogSettings(url=url))
    yield store
    store.close()


@pytest.fixture(name="asked")
def asked_fixture(span, chat):
    def asked(number: int, model: str = "gpt-4o-mini", status: str = "UNSET", **attributes):
        trace = f"{number:032x}"
        about = {"request_log.route": "a", **{f"request_log.{name}": value for name, value in attributes.items()}}
        return [
            span(1, None, about, trace_id=trace, start=number, status=status),
            span(2, 1, chat(model), trace_id=trace, start=number),
        ]

    return asked


@pytest.fixture(name="following")
def following_fixture(url):
    """Follow in a thread of its own; returns what reads the numbers of the traces that were shown."""
    stop = threading.Event()
    threads = []

    def waited():
        if stop.is_set():
            raise StopAsyncIteration

    def follow(wanted: Filter = ALL):
        followed: list[records.Request] = []
        ready, more = threading.Event(), threading.Condition()

        def run():
            with Tail(url, wanted) as rows:
                rows.last(0)
                ready.set()
                try:
                    for row in rows.follow(waited):
                        with more:
                            followed.append(row)
                            more.notify_all()
                except StopAsyncIteration:
                    return

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        assert ready.wait(20)

        def numbers(count: int) -> list[int]:
            with more:
                more.wait_for(lambda: len(followed) >= count, 20)
                return [int(row.trace_id, 16) for row in followed]

        return numbers

    yield follow
    stop.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_requests_are_told_in_the_order_of_their_commits(store, asked, following):
    store.write(asked(1))
    numbers = following()
    store.write(asked(5))
    assert numbers(1) == [5]
    store.write([*asked(3), *asked(4)])
    store.write(asked(2))  # an older one that comes late
    assert numbers(4) == [5, 3, 4, 2]


def test_a_row_that_is_written_anew_is_told_again_and_one_that_stays_is_not(store, asked, following, span):
    numbers = following()
    store.write(asked(1))
    store.write(asked(2))
    assert numbers(2) == [1, 2]
    store.write(asked(1))  # known already
    store.write([span(3, 1, {"request_log.stage": "late"}, trace_id=f"{1:032x}", start=1)])
    assert numbers(3) == [1, 2, 1]


def test_filters_leave_out_the_others(store, asked, following):
    failed, of_model, of_route = (
        following(Filter(failed=True)),
        following(Filter(model="gpt-4o")),
        following(Filter("b")),
    )
    store.write([*asked(1), *asked(2, status="ERROR"), *asked(3, degraded="web_failed"), *asked(4, "gpt-4o")])
    store.write(asked(5, route="b"))
    assert failed(2) == [2, 3]
    assert of_model(1) == [4]
    assert of_route(1) == [5]


def test_the_latest_come_oldest_first_and_are_not_told_again(store, asked, url):
    store.write([span for number in range(1, 31) for span in asked(number)])
    with Tail(url, ALL) as rows:
        assert [int(row.trace_id, 16) for row in rows.last(3)] == [28, 29, 30]
        store.write(asked(31))
        assert int(next(rows.follow()).trace_id, 16) == 31


def test_more_than_a_notification_holds_are_told_all(store, asked, following):
    numbers = following()
    rest = " \u00e9\u2028 " + "x" * 180
    store.write([span for n in range(1, 101) for span in asked(n, id=f"{n}{rest}")])
    assert sorted(numbers(100)) == list(range(1, 101))
    store.write([span for n in range(101, 1_101) for span in asked(n, id=f"{n}{rest}")])
    assert len(numbers(600)) >= 600  # asked to look for itself, it shows the latest of them


def test_rows_are_told_without_notifications_too(postgres, asked, monkeypatch):
    monkeypatch.setattr(tail, "_POLL_SECONDS", 0.1)
    monkeypatch.setattr(tail, "_listen", lambda _: False)
    url = postgres.database()
    store = open_store(RequestLogSettings(url=url))
    store.write(asked(1))
    with Tail(url, ALL) as rows:
        rows.last(0)
        found: Iterator[records.Request] = rows.follow()
        store.write(asked(2))
        assert int(next(found).trace_id, 16) == 2
    store.close()


def test_following_goes_on_when_the_database_was_away(own_postgres, asked, monkeypatch):
    monkeypatch.setattr(tail, "_POLL_SECONDS", 0.1)
    url = own_postgres.database()
    store = open_store(RequestLogSettings(url=url))
    with Tail(url, ALL) as rows:
        rows.last(0)
        found = rows.follow()
        store.write(asked(1))
        assert int(next(found).trace_id, 16) == 1
        store.close()
        own_postgres.stop()
        own_postgres.start()
        store.write(asked(2))
        assert int(next(found).trace_id, 16) == 2
    store.close()


def test_a_rebuilt_sqlite_file_is_followed_on(tmp_path, open_at, asked):
    store = open_at(tmp_path / "log.db")
    store.write([span for number in range(1, 1_501) for span in asked(number)])
    with Tail(f"sqlite:///{tmp_path / 'log.db'}", ALL) as rows:
        rows.last(0)
        found = rows.follow()
        store.write(asked(2_000))
        assert int(next(found).trace_id, 16) == 2_000
        with store._engine.begin() as connection:
            connection.execute(sa.delete(schema.request_log).where(schema.request_log.c.trace_id < f"{1_400:032x}"))
        raw = store._engine.raw_connection()
        raw.driver_connection.execute("VACUUM")
        raw.close()
        store.write(asked(2_001))
        assert int(next(found).trace_id, 16) == 2_001


def test_what_writers_tell_fits_into_notifications():
    class Connection:
        dialect = sa.create_engine("postgresql+psycopg://").dialect

        def exec_driver_sql(self, _, values):
            self.notes = values[1]

    for size, count in itertools.product((10, 200), (1, 39, 40, 500)):
        connection = Connection()
        ids = [f"{n:0{size}}" for n in range(count)]
        postgres.announce(cast("sa.Connection", connection), ids)
        assert max(len(note.encode()) for note in connection.notes) < 8_000
        assert connection.notes == ["*"] or "\n".join(connection.notes).count("\n") == count - 1
