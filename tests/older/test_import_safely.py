"""An import may be repeated, broken off and refused: nothing comes twice, nothing comes half, the old file stays."""

import hashlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable
from otel_telemetry.cli import app
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.store.writer import Writer
from otel_telemetry.older.bring import Import, SourceChanged
from otel_telemetry.older.source import BadRow, Source
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.redactor import Redactor
from tests.backends import process
from tests.older import databases

MADE: dict[str, Callable[[Path], str]] = {
    "module": databases.module,
    "bot": databases.bot,
    "chronicle": databases.chronicle,
}
TABLES = ("request_log", "llm_call", "feedback", "browser_event", "workflow_run", "workflow_step", "workflow_event")


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(*arguments):
    return CliRunner().invoke(app, ["import", *arguments])


@pytest.mark.parametrize("system", MADE)
def test_a_second_import_adds_nothing_and_the_old_file_stays_as_it_is(tmp_path, bring, stored, system, new):
    old = MADE[system](tmp_path / "old.db")
    before = digest(tmp_path / "old.db")
    bring(old, new)
    rows = {name: stored(new, name) for name in TABLES}
    again = bring(old, new)
    assert all((row["new"], row["known"]) == (0, row["rows"]) for row in again.values())
    assert {name: stored(new, name) for name in TABLES} == rows
    assert digest(tmp_path / "old.db") == before


def test_an_import_later_brings_what_has_come_since(tmp_path, bring, stored):
    old, new = databases.chronicle(tmp_path / "old.db"), f"sqlite:///{tmp_path / 'new.db'}"
    bring(old, new)
    connection = sqlite3.connect(tmp_path / "old.db")
    with connection:
        connection.execute("UPDATE chronicle_runs SET status = 'finished', updated_at = updated_at + 5")
        connection.execute("INSERT INTO chronicle_events SELECT * FROM chronicle_events LIMIT 1")
        connection.execute("UPDATE chronicle_events SET id = 'other' WHERE rowid = 3")
    connection.close()
    report = bring(old, new)
    assert {name: row["new"] for name, row in report.items()} == {
        "chronicle_events": 1,
        "chronicle_runs": 1,
        "chronicle_steps": 0,
    }
    (run_,) = stored(new, "workflow_run")
    assert run_["status"] == "finished"


def test_a_dry_run_reads_everything_and_makes_nothing(tmp_path, bring):
    report = bring(databases.module(tmp_path / "old.db"), f"sqlite:///{tmp_path / 'new.db'}", "--dry-run")
    assert {name: row["rows"] for name, row in report.items()} == {"ask_logs": 1, "feedback": 1, "events": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.db"]


def test_rows_that_are_in_the_log_only_come_over_and_the_log_stays(tmp_path, bring, stored):
    databases.module(tmp_path / "living.db", journal="wal", rows={})
    connection = sqlite3.connect(tmp_path / "living.db")
    connection.execute("INSERT INTO events (ts, type) VALUES ('2025-09-01T10:00:00', 'page_view')")
    connection.commit()
    for end in ("", "-wal"):  # as it is where the program was killed
        shutil.copy(tmp_path / f"living.db{end}", tmp_path / f"old.db{end}")
    connection.close()
    before = digest(tmp_path / "old.db"), digest(tmp_path / "old.db-wal")
    new = f"sqlite:///{tmp_path / 'new.db'}"
    assert bring(f"sqlite:///{tmp_path / 'old.db'}", new)["events"]["new"] == 1
    assert len(stored(new, "browser_event")) == 1
    assert (digest(tmp_path / "old.db"), digest(tmp_path / "old.db-wal")) == before


def test_a_program_that_has_the_file_open_goes_on_unharmed(tmp_path, bring):
    old = databases.module(tmp_path / "old.db", journal="wal")
    connection = sqlite3.connect(tmp_path / "old.db")
    connection.execute("INSERT INTO events (ts, type) VALUES ('2025-09-01T10:00:00', 'page_view')")
    connection.commit()
    assert bring(old, f"sqlite:///{tmp_path / 'new.db'}")["events"]["new"] == 2
    connection.execute("INSERT INTO events (ts, type) VALUES ('2025-09-01T10:00:01', 'page_view')")
    connection.commit()
    connection.close()


BAD = [
    ("events", {"ts": "yesterday", "type": "x"}, "row 2", "ts is no time"),
    ("events", {"ts": None, "type": "x"}, "row 2", "ts is missing"),
    ("feedback", {"ts": "2025-09-01T10:00:00", "verdict": "splendid"}, "row 2", "verdict"),
    ("ask_logs", {"ts": "2025-09-01T10:00:00", "latency_ms": "slow"}, "row 2", "latency_ms is no number"),
    ("ask_logs", {"ts": "2025-09-01T10:00:00", "query": b"\xff\xfe"}, "row 2", "query is not text"),
]


@pytest.mark.parametrize(("table", "row", "position", "problem"), BAD)
def test_a_row_that_is_none_stops_all_with_its_table_and_place(tmp_path, table, row, position, problem):
    good = {"ask_logs": databases.ASKED, "feedback": databases.JUDGED, "events": databases.SEEN}[table]
    old = databases.module(tmp_path / "old.db", rows={table: [good, row]})
    done = run(old, "--into", f"sqlite:///{tmp_path / 'new.db'}")
    assert done.exit_code == 1
    assert isinstance(done.exception, BadRow)
    assert (done.exception.table, done.exception.row_name) == (table, position)
    assert problem in done.exception.problem
    assert not (tmp_path / "new.db").exists()


def test_bad_rows_can_be_left_out_and_are_told(tmp_path, bring, stored):
    rows = {"events": [databases.SEEN, {"ts": "yesterday", "type": "x"}, databases.SEEN]}
    new = f"sqlite:///{tmp_path / 'new.db'}"
    report = bring(databases.module(tmp_path / "old.db", rows=rows), new, "--skip-bad-rows")
    assert {key: report["events"][key] for key in ("rows", "new", "skipped")} == {"rows": 3, "new": 2, "skipped": 1}
    assert len(stored(new, "browser_event")) == 2


def test_a_damaged_page_stops_it_with_the_table_and_the_last_good_row(tmp_path):
    rows = {"events": [{**databases.SEEN, "data_json": f'{{"n": "{"x" * 900}"}}'}] * 60}
    old = databases.module(tmp_path / "old.db", rows=rows)
    with (tmp_path / "old.db").open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.seek(file.tell() - 2 * 4096)
        file.write(b"\xff" * 4096)
    done = run(old, "--into", f"sqlite:///{tmp_path / 'new.db'}", "--skip-bad-rows")
    assert isinstance(done.exception, BadRow)
    assert done.exception.table == "events"
    assert re.fullmatch(r"the row behind row [1-9]\d*", done.exception.row_name)
    assert not (tmp_path / "new.db").exists()


def test_a_fault_is_told_with_its_place_and_what_to_do(tmp_path):
    databases.module(tmp_path / "old.db", rows={"events": [databases.SEEN, {"ts": "yesterday", "type": "x"}]})
    command = [sys.executable, "-m", "otel_telemetry.cli", "import", "old.db", "--into", "sqlite:///new.db"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    printed = " ".join(done.stderr.split())
    assert "error table events, row 2: ts is no time" in printed
    assert "next: correct it in a copy of the old database, or leave such rows out with --skip-bad-rows" in printed


def _without_a_column(path):
    databases.module(path)
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE events DROP COLUMN data_json")
    connection.close()


REFUSED = [
    ("there is no file", lambda path: None),
    ("file is not a database", lambda path: path.write_bytes(b"no database at all" * 100)),
    ("has none of the tables", lambda path: path.write_bytes(b"")),
    ("revision 2", lambda path: databases.chronicle(path, version="2")),
    ("has no data_json", _without_a_column),
]


@pytest.mark.parametrize(("why", "make"), REFUSED, ids=[why for why, _ in REFUSED])
def test_what_is_no_known_database_is_refused_in_a_sentence(tmp_path, why, make):
    make(tmp_path / "old.db")
    done = run(f"sqlite:///{tmp_path / 'old.db'}", "--into", f"sqlite:///{tmp_path / 'new.db'}")
    assert isinstance(done.exception, ConfigurationError)
    assert why in done.exception.problem
    assert done.exception.hint
    assert not (tmp_path / "new.db").exists()


def test_a_file_may_be_named_by_its_path(tmp_path, bring):
    databases.module(tmp_path / "old.db")
    assert bring("old.db", f"sqlite:///{tmp_path / 'new.db'}")["events"]["new"] == 1


def test_a_file_that_a_program_keeps_to_itself_is_refused_with_what_helps(tmp_path):
    old = databases.module(tmp_path / "old.db")
    connection = sqlite3.connect(tmp_path / "old.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ConfigurationError, match="locked") as refused:
        Source(f"{old}?timeout=0.1")
    assert "stop the program" in refused.value.hint
    connection.close()


def test_a_server_that_is_away_is_refused_with_what_helps(tmp_path):
    with pytest.raises(ConfigurationError, match="refused") as refused:
        Source(f"postgresql://somebody@127.0.0.1:{process.free_port()}/old")
    assert "start the server" in refused.value.hint


def test_ours_is_no_older_one_and_an_older_one_is_no_destination(tmp_path, bring):
    old, new = databases.module(tmp_path / "old.db"), f"sqlite:///{tmp_path / 'new.db'}"
    bring(old, new)
    for arguments, why in (((new, "--into", old), "otel-telemetry itself"), ((old, "--into", old), "itself")):
        done = run(*arguments)
        assert isinstance(done.exception, ConfigurationError)
        assert why in done.exception.problem
    other = databases.bot(tmp_path / "bot.db")
    done = run(old, "--into", other)
    assert isinstance(done.exception, ConfigurationError)
    assert "chat bot" in done.exception.problem


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_file_that_changes_while_it_is_read_is_refused_and_its_program_need_not_wait(tmp_path, journal):
    with Source(databases.module(tmp_path / "old.db", journal=journal)) as source:
        checking = Import(source).check()
        next(checking)
        connection = sqlite3.connect(tmp_path / "old.db", timeout=0)
        connection.execute("INSERT INTO events (ts, type) VALUES ('2025-09-01T10:00:00', 'page_view')")
        connection.commit()
        with pytest.raises(SourceChanged, match="nothing was brought over"):
            list(checking)
        connection.close()


def test_an_import_that_breaks_off_is_begun_again_without_doubles(tmp_path, bring, stored):
    rows = {"events": [{**databases.SEEN, "ts": f"2025-09-01T10:{n // 60:02}:{n % 60:02}"} for n in range(450)]}
    old, new = databases.module(tmp_path / "old.db", rows=rows), f"sqlite:///{tmp_path / 'new.db'}"
    writer = Writer(RequestLogSettings(url=new))
    calls = []

    def write(signal, bodies):
        calls.append(signal)
        if len(calls) == 2:
            raise StoreUnavailable("the disk is full")
        return writer.write(signal, bodies)

    with Source(old) as source:
        work = Import(source)
        list(work.check())
        with pytest.raises(StoreUnavailable):
            list(work.bring(OtlpRedactor(Redactor(RedactionSettings())).redact, write))
    writer.close()
    assert len(stored(new, "browser_event")) == 200
    report = bring(old, new)
    assert (report["events"]["new"], report["events"]["known"]) == (250, 200)
    assert len(stored(new, "browser_event")) == 450


def test_rows_that_retention_would_delete_at_once_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_TELEMETRY_REQUEST_LOG__RETENTION_DAYS", "30")
    done = run(databases.module(tmp_path / "old.db"), "--into", f"sqlite:///{tmp_path / 'new.db'}", "--dry-run")
    assert "retention_days = 30" in " ".join(done.output.split())


def test_columns_that_are_not_known_are_told(tmp_path):
    done = run(databases.bot(tmp_path / "old.db"), "--into", f"sqlite:///{tmp_path / 'new.db'}", "--dry-run")
    assert "mood" in done.output
