"""SQLite: a private, durable file that several processes share.

A new file belongs to its owner only (0600). It uses write-ahead logging if the file system allows it, else the rollback
journal; free pages can be returned later (auto_vacuum); a writer waits five seconds for another. Each transaction is on
the disk when it ends (synchronous=FULL), because the gateway's spool then drops its copy. A transaction takes the write
lock when it begins, so that what it read is still true when it writes.
"""

import os
import sqlite3
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import exc

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.exporters.request_log.db import older

KEY: Final = "request_log.url"
_BUSY_MS: Final = 5_000
_CACHE_KIB: Final = 32_768
#: Of a new file. SQLite's own size is half of it, of which a call's row fills an eighth; each batch changes many pages
#: of the indexes with random keys. With these, writing takes a seventh less time, and a row 4 % less of the disk.
_PAGE_BYTES: Final = 8_192
#: How long the write-ahead log gets before it is written back.
_LOG_BYTES: Final = 16 << 20
#: Where the versions of reading and writing end in a file's header.
_VERSIONS_END: Final = 20
_NOT_A_DATABASE: Final = frozenset({"SQLITE_NOTADB", "SQLITE_CORRUPT"})
#: Errors that pass by themselves, or with room on the disk.
_PASSING: Final = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")


def writer(parsed: sa.URL) -> sa.Engine:
    """Return an engine for writing; the file is made where there is none.

    Raises ConfigurationError for a database of another system, which is left as it is.
    """
    _refuse_others(parsed)
    _make_private(file_of(parsed))
    engine = sa.create_engine(
        parsed, poolclass=sa.StaticPool, connect_args={"check_same_thread": False, "timeout": _BUSY_MS / 1_000}
    )
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def reader(parsed: sa.URL, _idle: int = 0) -> sa.Engine:
    """Return an engine for reading only; raises ConfigurationError where there is no such file."""
    path = file_of(parsed)
    if not path.exists():
        raise ConfigurationError(KEY, f"there is no database {path}", "record something first, or correct the path")
    _refuse_others(parsed)
    engine = sa.create_engine(parsed, poolclass=sa.NullPool)
    sa.event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA query_only=ON"))
    return engine


def untouched(parsed: sa.URL) -> sa.Engine:
    """Return an engine for reading a file that is left as it is: not even its log is written back.

    Where it logs ahead and no log is beside it, nobody has it open, and it is read as a file that does not change:
    otherwise SQLite would put an empty log there.
    """
    path = file_of(parsed)
    log = path.with_name(path.name + "-wal")
    query = {**parsed.query, "mode": "ro", "uri": "true"}
    if _logs_ahead(path) and not (log.exists() and log.stat().st_size):
        query["immutable"] = "1"
    url = parsed.set(database=f"file:{quote(str(path))}", query=query)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    sa.event.listen(engine, "connect", _leave_transactions_to_us)
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _leave_transactions_to_us(raw: Any, record: Any) -> None:
    del record
    raw.isolation_level = None


def _logs_ahead(path: Path) -> bool:
    """Return whether a file says that it is read together with a write-ahead log."""
    with path.open("rb") as file:
        return file.read(_VERSIONS_END)[_VERSIONS_END - 2 :] == b"\x02\x02"


def _refuse_others(parsed: sa.URL) -> None:
    """Raise ConfigurationError for a database of another system; what else may be wrong shows when it is opened."""
    path = file_of(parsed)
    try:
        if not path.is_file() or not path.stat().st_size:
            return
        engine = untouched(parsed)
        with engine.connect() as connection:
            if not older.is_ours(connection):
                older.refuse(connection)
    except (OSError, exc.DBAPIError):
        return


def check(parsed: sa.URL) -> None:
    """Raise ConfigurationError for a URL that names no file."""
    if parsed.database in {None, "", ":memory:"}:
        hint = "use sqlite:///relative.db or sqlite:////absolute.db"
        raise ConfigurationError(KEY, "a database in memory is gone when the process ends", hint)


def file_of(parsed: sa.URL) -> Path:
    """Return the file of a SQLite URL."""
    return Path(str(parsed.database).removeprefix("file:"))


def _make_private(path: Path) -> None:
    """Make the file, and the folders above it, before SQLite does: nobody else reads it, not even for a moment."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600))
    except IsADirectoryError:
        raise ConfigurationError(KEY, f"{path} is a folder", "name a file in it") from None
    except OSError as error:
        hint = "choose a folder that this user may write to, or change its owner"
        raise ConfigurationError(KEY, f"cannot write {path}: {error.strerror}", hint) from None


def _prepare(raw: Any, record: Any) -> None:
    """Set up a SQLite connection. Of an existing database nothing is changed before its version is known."""
    del record
    raw.isolation_level = None  # we say when a transaction begins
    if raw.execute("PRAGMA page_count").fetchone()[0] == 0:  # it counts only before the first table
        raw.execute(f"PRAGMA page_size={_PAGE_BYTES}")
        raw.execute("PRAGMA auto_vacuum=INCREMENTAL")
    raw.execute("PRAGMA foreign_keys=ON")
    _write_ahead(raw)
    raw.execute("PRAGMA synchronous=FULL")  # in write-ahead mode anything less would lose commits with the power
    # Ids are random, so a batch touches pages everywhere: keep them at hand, and write each back once for many batches.
    raw.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    page_bytes = raw.execute("PRAGMA page_size").fetchone()[0]
    raw.execute(f"PRAGMA wal_autocheckpoint={_LOG_BYTES // page_bytes}")


def _write_ahead(raw: Any) -> None:
    """Switch write-ahead logging on; where shared memory is refused, return to the rollback journal."""
    try:
        if raw.execute("PRAGMA journal_mode=WAL").fetchone()[0] == "wal":
            raw.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if _name(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise
        raw.execute("PRAGMA journal_mode=DELETE")


def _name(error: BaseException | None) -> str:
    return str(getattr(error, "sqlite_errorname", ""))


def refusal(error: exc.DBAPIError, parsed: sa.URL) -> ConfigurationError | None:
    """Return what is wrong with the setting where a file could not be opened because of it."""
    name, path = _name(error.orig), file_of(parsed)
    if name in _NOT_A_DATABASE:
        return ConfigurationError(KEY, f"{path} is not an SQLite database", "name another file, or move this one away")
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        hint = "choose a file and folder that this user may write to"
        return ConfigurationError(KEY, f"cannot write {path}: {error.orig}", hint)
    return None


def is_passing(error: BaseException | None) -> bool:
    """Return whether trying again can help."""
    return _name(error).startswith(_PASSING)
