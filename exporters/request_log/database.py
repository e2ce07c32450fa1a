"""The database itself: opened so that it is private, durable and shared well, and brought to the current schema.

SQLite: a new file belongs to its owner alone (0600); write-ahead logging where the file system allows it, else the
rollback journal with full syncing; free pages can be given back later (auto_vacuum); a writer waits five seconds for
another. A transaction takes the write lock when it begins, so that what it read is still true when it writes.
"""

import os
import sqlite3
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc

from otel_telemetry.errors import ConfigurationError, SchemaTooNew, StoreUnavailable
from otel_telemetry.exporters.request_log import schema

_KEY: Final = "request_log.url"
_BUSY_MS: Final = 5_000
_NOT_A_DATABASE: Final = frozenset({"SQLITE_NOTADB", "SQLITE_CORRUPT"})
#: Errors that pass by themselves, or with room on the disk.
_PASSING: Final = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")


def connect(url: str) -> sa.Engine:
    """Return an engine for writing, the schema being current.

    Raises ConfigurationError where the URL cannot be used, SchemaTooNew, or StoreUnavailable where waiting may help.
    """
    parsed = parse(url)
    path = file_of(parsed)
    _make_private(path)
    engine = _engine(parsed)
    try:
        with engine.begin() as connection:
            _upgrade(connection)
    except exc.DBAPIError as error:
        engine.dispose()
        raise _refusal(error, path) from error
    except BaseException:
        engine.dispose()
        raise
    return engine


def reader(url: str) -> sa.Engine:
    """Return an engine for reading only; raises ConfigurationError where there is no such database yet."""
    parsed = parse(url)
    path = file_of(parsed)
    if not path.exists():
        raise ConfigurationError(_KEY, f"there is no database {path}", "record something first, or correct the path")
    engine = sa.create_engine(parsed, poolclass=sa.NullPool)
    sa.event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA query_only=ON"))
    return engine


def parse(url: str) -> sa.URL:
    """Return the parsed URL of a database that we can use."""
    hint = "use sqlite:///relative.db or sqlite:////absolute.db"
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError:
        raise ConfigurationError(_KEY, "not a database URL", hint) from None
    if parsed.get_backend_name() != "sqlite" or parsed.get_driver_name() != "pysqlite":
        raise ConfigurationError(_KEY, f"{parsed.drivername} is not a database that this version writes to", hint)
    if parsed.database in (None, "", ":memory:"):
        raise ConfigurationError(_KEY, "a database in memory is gone when the process ends", hint)
    return parsed


def file_of(parsed: sa.URL) -> Path:
    """Return the file of a SQLite URL."""
    return Path(str(parsed.database).removeprefix("file:"))


def _make_private(path: Path) -> None:
    """Make the file, and the folders above it, before SQLite does: nobody else reads it, not even for a moment."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600))
    except IsADirectoryError:
        raise ConfigurationError(_KEY, f"{path} is a folder", "name a file in it") from None
    except OSError as error:
        hint = "choose a folder that this user may write to, or change its owner"
        raise ConfigurationError(_KEY, f"cannot write {path}: {error.strerror}", hint) from None


def _engine(parsed: sa.URL) -> sa.Engine:
    engine = sa.create_engine(
        parsed, poolclass=sa.StaticPool, connect_args={"check_same_thread": False, "timeout": _BUSY_MS / 1_000}
    )
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _prepare(raw: Any, record: Any) -> None:
    """Set up a SQLite connection. Of an existing database nothing is changed before its version is known."""
    del record
    raw.isolation_level = None  # we say when a transaction begins
    if raw.execute("PRAGMA page_count").fetchone()[0] == 0:  # it counts only before the first table
        raw.execute("PRAGMA auto_vacuum=INCREMENTAL")
    raw.execute("PRAGMA foreign_keys=ON")
    synchronous = "NORMAL" if _write_ahead(raw) else "FULL"
    raw.execute(f"PRAGMA synchronous={synchronous}")


def _write_ahead(raw: Any) -> bool:
    """Switch write-ahead logging on; where shared memory is refused, return to the rollback journal."""
    try:
        if raw.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
            return False
        raw.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if _name(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise
        raw.execute("PRAGMA journal_mode=DELETE")
        return False
    return True


def _upgrade(connection: sa.Connection) -> None:
    """Bring the schema to HEAD. The version is read under the write lock: of several processes one does the work."""
    version = None
    if sa.inspect(connection).has_table(schema.VERSION_TABLE):
        version = connection.exec_driver_sql(f"SELECT version_num FROM {schema.VERSION_TABLE}").scalar()  # noqa: S608
    if version == schema.HEAD:
        return
    from alembic import command  # noqa: PLC0415  # 100 ms that only a new or old database costs
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise SchemaTooNew(
            f"the database has schema {version}, this version knows up to {schema.HEAD}; nothing was changed. "
            "next: install the newer otel-telemetry, or point request_log.url at another file"
        )
    command.upgrade(config, "head")


def _name(error: BaseException | None) -> str:
    return str(getattr(error, "sqlite_errorname", ""))


def _refusal(error: exc.DBAPIError, path: Path) -> Exception:
    name = _name(error.orig)
    if name in _NOT_A_DATABASE:
        return ConfigurationError(_KEY, f"{path} is not an SQLite database", "name another file, or move this one away")
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        hint = "choose a file and folder that this user may write to"
        return ConfigurationError(_KEY, f"cannot write {path}: {error.orig}", hint)
    return unavailable(error) or error


def unavailable(error: exc.DBAPIError) -> StoreUnavailable | None:
    """Return the error as StoreUnavailable where trying again can help."""
    if error.connection_invalidated or _name(error.orig).startswith(_PASSING):
        return StoreUnavailable(f"the database is away, locked or full: {error.orig}")
    return None
