"""Opening the database: where it may be, who may read it, what it looks like afterwards."""

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from otel_telemetry.base.errors import ConfigurationError, SchemaTooNew, StoreUnavailable
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database, schema, sqlite
from otel_telemetry.exporters.request_log.store.store import Store, open_store


def pragma(path, name):
    connection = sqlite3.connect(path)
    try:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]
    finally:
        connection.close()


def test_parent_folders_are_made_and_only_the_owner_reads_the_file(open_at, tmp_path, span):
    path = tmp_path / "a" / "b" / "log.db"
    store = open_at(path)
    store.write([span(1)])
    for name in ("log.db", "log.db-wal", "log.db-shm"):
        assert stat.S_IMODE((path.parent / name).stat().st_mode) == 0o600


def test_the_database_logs_ahead_and_can_give_space_back(open_at, tmp_path):
    open_at(tmp_path / "log.db")
    assert pragma(tmp_path / "log.db", "journal_mode") == "wal"
    assert pragma(tmp_path / "log.db", "auto_vacuum") == 2


def test_a_new_file_has_pages_of_8_kb_and_one_of_before_keeps_its_own(open_at, tmp_path, span, chat, rows):
    path = tmp_path / "log.db"
    store = open_at(path)
    store.write([span(1, None, chat())])
    store.close()
    assert pragma(path, "page_size") == 8_192
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in ("PRAGMA journal_mode=DELETE", "PRAGMA page_size=4096", "VACUUM"):
            connection.execute(statement)
    open_at(path).write([span(2, None, chat())])
    assert pragma(path, "page_size") == 4_096
    assert pragma(path, "journal_mode") == "wal"
    assert len(rows(path, "llm_call")) == 2


def test_where_the_file_system_forbids_shared_memory_the_rollback_journal_is_used(tmp_path, span, chat, rows):
    # SQLite's dot-file locking is what it uses on such file systems: it cannot do write-ahead logging.
    path = tmp_path / "log.db"
    store = open_store(RequestLogSettings(url=f"sqlite:///file:{path}?vfs=unix-dotfile&uri=true"))
    store.write([span(1, None, chat())])
    store.close()
    assert pragma(path, "journal_mode") == "delete"
    assert len(rows(path, "request_log")) == 1


def test_opening_again_keeps_what_is_there(open_at, tmp_path, span, chat, rows):
    for _ in range(3):
        store = open_at(tmp_path / "log.db")
        store.write([span(1, None, chat())])
        store.close()
    assert len(rows(tmp_path / "log.db", "llm_call")) == 1


def test_several_that_start_at_once_on_a_new_file_all_get_the_current_schema(tmp_path):
    config = RequestLogSettings(url=f"sqlite:///{tmp_path / 'log.db'}")
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: open_store(config), range(4)))
    for store in stores:
        store.close()
    connection = sqlite3.connect(tmp_path / "log.db")
    assert connection.execute("SELECT version_num FROM otel_telemetry_version").fetchall() == [(schema.HEAD,)]
    connection.close()


def test_a_newer_schema_is_refused_and_left_untouched(open_at, tmp_path, span, chat):
    path = tmp_path / "log.db"
    store = open_at(path)
    store.write([span(1, None, chat())])
    store.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE otel_telemetry_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew, match="9999"):
        open_at(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_named_and_left_untouched(open_at, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("a diary, not a database, and long enough to have a header of its own" * 20)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=r"notes\.txt is not an SQLite database") as refused:
        open_at(path)
    assert refused.value.key == "request_log.url"
    assert refused.value.hint
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_says_what_to_do_next(open_at, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot write") as refused:
        open_at(tmp_path / "file" / "log.db")
    assert refused.value.key == "request_log.url"
    assert "folder" in refused.value.hint


def test_a_folder_in_place_of_a_file_is_refused(open_at, tmp_path):
    with pytest.raises(ConfigurationError, match="is a folder"):
        open_at(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_refused(open_at, tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    with pytest.raises(ConfigurationError, match="Permission denied"):
        open_at(folder / "log.db")


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://db/log", "nonsense", "sqlite+aiosqlite:///a"]
)
def test_urls_that_cannot_be_used_name_the_setting_and_never_show_a_password(url):
    with pytest.raises(ConfigurationError) as refused:
        database.connect(url)
    assert refused.value.key == "request_log.url"
    with pytest.raises(ConfigurationError) as refused:
        database.connect("mysql://user:hunter2@db/log")
    assert "hunter2" not in str(refused.value)


def test_a_database_that_another_one_holds_is_unavailable_for_now(  # noqa: PLR0917  # fixtures
    open_at, tmp_path, span, chat, rows, monkeypatch
):
    monkeypatch.setattr(sqlite, "_BUSY_MS", 50)
    path = tmp_path / "log.db"
    store = open_at(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        store.write([span(1, None, chat())])
    other.execute("ROLLBACK")
    other.close()
    store.write([span(1, None, chat())])
    assert len(rows(path, "request_log")) == 1


def test_a_full_disk_is_unavailable_for_now_and_nothing_is_half_written(open_at, tmp_path, span, chat, rows):
    path = tmp_path / "log.db"
    store = open_at(path)
    store.write([span(1, None, chat())])
    with store._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    many = [span(n, None, {**chat(), "request_log.scope": "x" * 4000}) for n in range(2, 60)]
    with pytest.raises(StoreUnavailable, match="full"):
        store.write(many)
    assert len(rows(path, "llm_call")) == 1
    with store._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    store.write(many)
    assert len(rows(path, "llm_call")) == 59


def test_a_child_process_writes_over_a_connection_of_its_own(tmp_path):
    script = f"""
import os, sqlite3, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from conftest import chat, make_span
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.store.store import open_store
store = open_store(RequestLogSettings(url="sqlite:///{tmp_path / "log.db"}"))
store.write([make_span(1, None, chat(), trace_id="a" * 32)])
store._lock.acquire()  # as another thread may hold it while this one forks
child = os.fork()
if child == 0:
    store.write([make_span(2, None, chat(), trace_id="b" * 32)])
    os._exit(0)
store._lock.release()
assert os.waitpid(child, 0)[1] == 0
store.write([make_span(3, None, chat(), trace_id="c" * 32)])
store.close()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    connection = sqlite3.connect(tmp_path / "log.db")
    assert connection.execute("SELECT count(*) FROM request_log").fetchone() == (3,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_threads_that_write_at_once_lose_nothing(store, span, chat, rows, tmp_path):
    def write(thread):
        for n in range(10):
            store.write([span(n + 1, None, chat(), trace_id=f"{thread + 1:032x}")])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(rows(tmp_path / "log.db", "request_log")) == 40


def test_closing_before_opening_and_twice_is_fine(tmp_path):
    store = Store(RequestLogSettings(url=f"sqlite:///{tmp_path / 'log.db'}"))
    store.close()
    store.close()
    assert not (tmp_path / "log.db").exists()
