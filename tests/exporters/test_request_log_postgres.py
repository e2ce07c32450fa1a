"""PostgreSQL for real: where rows lie, what its errors become, several writers, crashes of server and writers."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from otel_telemetry.base.errors import ConfigurationError, SchemaTooNew, StoreUnavailable
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database, schema
from otel_telemetry.exporters.request_log.exporter import RequestLogSpanExporter
from otel_telemetry.exporters.request_log.sink import RequestLogSink
from otel_telemetry.exporters.request_log.store.store import Store, open_store

CALLS = "SELECT count(*), count(DISTINCT id), coalesce(sum(prompt_tokens), 0) FROM llm_call"
REQUESTS = "SELECT count(*), count(DISTINCT id), coalesce(sum(prompt_tokens), 0) FROM request_log"


@pytest.fixture(name="url")
def url_fixture(postgres) -> str:
    url: str = postgres.database()
    return url


@pytest.fixture(name="pg")
def pg_fixture(url):
    store = open_store(RequestLogSettings(url=url))
    yield store
    store.close()


@pytest.fixture(name="ask")
def ask_fixture(postgres, url):
    """Asks the database with nothing of ours in between."""
    with postgres.connect(url.rpartition("/")[2]) as connection:

        def ask(query: str, *parameters: Any) -> list[Any]:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

        yield ask


def at(span, when: datetime):
    start = int(when.timestamp()) * 1_000_000_000
    return dataclasses.replace(span, start_ns=start, end_ns=start + 1_000_000_000)


def trace(n: int) -> str:
    return f"{n:032x}"


def test_migrations_make_exactly_the_tables_of_the_schema(pg):
    def ours(name: str | None, kind: str, parents: Any) -> bool:
        return kind != "table" or name in schema.metadata.tables

    with pg._engine.connect() as connection:
        options = {"version_table": schema.VERSION_TABLE, "include_name": ours}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), schema.metadata) == []


def test_the_driver_may_be_named_in_the_url(url, span, chat):
    store = open_store(RequestLogSettings(url=url.replace("postgresql://", "postgresql+psycopg://")))
    assert store.write([span(1, None, chat())]).llm_calls == 1
    store.close()


def test_rows_lie_in_the_partition_of_their_month_and_odd_times_in_the_default_one(pg, span, chat, ask):
    now = datetime.now(UTC)
    times = [now, now - timedelta(days=70), now - timedelta(days=2000), now + timedelta(days=400)]
    pg.write([at(span(1, None, chat(), trace_id=trace(n)), when) for n, when in enumerate(times, 1)])
    for table in ("request_log", "llm_call"):
        found = dict(ask(f"SELECT ts, tableoid::regclass::text FROM {table}"))  # noqa: S608
        partitions = [found[at(span(1), when) and when.replace(microsecond=0)] for when in times]
        months = [f"{table}_{when:%Y_%m}" for when in times[:2]]
        assert partitions == [*months, f"{table}_default", f"{table}_default"]


def test_rows_that_were_early_move_into_their_month_when_it_comes(pg, span, chat, ask, monkeypatch):
    from otel_telemetry.exporters.request_log.db import partitions

    now = datetime.now(UTC)
    later = now + timedelta(days=70)
    spans = [span(1, None, {"request_log.route": "a"}), span(2, 1, chat())]
    pg.write([at(each, later) for each in spans])
    assert ask("SELECT tableoid::regclass::text FROM request_log") == [("request_log_default",)]
    monkeypatch.setattr(partitions, "_AHEAD", 3)
    pg.close()
    pg.write([at(span(3, 1, chat()), later)])
    assert ask("SELECT tableoid::regclass::text, llm_calls FROM request_log") == [(f"request_log_{later:%Y_%m}", 2)]
    assert ask("SELECT DISTINCT tableoid::regclass::text FROM llm_call") == [(f"llm_call_{later:%Y_%m}",)]


def test_a_table_that_somebody_holds_for_long_does_not_stop_the_writer(  # noqa: PLR0917  # fixtures
    pg, span, chat, ask, postgres, url
):
    pg.close()
    with postgres.connect(url.rpartition("/")[2]) as other:
        other.autocommit = False
        other.execute("LOCK TABLE request_log IN SHARE UPDATE EXCLUSIVE MODE")  # as VACUUM and others hold it
        pg.write([at(span(1, None, chat()), datetime.now(UTC) - timedelta(days=40))])
        other.rollback()
    assert ask("SELECT tableoid::regclass::text FROM llm_call") == [("llm_call_default",)]


def test_a_span_that_comes_again_with_another_time_is_still_one_row(pg, span, chat, ask):
    now = datetime.now(UTC)
    for days in (0, 1, 40, 40, 1000):
        pg.write([at(span(1, None, chat()), now - timedelta(days=days))])
    assert ask(CALLS) == [(1, 1, 100)]
    assert ask(REQUESTS) == [(1, 1, 100)]


def test_a_span_that_the_database_refuses_goes_aside_and_the_others_are_stored(pg, span, chat, ask):
    spans = [span(n, None, chat(), trace_id=trace(n)) for n in range(1, 20)]
    refused = [span(7, None, chat(), trace_id="bad\ud800"), span(8, None, chat(), trace_id="nul\x00")]
    written = pg.write([*spans[:10], *refused, *spans[10:]])
    assert (written.dead_letters, written.llm_calls) == (2, 19)
    assert ask("SELECT count(*) FROM dead_letter") == [(2,)]
    assert pg.write([*spans, *refused]).llm_calls == 0


def test_money_is_exact_and_json_can_be_asked(pg, span, chat, ask):
    pg.write([span(1, None, {"request_log.cost_usd": "123456.000000000001", "request_log.stage_ms.web": 12.5})])
    query = "SELECT cost_usd::text, (stage_ms->>'web')::float8, jsonb_typeof(stage_ms) FROM request_log"
    assert ask(query) == [("123456.000000000001", 12.5, "object")]


def test_a_newer_schema_is_refused_and_left_untouched(pg, url, span, chat, ask):
    pg.write([span(1, None, chat())])
    pg.close()
    ask("UPDATE otel_telemetry_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNew, match="9999"):
        open_store(RequestLogSettings(url=url))
    assert ask("SELECT version_num FROM otel_telemetry_version") == [("9999",)]
    assert ask(CALLS) == [(1, 1, 100)]


def test_several_that_start_at_once_all_get_the_current_schema(url, ask):
    config = RequestLogSettings(url=url)
    with ThreadPoolExecutor(4) as pool:
        for store in pool.map(lambda _: open_store(config), range(4)):
            store.close()
    assert ask("SELECT version_num FROM otel_telemetry_version") == [(schema.HEAD,)]


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"password": "hunter2"}, "password"),
        ({"user": "stranger"}, "password"),
        ({"database": "nowhere"}, "createdb"),
        ({"host": "no-such-host.invalid"}, "host"),
        ({"database": ""}, "at the end"),
    ],
)
def test_a_wrong_setting_says_what_to_do_next_and_never_the_password(postgres, wrong, problem):
    url = postgres.url(**{"database": "postgres", **wrong})
    for opening in (database.connect, database.reader):
        with pytest.raises(ConfigurationError) as refused:
            opening(url)
        assert refused.value.key == "request_log.url"
        assert problem in refused.value.hint
        shown = f"{refused.value!s} {refused.value.hint}"
        assert "hunter2" not in shown
        assert "p@ss" not in shown
        assert "p%40ss" not in shown


def test_a_user_without_the_right_to_make_tables_is_told_which_right(postgres, url):
    with postgres.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    with pytest.raises(ConfigurationError, match="may not make tables") as refused:
        database.connect(postgres.url(url.rpartition("/")[2], user="guest", password="guest"))
    assert "GRANT" in refused.value.hint


def test_a_report_from_a_database_without_rows_says_what_to_do(url):
    with pytest.raises(ConfigurationError, match="no request_log"):
        database.reader(url)


def test_threads_and_processes_that_write_at_once_lose_nothing_and_double_nothing(url, ask):
    """All write the same traces, each in its own order; the totals are those of one."""
    script = Path(__file__).with_name("request_log_writer.py")
    writers = [subprocess.Popen([sys.executable, script, url, str(seed), "60", "all"]) for seed in range(4)]
    assert [writer.wait(timeout=90) for writer in writers] == [0] * 4
    assert ask(CALLS) == [(120, 120, 12_000)]
    assert ask(REQUESTS) == [(60, 60, 12_000)]


def test_a_child_process_writes_over_a_connection_of_its_own(pg, span, chat, ask):
    pg.write([span(1, None, chat(), trace_id=trace(1))])
    child = os.fork()
    if child == 0:
        try:
            pg.write([span(1, None, chat(), trace_id=trace(2))])
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    pg.write([span(1, None, chat(), trace_id=trace(3))])
    assert ask(CALLS) == [(3, 3, 300)]


def test_a_lost_connection_is_unavailable_once_and_then_made_anew(pg, span, chat, ask):
    pg.write([span(1, None, chat())])
    ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'otel-telemetry'")
    with pytest.raises(StoreUnavailable):
        pg.write([span(2, None, chat(), trace_id=trace(2))])
    pg.write([span(2, None, chat(), trace_id=trace(2))])
    assert ask(CALLS) == [(2, 2, 200)]


def test_a_table_that_was_taken_away_is_waited_for_and_no_span_goes_aside(pg, span, chat, ask):
    pg.write([span(1, None, chat())])
    ask("ALTER TABLE llm_call RENAME TO gone")
    with pytest.raises(StoreUnavailable):
        pg.write([span(2, None, chat(), trace_id=trace(2))])
    ask("ALTER TABLE gone RENAME TO llm_call")
    assert pg.write([span(2, None, chat(), trace_id=trace(2))]).llm_calls == 1
    assert ask("SELECT count(*) FROM dead_letter") == [(0,)]


def test_a_server_that_crashes_in_mid_write_loses_no_committed_row_and_doubles_none(own_postgres, span, chat):
    config = RequestLogSettings(url=own_postgres.database())
    name = config.url.rpartition("/")[2]
    store = open_store(config)
    batches = [[span(m, None, chat(), trace_id=trace(100 * n + m)) for m in range(1, 40)] for n in range(60)]
    committed, lost = 0, 0
    with ThreadPoolExecutor(1) as pool:
        for number, batch in enumerate(batches):
            if number in {15, 35}:
                crash = pool.submit(kill_in, own_postgres, 0.01 if number == 15 else 0.03)
            while True:
                try:
                    store.write(batch)
                except StoreUnavailable:
                    lost += 1
                    time.sleep(0.05)
                    continue
                break
            committed += len(batch)
            if number in {20, 40}:
                crash.result()
                with own_postgres.connect(name) as connection:
                    assert connection.execute(CALLS).fetchall() == [(committed, committed, 100 * committed)]
    store.close()
    assert lost
    with own_postgres.connect(name) as connection:
        assert connection.execute(CALLS).fetchall() == [(committed, committed, 100 * committed)]
        assert connection.execute(REQUESTS).fetchall() == [(committed, committed, 100 * committed)]


def kill_in(server, seconds: float) -> None:
    time.sleep(seconds)
    server.stop(signal.SIGKILL)
    time.sleep(0.1)
    server.start()


def test_a_sink_starts_while_the_server_is_away_and_writes_when_it_is_back(own_postgres):
    url = own_postgres.database()
    own_postgres.stop()
    sink = RequestLogSink(RequestLogSettings(url=url))
    with pytest.raises(StoreUnavailable):
        sink.deliver("traces", [b""])
    own_postgres.start()
    sink.deliver("traces", [b""])
    sink.close()


def test_the_exporter_tries_again_while_the_server_restarts(own_postgres, span):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    url = own_postgres.database()
    open_store(RequestLogSettings(url=url)).close()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(RequestLogSpanExporter(url)))
    tracer = provider.get_tracer("test")
    tracer.start_span("a", attributes={"request_log.route": "a"}).end()
    own_postgres.stop()
    with ThreadPoolExecutor(1) as pool:
        back = pool.submit(own_postgres.start)
        tracer.start_span("b", attributes={"request_log.route": "b"}).end()
        back.result()
    provider.shutdown()
    with own_postgres.connect(url.rpartition("/")[2]) as connection:
        assert connection.execute("SELECT route FROM request_log ORDER BY 1").fetchall() == [("a",), ("b",)]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_writer_killed_in_mid_write_loses_no_committed_row_and_doubles_none(kind, request, tmp_path):
    url = f"sqlite:///{tmp_path / 'log.db'}" if kind == "sqlite" else request.getfixturevalue("url")
    script = Path(__file__).with_name("request_log_writer.py")
    reported = 0
    for run in range(3):
        with subprocess.Popen(
            [sys.executable, script, url, "0", "4000", "one"], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for line in writer.stdout:
                reported = max(reported, int(line))
                if reported >= 40 * (run + 1):
                    break
            writer.kill()
        engine = sa.create_engine(
            database.parse(url).set(drivername="postgresql+psycopg") if kind == "postgres" else url
        )
        with engine.connect() as connection:
            calls, distinct, tokens = connection.exec_driver_sql(CALLS).one()
            requests, distinct_requests, request_tokens = connection.exec_driver_sql(REQUESTS).one()
        engine.dispose()
        assert requests == distinct_requests >= reported
        assert calls == distinct == 2 * requests
        assert tokens == request_tokens == 100 * calls
    store = Store(RequestLogSettings(url=url))
    store.open()
    store.close()
