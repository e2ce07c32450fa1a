"""Databases that crash, are locked by others or lose a connection: everything waits, and is there exactly once."""

import os
import signal
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from tests.faults.checks import check
from tests.faults.load import Load
from tests.waiting import eventually

COPYING = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'COPY%%' AND wait_event_type = 'Lock' AND datname = %s"


def waits(running: Any) -> bool:
    return bool(running.health()["parts"]["exporters"]["request_log"]["status"] == "waiting")


def test_postgresql_killed_under_load_has_everything_exactly_once_when_it_is_back(
    gateway: Any, own_postgres: Any
) -> None:
    running = gateway("--workers", "1", url=own_postgres.database())
    with Load(running, pause=0.02) as load:
        load.wait_for(50)
        own_postgres.stop(signal.SIGKILL)
        load.wait_for(50)
        eventually(lambda: running.health()["status"] == "degraded", "it says that the database is away")
        assert running.lag() > 0
        own_postgres.start()
        load.wait_for(20)
    check(running, load)
    assert not load.refused
    assert running.health()["status"] == "ok"


@pytest.mark.parametrize("whom", ["the server", "its process for us"])
def test_postgresql_killed_in_the_middle_of_a_copy_has_everything_exactly_once_when_it_is_back(
    gateway: Any, own_postgres: Any, whom: str
) -> None:
    url = own_postgres.database()
    name = url.rpartition("/")[2]
    running = gateway("--workers", "1", url=url)
    with Load(running, pause=0.02) as load:
        load.wait_for(50)
        with closing(own_postgres.connect(name)) as other, closing(own_postgres.connect()) as looking:
            other.execute("BEGIN")
            other.execute("LOCK TABLE llm_call IN SHARE MODE")  # its rows may be read, none come in
            (copying,) = eventually(lambda: looking.execute(COPYING, (name,)).fetchone(), "it copies rows")
            if whom == "the server":
                own_postgres.stop(signal.SIGKILL)
            else:  # the others see it, and all of it recovers as after a crash
                os.kill(copying, signal.SIGKILL)
                eventually(lambda: _broken(looking), "the server starts anew")
        own_postgres.start()
        load.wait_for(50)
    check(running, load)
    assert not load.refused
    assert running.total("otel_telemetry_write_failures_total", exporter="request_log") > 0


def _broken(connection: Any) -> bool:
    import psycopg

    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return True
    return False


def test_a_sqlite_file_that_another_writer_keeps_locked_for_long_gets_everything_when_it_lets_go(gateway: Any) -> None:
    running = gateway("--workers", "1")
    with Load(running, pause=0.02) as load:
        load.wait_for(40)
        with closing(sqlite3.connect(running.folder / "rows.db", timeout=20, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            eventually(lambda: waits(running), "it waits for the other one")  # longer than SQLite itself does
            load.wait_for(40)
            assert running.lag() > 0
            other.execute("COMMIT")
        load.wait_for(20)
    check(running, load)
    assert not load.refused
    assert running.total("otel_telemetry_write_failures_total", exporter="request_log") > 0
    assert running.health()["status"] == "ok"
