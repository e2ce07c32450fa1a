"""The spool's SQLite file: its schema, how it is opened, and what is done with one that is damaged.

WAL mode with synchronous=FULL: a committed transaction survives kill -9 and power loss, a torn tail is discarded by
SQLite's own checksums, and several processes may use the file at once. Pages of 16 KiB suit bodies of some hundred kB.
A file that SQLite cannot read is moved aside, whatever can still be read is copied over, and the gateway serves on.
"""

import contextlib
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from otel_telemetry.errors import ConfigurationError

FILE_NAME: Final = "spool.db"
LOCK_NAME: Final = "spool.lock"
_SETTING: Final = "gateway.spool_dir"
_PAGE_BYTES: Final = 16384
_BUSY_SECONDS: Final = 5.0
_WAL_LIMIT: Final = 64 << 20

#: `total` counts what was ever appended, and what was trimmed; a cursor repeats the first at its place, so that a
#: sink's lag is one subtraction.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS batch (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, signal TEXT NOT NULL, received_ns INTEGER NOT NULL,
    items INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS total (
    id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, batches INTEGER NOT NULL,
    items INTEGER NOT NULL, bytes INTEGER NOT NULL, trimmed INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS cursor (
    sink TEXT PRIMARY KEY, seq INTEGER NOT NULL, batches INTEGER NOT NULL,
    items INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead_letter (
    id INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT NOT NULL, seq INTEGER NOT NULL, signal TEXT NOT NULL,
    received_ns INTEGER NOT NULL, at_ns INTEGER NOT NULL, items INTEGER NOT NULL, reason TEXT NOT NULL,
    body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS dead_letter_sink ON dead_letter (sink);
INSERT OR IGNORE INTO total VALUES (1, 0, 0, 0, 0, 0);
"""

_log = logging.getLogger("otel_telemetry.gateway.spool")


def prepare_folder(folder: Path) -> Path:
    """Make the folder (0700) and its spool file (0600) and return the file's path, or raise ConfigurationError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / FILE_NAME
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise ConfigurationError(
            _SETTING,
            f"{folder} cannot be written: {error.strerror}",
            "make that folder writable for the user that runs the gateway, or set gateway.spool_dir to another one",
        ) from None
    return path


def claim(folder: Path) -> int:
    """Take the folder for this process and return the file descriptor that holds it; the system lets go at its end.

    Raises ConfigurationError where another gateway has it: two would deliver each batch twice.
    """
    prepare_folder(folder)
    held = os.open(folder / LOCK_NAME, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.pread(held, 20, 0).decode(errors="replace").strip()
        os.close(held)
        raise ConfigurationError(
            _SETTING,
            f"{folder} is in use by another gateway (process {owner or 'unknown'})",
            "stop that one first, or set gateway.spool_dir to another folder",
        ) from None
    os.truncate(held, 0)
    os.pwrite(held, str(os.getpid()).encode(), 0)
    return held


def connect(path: Path) -> sqlite3.Connection:
    """Open the spool for reading and writing. Raises sqlite3.DatabaseError where the file is damaged."""
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")  # stays at the file system's best where WAL is forbidden
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
        connection.execute("PRAGMA cache_size = -8192")
    except BaseException:
        connection.close()
        raise
    return connection


def open_spool(folder: Path) -> sqlite3.Connection:
    """Return the write connection on a sound spool in `folder`, recovering a damaged one first."""
    path = prepare_folder(folder)
    try:
        return _open_sound(path)
    except sqlite3.OperationalError as error:
        raise ConfigurationError(
            _SETTING,
            f"{path} cannot be opened: {error}",
            "free the disk, or end the process that holds the file, or set gateway.spool_dir to another folder",
        ) from None
    except sqlite3.DatabaseError as error:
        return _start_anew(path, error)


def _open_sound(path: Path) -> sqlite3.Connection:
    connection = connect(path)
    try:
        connection.executescript(_SCHEMA)
        connection.execute("SELECT seq, batches, items, bytes FROM total").fetchone()
        connection.execute("SELECT seq, length(body) FROM batch ORDER BY seq DESC LIMIT 1").fetchone()
        connection.execute("SELECT seq, length(body) FROM batch ORDER BY seq LIMIT 1").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _start_anew(path: Path, error: sqlite3.DatabaseError) -> sqlite3.Connection:
    aside = path.with_name(f"{path.stem}.damaged-{time.time_ns()}.db")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    connection = _open_sound(prepare_folder(path.parent))
    saved = _salvage(aside, connection)
    _log.error(
        "the spool %s was damaged (%s); it was moved to %s, %d batches were saved from it, serving on with a new file",
        path, error, aside, saved,
    )  # fmt: skip
    return connection


def _salvage(aside: Path, target: sqlite3.Connection) -> int:
    """Copy every batch that can still be read, one by one, and return their number. Sinks start over with them."""
    saved = 0
    with contextlib.suppress(sqlite3.DatabaseError), contextlib.closing(sqlite3.connect(aside)) as source:
        last, kept = source.execute("SELECT seq, batches - trimmed FROM total").fetchone()
        for seq in range(last - kept + 1, last + 1):  # there are no gaps: a roll-back takes its numbers back
            saved += _copy(source, target, seq)
    return saved


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, seq: int) -> int:
    query = "SELECT signal, received_ns, items, body FROM batch WHERE seq = ?"
    with contextlib.suppress(sqlite3.DatabaseError):
        rows = source.execute(query, (seq,)).fetchall()
        if rows:
            with transaction(target):
                insert(target, rows)
            return 1
    return 0


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what happens inside, or roll all of it back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def insert(connection: sqlite3.Connection, rows: Sequence[tuple[str, int, int, bytes]]) -> int:
    """Append (signal, received_ns, items, body) rows, one or more, in the caller's transaction; return the last seq."""
    statement = "INSERT INTO batch (signal, received_ns, items, body) VALUES (?, ?, ?, ?)"
    seqs = [connection.execute(statement, row).lastrowid or 0 for row in rows]
    connection.execute(
        "UPDATE total SET seq = ?, batches = batches + ?, items = items + ?, bytes = bytes + ?",
        (seqs[-1], len(rows), sum(row[2] for row in rows), sum(len(row[3]) for row in rows)),
    )
    return seqs[-1]


def measure(connection: sqlite3.Connection) -> int:
    """Return the bytes of the file that hold something; what was freed is used again before the file grows."""
    used = pragma(connection, "page_count") - pragma(connection, "freelist_count")
    return used * pragma(connection, "page_size")


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """Return the value of a numeric pragma."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def open_reader(folder: Path) -> sqlite3.Connection:
    """Open the spool in `folder` for reading beside its writers."""
    path = (folder / FILE_NAME).absolute()
    try:
        path.stat()
    except OSError as error:
        hint = "name the folder that the gateway uses, as the user that runs it"
        raise ConfigurationError(_SETTING, f"{path} cannot be read: {error.strerror}", hint) from None
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS, check_same_thread=False)
