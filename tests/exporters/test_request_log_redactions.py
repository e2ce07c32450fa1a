"""What redaction counts is stored, added up over processes, not twice, and later where the database was away."""

import contextlib
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from otel_telemetry import assemble_gateway, settings
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.base.redaction_counts import Counts, Key, counts
from otel_telemetry.exporters.request_log.db import database
from otel_telemetry.exporters.request_log.db.redactions import redaction_count
from otel_telemetry.exporters.request_log.operate import redactions as reading
from otel_telemetry.exporters.request_log.operate.report_groups import Period
from otel_telemetry.exporters.request_log.store import redactions
from otel_telemetry.exporters.request_log.store.redactions import Redactions
from otel_telemetry.exporters.request_log.store.retention import Retention
from otel_telemetry.processors.redact import finding_counts
from otel_telemetry.processors.redact.redactor import Finding
from tests.waiting import eventually

START = datetime(2026, 11, 30, 10, 7, tzinfo=UTC)
QUARTER = START.replace(minute=0)
EMAIL, PHONE = Key("finding", "EMAIL", "email", "shop"), Key("finding", "PHONE", "phone", "chat")
EVER = Period(START - timedelta(days=1), START + timedelta(days=1))


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now.timestamp()


@pytest.fixture(name="clock")
def clock_fixture() -> Clock:
    return Clock()


@pytest.fixture(name="writer_of")
def writer_of_fixture(clock):
    """Makes writers and closes them at the end."""
    with contextlib.ExitStack() as stack:

        def writer_of(url, given):
            writer = Redactions(url, given, clock=clock)
            stack.callback(writer.close)
            return writer

        yield writer_of


def stored(url):
    engine = database.reader(url)
    with database.snapshot(engine) as connection:
        rows = connection.execute(sa.select(redaction_count).order_by(*redaction_count.primary_key)).all()
        found = reading.counted(connection, EVER)
        along = reading.along(connection, EVER, timedelta(minutes=15))
    engine.dispose()
    assert sum(along.values()) == sum(one.number for one in found.findings)
    return {(datetime.fromtimestamp(row.start, UTC), Key(*row[1:5])): row.number for row in rows}


def test_several_processes_add_up_each_quarter_by_type_rule_and_service(url, clock, writer_of):
    own, other = (Counts(), Counts())
    one, two = (writer_of(url, given) for given in (own, other))
    for given, key, number in ((own, EMAIL, 3), (other, EMAIL, 4), (other, PHONE, 1), (own, Key("leak_check"), 9)):
        given.add(key, number)
    one.write()
    two.write()
    one.write()  # nothing new
    clock.now += timedelta(minutes=9)
    own.add(EMAIL)
    own.add(Key("leak", "EMAIL"), 2)
    one.write()
    later = QUARTER + timedelta(minutes=15)
    assert stored(url) == {
        (QUARTER, EMAIL): 7,
        (QUARTER, PHONE): 1,
        (QUARTER, Key("leak_check")): 9,
        (later, EMAIL): 1,
        (later, Key("leak", "EMAIL")): 2,
    }
    engine = database.reader(url)
    with engine.connect() as connection:
        found = reading.counted(connection, EVER)
        assert [(one.type, one.rule, one.service, one.number, one.last) for one in found.findings] == [
            ("EMAIL", "email", "shop", 8, later),
            ("PHONE", "phone", "chat", 1, QUARTER),
        ]
        assert (found.checks, found.checked, found.leaks) == (9, QUARTER, {"EMAIL": 2})
        assert found.by("service") == [("shop", 8), ("chat", 1)]
        assert reading.counted(connection, Period(later, later)).findings == []
        assert reading.along(connection, Period(QUARTER, START + timedelta(hours=2)), timedelta(hours=1)) == {0: 9}
        assert reading.first(connection) == QUARTER
    engine.dispose()


def test_while_the_database_is_away_counts_wait_for_their_quarter(url, clock, monkeypatch, writer_of):
    given = Counts()
    writer = writer_of(url, given)
    attach = database.attach

    def away(_):
        raise exc.OperationalError("", None, OSError("away"))

    monkeypatch.setattr(database, "attach", away)
    for _ in range(3):
        given.add(EMAIL, 2)
        writer._try()
        clock.now += timedelta(minutes=15)
    monkeypatch.setattr(database, "attach", attach)
    writer._try()
    assert stored(url) == {(QUARTER + n * timedelta(minutes=15), EMAIL): 2 for n in range(3)}


def test_more_than_can_wait_loses_its_time_and_no_count(url, clock, monkeypatch, writer_of):
    monkeypatch.setattr(redactions, "_MOST", 5)
    given = Counts()
    writer = writer_of(url, given)
    monkeypatch.setattr(writer, "_opened", lambda: (_ for _ in ()).throw(OSError("away")))
    for _ in range(20):
        given.add(EMAIL)
        writer._try()
        clock.now += timedelta(minutes=15)
    assert len(writer._waiting) == 5
    assert writer._waiting.total() == 20


def test_more_counts_than_can_wait_are_stored_where_they_are_of_one_quarter(url, monkeypatch, writer_of):
    monkeypatch.setattr(redactions, "_MOST", 2)
    given = Counts()
    for rule in "abcd":
        given.add(Key("finding", "EMAIL", rule, "shop"))
    writer_of(url, given)._try()
    assert {key.rule for _, key in stored(url)} == set("abcd")


@pytest.mark.parametrize("committed", [True, False])
def test_a_connection_that_breaks_while_it_commits_counts_nothing_twice(
    with_tables, clock, committed, monkeypatch, writer_of
):
    url = with_tables("postgres")
    given = Counts()
    writer = writer_of(url, given)
    given.add(EMAIL, 5)
    engine = writer._opened()
    commit = engine.dialect.do_commit

    def break_off(raw):
        if committed:
            commit(raw)
        raw.close()
        raise exc.OperationalError("COMMIT", None, OSError("gone"), connection_invalidated=True)

    with monkeypatch.context() as patched:
        patched.setattr(engine.dialect, "do_commit", break_off)
        writer._try()
    given.add(EMAIL, 1)
    eventually(lambda: (writer._try(), stored(url) == {(QUARTER, EMAIL): 6})[1])
    writer._try()
    assert stored(url) == {(QUARTER, EMAIL): 6}


def test_names_that_no_database_stores_are_cut_and_cleaned(url, writer_of):
    given = Counts()
    for service in ("a\x00b", "x" * 90_000, "\ud800", "谢" * 3_000):
        given.add(Key("finding", "EMAIL", "email", service))
    writer_of(url, given).write()
    assert {key.service for _, key in stored(url)} == {"a\ufffdb", "x" * 200, "?", "谢" * 200}


def test_it_makes_no_database_and_upgrades_none(tmp_path, writer_of):
    given = Counts()
    given.add(EMAIL)
    writer = writer_of(f"sqlite:///{tmp_path / 'none.db'}", given)
    with pytest.raises(ConfigurationError):
        writer.write()
    assert not list(tmp_path.iterdir())
    database.connect(f"sqlite:///{tmp_path / 'none.db'}").dispose()
    writer.write()
    assert stored(f"sqlite:///{tmp_path / 'none.db'}") == {(QUARTER, EMAIL): 1}


def test_a_database_of_an_older_schema_waits_until_it_is_upgraded(url, writer_of):
    engine = database.connect(url)
    with engine.begin() as connection:
        redaction_count.drop(connection)
    given = Counts()
    given.add(EMAIL)
    writer = writer_of(url, given)
    with pytest.raises(ConfigurationError):
        writer.write()
    with engine.begin() as connection:
        redaction_count.create(connection)
    engine.dispose()
    writer.write()
    assert stored(url) == {(QUARTER, EMAIL): 1}


def test_retention_trims_them_with_the_rows(url, clock, writer_of):
    given = Counts()
    writer = writer_of(url, given)
    for minutes in (0, 60):
        clock.now = START + timedelta(minutes=minutes)
        given.add(EMAIL)
        writer.write()
    engine = database.connect(url)
    trimming = Retention(engine, QUARTER + timedelta(minutes=30), None)
    assert trimming.due() == {("redaction_count", "row"): 1}
    trimming.run(10)
    engine.dispose()
    assert stored(url) == {(QUARTER + timedelta(minutes=60), EMAIL): 1}


def test_what_redaction_finds_is_counted_and_not_what_a_self_test_plants():
    counts.take()
    found = [Finding("EMAIL", "email", 9)] * 3
    finding_counts.count(found, "shop")
    finding_counts.count(found, finding_counts.SELF_TEST)
    with finding_counts.muted():
        finding_counts.count(found, "shop")
    assert counts.take() == {EMAIL: 3}
    assert not counts.take()


def test_a_thread_writes_them_and_once_more_at_its_end(tmp_path):
    url = f"sqlite:///{tmp_path / 'log.db'}"
    database.connect(url).dispose()
    given = Counts()
    writer = Redactions(url, given, pause=0.05, clock=Clock())
    writer.start()
    given.add(EMAIL)
    eventually(lambda: stored(url) == {(QUARTER, EMAIL): 1})
    given.add(EMAIL)
    writer.stop()
    assert stored(url) == {(QUARTER, EMAIL): 2}


KILLED = """
import os, sys
from otel_telemetry.base.redaction_counts import Counts, Key
from otel_telemetry.exporters.request_log.store.redactions import Redactions
given = Counts()
writer = Redactions(sys.argv[1], given, clock=lambda: float(sys.argv[2]))
for number in range(int(sys.argv[3])):
    given.add(Key("finding", "EMAIL", "email", "shop"), 2)
    writer.write()
given.add(Key("finding", "EMAIL", "email", "shop"), 100)
os.kill(os.getpid(), 9)
"""


def test_processes_that_are_killed_take_only_what_they_had_not_written(url, clock):
    numbers = [2, 5]
    root = Path(__file__).parents[2]
    running = [
        subprocess.Popen([sys.executable, "-c", KILLED, url, str(clock()), str(number)], cwd=root) for number in numbers
    ]
    assert [one.wait(60) for one in running] == [-9, -9]
    assert stored(url) == {(QUARTER, EMAIL): 2 * sum(numbers)}


FORKED = """
import os, sys
from otel_telemetry.exporters.request_log.exporter import RequestLogSpanExporter
from otel_telemetry.processors.redact import finding_counts
from otel_telemetry.processors.redact.redactor import Finding
exporter = RequestLogSpanExporter(sys.argv[1])
exporter.export([])
finding_counts.count([Finding("EMAIL", "email", 9)] * 3, "shop")
child = os.fork()
if child == 0:  # what its parent counted is its parent's
    finding_counts.count([Finding("EMAIL", "email", 9)], "shop")
    exporter.export([])
else:
    assert os.waitpid(child, 0) == (child, 0)
exporter.shutdown()
"""


def test_an_app_that_writes_rows_itself_stores_them_also_after_a_fork(tmp_path):
    url = f"sqlite:///{tmp_path / 'log.db'}"
    database.connect(url).dispose()
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED, url], cwd=root, check=True, timeout=60)
    engine = database.reader(url)
    with engine.connect() as connection:
        found = reading.counted(connection, Period(None, None))
    engine.dispose()
    assert [(one.type, one.number) for one in found.findings] == [("EMAIL", 4)]


async def test_a_gateway_has_stored_what_it_redacted_when_it_ends(tmp_path):
    url = f"sqlite:///{tmp_path / 'log.db'}"
    config = settings.load(
        request_log={"url": url},
        gateway={"workers": 0, "spool_dir": tmp_path / "spool", "http_port": 0, "grpc_port": 0},
        redaction={"pseudonyms": {"secret": "0123456789abcdef0123"}},
    )
    text = {"key": "note", "value": {"stringValue": "ann@firm.example wrote to ben@firm.example"}}
    span = {"traceId": "1" * 32, "spanId": "2" * 16, "name": "a", "attributes": [text]}
    name = {"key": "service.name", "value": {"stringValue": "shop"}}
    body = {"resourceSpans": [{"resource": {"attributes": [name]}, "scopeSpans": [{"spans": [span]}]}]}
    counts.take()
    gateway: Any = assemble_gateway.gateway_of(config)
    await gateway.start()
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"http://127.0.0.1:{gateway.http_port}/v1/traces", json=body)
    await gateway.stop(10)
    assert answer.status_code == 200
    engine = database.reader(url)
    with engine.connect() as connection:
        found = reading.counted(connection, Period(None, None))
    engine.dispose()
    assert [(one.type, one.service, one.number) for one in found.findings] == [("EMAIL", "shop", 2)]
    assert (found.checks, found.leaks) == (1, {})
