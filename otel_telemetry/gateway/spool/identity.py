"""Tells a spool from a new file, a file that was cut, and another program's database, before anything is written.

To SQLite a file of 0 bytes is a new database, whatever was in it before, and any database has room for more tables.
"""

import contextlib
import os
import sqlite3
from functools import cache
from pathlib import Path
from typing import Final

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.gateway.spool.schema import SCHEMA

_HEADER_BYTES: Final = 100  # of every SQLite file
_MADE: Final = b"made"
_NOTE_BYTES: Final = 32
#: Those of tables in the file: a virtual one cannot be looked at where its module is not loaded.
_COLUMNS: Final = "SELECT t.name, c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c WHERE t.rootpage > 0"


def was_made(shared: int) -> bool:
    """Return whether a spool was ever made in the folder of this lock file (`spool.open`)."""
    return os.pread(shared, len(_MADE), 0) == _MADE


def note_made(shared: int, path: Path, *, anew: bool) -> None:
    """Note in the folder's lock file that a spool was made there, and which file it is, `anew` where it may differ."""
    if anew or not was_made(shared):
        with contextlib.suppress(OSError):  # the disk may be full
            os.pwrite(shared, b"%s %20d\n" % (_MADE, path.stat().st_ino), 0)
            os.fsync(shared)


def refuse_another(shared: int, path: Path) -> None:
    """Raise ConfigurationError where other processes have the spool open, and it is another file, or gone, by now."""
    _, _, noted = os.pread(shared, _NOTE_BYTES, 0).partition(_MADE)
    now = path.stat().st_ino if path.exists() else 0
    if now != int(noted) if noted.strip().isdigit() else was_made(shared) and not now:
        raise ConfigurationError(
            "gateway.spool_dir",
            f"other processes have {path} open, and {'there is another file by now' if now else 'it is gone'}",
            "stop them with SIGTERM, which saves what they had acknowledged; then start again",
        )


def check(path: Path) -> None:
    """Raise ConfigurationError for a database of another program, sqlite3.DatabaseError for a file that was cut."""
    if not has_header(path):
        size = path.stat().st_size
        if size or _has_log(path):
            raise sqlite3.DatabaseError(f"it was cut to {size} bytes")
    refuse_foreign_file(path)


def has_header(path: Path) -> bool:
    """Return whether a file is long enough for what every SQLite file begins with."""
    return path.stat().st_size >= _HEADER_BYTES


def refuse_foreign_file(path: Path) -> None:
    """Raise ConfigurationError where a file is a database of another program; nothing of it or beside it is changed."""
    if path.exists() and has_header(path):
        with contextlib.suppress(sqlite3.Error), contextlib.closing(_unchanged(path)) as connection:
            refuse_foreign(path, connection)


def refuse_foreign(path: Path, connection: sqlite3.Connection) -> None:
    """Raise ConfigurationError where most columns in a database are not those of a spool.

    One that has no tables, or only some of ours, is a spool that was being made. Raises sqlite3.DatabaseError where the
    file is damaged.
    """
    try:
        columns = set(connection.execute(_COLUMNS).fetchall())
    except UnicodeDecodeError:  # a name in it, or in the message of SQLite's own error, is no text any more
        raise sqlite3.DatabaseError("the names of its tables are damaged") from None
    if 2 * len(columns & _our_columns()) < len(columns):
        tables = ", ".join(sorted({table for table, _ in columns})[:5])
        raise ConfigurationError(
            "gateway.spool_dir",
            f"{path} is the database of another program (it has the tables {tables}), and was left as it is",
            "move it to another place, or set gateway.spool_dir to a folder that only the gateway uses",
        )


def refuse_emptied(connection: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError where a file that was a spool has no tables."""
    if connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None:
        raise sqlite3.DatabaseError("it is empty or gone, and was a spool before")


def _has_log(path: Path) -> bool:
    log = path.with_name(path.name + "-wal")
    return log.exists() and log.stat().st_size > 0


def _unchanged(path: Path) -> sqlite3.Connection:
    """Open a file so that nothing is made, locked or written, also not beside it."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)


@cache
def _our_columns() -> frozenset[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        return frozenset(connection.execute(_COLUMNS).fetchall())
