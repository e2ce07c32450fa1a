"""The spool's SQLite file: its schema, its locks, how it is opened, and the few statements that write batches.

WAL mode with synchronous=FULL: a committed transaction survives kill -9 and power loss, and SQLite's own checksums
discard an incomplete tail. Several processes use the file at once. They queue for writing at a lock of the operating
system, which wakes the next one at once, while SQLite's own would let it sleep and try again. Pages of 16 KiB suit
bodies of some hundred kB.

Three locks are beside the file, all of them released by the system when their process ends: `spool.lock` (one gateway
delivers), `spool.turn` (one process writes), `spool.open` (shared by all processes that have the file open, so that
none replaces a damaged file while another uses it; its content says that a spool was made in the folder).
"""

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable
from otel_telemetry.gateway.spool import identity
from otel_telemetry.gateway.spool.schema import SCHEMA

try:
    import fcntl
except ImportError:  # Windows, where this can be imported, and no spool opened
    fcntl = None  # type: ignore[assignment]
try:
    from isal.isal_zlib import crc32  # a quarter of zlib's cost, where there is a wheel
except ImportError:
    from zlib import crc32

FILE_NAME: Final = "spool.db"
LOCK_NAME: Final = "spool.lock"
WRITE_LOCK_NAME: Final = "spool.turn"
OPEN_NAME: Final = "spool.open"
RESERVE_NAME: Final = "spool.reserve"
_RESERVE_BYTES: Final = 4 << 20
_SETTING: Final = "gateway.spool_dir"
PAGE_BYTES: Final = 16384
_BUSY_SECONDS: Final = 5.0
_WAL_LIMIT: Final = 64 << 20
_CLAIM_SECONDS: Final = 2.0  # a gateway that was killed takes a moment to be gone, with all of its processes
_CLAIM_LOOK_SECONDS: Final = 0.02
_LOG_AGAIN_SECONDS: Final = 60.0

_log = logging.getLogger("otel_telemetry.gateway.spool")


def make_folder(folder: Path) -> None:
    """Make the folder (0700), or raise ConfigurationError."""
    with _writable(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode
        if mode & 0o007:  # of others; a group may have been given to it on purpose
            with contextlib.suppress(PermissionError):  # somebody else's: its files are closed to others all the same
                folder.chmod(mode & 0o7770)


def make_file(path: Path) -> None:
    """Make an empty spool file (0600) where there is none, or raise ConfigurationError."""
    with _writable(path.parent):
        made = _open_own(path)
        os.fchmod(made, 0o600)
        os.close(made)
    for suffix in ("-wal", "-shm"):
        _refuse_link(path.with_name(path.name + suffix))


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            _SETTING,
            f"{folder} cannot be written: {error.strerror}",
            "make that folder writable for the user that runs the gateway, or set gateway.spool_dir to another one",
        ) from None


# --- locks ----------------------------------------------------------------------------------------------------------
def claim(folder: Path) -> int:
    """Become the one that delivers from this folder; return the file descriptor that holds it, also over a fork.

    Raises ConfigurationError where another gateway has it: two would deliver each batch twice.
    """
    make_folder(folder)
    held = lock_file(folder, LOCK_NAME)
    end = time.monotonic() + _CLAIM_SECONDS
    while not _try_lock(held, fcntl.LOCK_EX):
        if time.monotonic() > end:
            owner = os.pread(held, 20, 0).decode(errors="replace").strip()
            os.close(held)
            raise ConfigurationError(
                _SETTING,
                f"{folder} is in use by another gateway (process {owner or 'unknown'})",
                "stop that one first, start this one with --role receive, or set gateway.spool_dir to another folder",
            )
        time.sleep(_CLAIM_LOOK_SECONDS)
    with contextlib.suppress(OSError):  # it helps who reads it, no more; the disk may be full
        os.truncate(held, 0)
        os.pwrite(held, str(os.getpid()).encode(), 0)
    return held


def share(folder: Path) -> int:
    """Take note that this process has the spool open; closing the file descriptor ends that."""
    make_folder(folder)
    held = lock_file(folder, OPEN_NAME)
    fcntl.flock(held, fcntl.LOCK_SH)
    return held


def alone(shared: int) -> bool:
    """Turn a shared hold on the folder into the only one; false, and still shared, where others have the spool open."""
    if _try_lock(shared, fcntl.LOCK_EX):
        return True
    share_again(shared)  # a conversion that fails may have let go
    return False


def share_again(shared: int) -> None:
    """Let others in again."""
    fcntl.flock(shared, fcntl.LOCK_SH)


def lock_file(folder: Path, name: str) -> int:
    """Return a file descriptor of a lock file in the folder, or raise ConfigurationError."""
    if fcntl is None:
        hint = "run the gateway on Linux or macOS; an app on Windows sends to it, or writes rows itself"
        raise ConfigurationError(_SETTING, "a spool needs file locks that this system does not have", hint)
    with _writable(folder):
        return _open_own(folder / name)


def _open_own(path: Path) -> int:
    """Open, or make, a file of ours; a link to another place is refused: somebody else may have put it there."""
    _refuse_link(path)
    return os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)


def _refuse_link(path: Path) -> None:
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ConfigurationError(
            _SETTING,
            f"{path} is a link, or no file, and would lead the spool to another place",
            "remove it, or set gateway.spool_dir to a folder that only the gateway's user can write to",
        )


def wait_for_write_lock(lock: int, stopped: Callable[[], bool]) -> None:
    """Return once the write lock could be had."""
    with write_lock(lock, stopped):
        pass


def _wait(lock: int, stopped: Callable[[], bool]) -> None:
    log_at = time.monotonic() + _CLAIM_SECONDS
    while not _try_lock(lock, fcntl.LOCK_EX):
        if stopped():
            raise StoppedWaiting
        if time.monotonic() > log_at:
            log_at = time.monotonic() + _LOG_AGAIN_SECONDS
            _log.warning("waiting for the spool: another process has its lock %s; fuser shows which", WRITE_LOCK_NAME)
        time.sleep(_CLAIM_LOOK_SECONDS)


def _try_lock(held: int, kind: int) -> bool:
    try:
        fcntl.flock(held, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class StoppedWaiting(Exception):
    """Somebody wanted an end while a lock was waited for."""


@contextlib.contextmanager
def write_lock(lock: int, stopped: Callable[[], bool] | None = None) -> Iterator[None]:
    """Wait for the write lock, and hold it.

    With `stopped` it logs after a while that it waits, and raises StoppedWaiting once that is true.
    """
    if stopped is None:
        fcntl.flock(lock, fcntl.LOCK_EX)
    else:
        _wait(lock, stopped)
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)


# --- connections ----------------------------------------------------------------------------------------------------
def connect(path: Path) -> sqlite3.Connection:
    """Open the spool for reading and writing.

    Raises sqlite3.DatabaseError where the file is damaged, ConfigurationError where it is another program's.
    """
    identity.check(path)
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        identity.refuse_foreign(path, connection)  # its log may have tables that the file does not have yet
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")  # stays at the file system's best where WAL is forbidden
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
        connection.execute("PRAGMA cache_size = -8192")
    except BaseException:
        connection.close()
        raise
    return connection


def open_sound(path: Path, *, thorough: bool = False, made: bool = False) -> sqlite3.Connection:
    """Open the spool and make its tables; `made`: it had them before. Raises as `connect`; `thorough` finds more."""
    connection = connect(path)
    try:
        if made:
            identity.refuse_emptied(connection)
        connection.executescript(SCHEMA)
        if "crc" not in {row[1] for row in connection.execute("PRAGMA table_info(batch)")}:
            connection.execute("ALTER TABLE batch ADD COLUMN crc INTEGER")
        connection.execute("SELECT seq, batches, items, bytes FROM total").fetchone()
        connection.execute("SELECT seq, length(body) FROM batch ORDER BY seq DESC LIMIT 1").fetchone()
        connection.execute("SELECT seq, length(body) FROM batch ORDER BY seq LIMIT 1").fetchone()
        if thorough:
            _check(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection) -> None:
    result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if result != "ok":
        raise sqlite3.DatabaseError(result)


def open_reader(folder: Path) -> sqlite3.Connection:
    """Open the spool in `folder` for reading beside its writers."""
    path = (folder / FILE_NAME).absolute()
    try:
        identity.check(path)
    except OSError as error:
        hint = "name the folder that the gateway uses, as the user that runs it"
        raise ConfigurationError(_SETTING, f"{path} cannot be read: {error.strerror}", hint) from None
    except sqlite3.DatabaseError as error:
        hint = "start the gateway: it saves what can be read and reports what is lost"
        raise ConfigurationError(_SETTING, f"{path} cannot be read: {error}", hint) from None
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS, check_same_thread=False)


def means_damage(error: Exception) -> bool:
    """Return whether an error means that the file is damaged: SQLite has no special error for that.

    Nor has Python where a text in the file is no UTF-8 any more: its error has no code of SQLite's.
    """
    is_no_text = type(error) is sqlite3.OperationalError and not hasattr(error, "sqlite_errorcode")
    return type(error) is sqlite3.DatabaseError or is_no_text


def is_of_surroundings(error: Exception) -> bool:
    """Return whether an error says nothing of the file itself: a full disk, a lock, no memory, no permission."""
    if not isinstance(error, sqlite3.OperationalError):
        return isinstance(error, OSError | MemoryError)
    return not means_damage(error) and error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_ERROR


def not_opened(path: Path, error: sqlite3.Error | OSError) -> ConfigurationError:
    """Return the error for a spool that cannot be opened for another reason than damage."""
    return ConfigurationError(
        _SETTING,
        f"{path} cannot be opened: {error}",
        "free the disk, or end the process that holds the file, or set gateway.spool_dir to another folder",
    )


# --- statements -----------------------------------------------------------------------------------------------------
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
    statement = "INSERT INTO batch (signal, received_ns, items, body, crc) VALUES (?, ?, ?, ?, ?)"
    seqs = [connection.execute(statement, (*row, checksum(row[3]))).lastrowid or 0 for row in rows]
    connection.execute(
        "UPDATE total SET seq = ?, batches = batches + ?, items = items + ?, bytes = bytes + ?",
        (seqs[-1], len(rows), sum(row[2] for row in rows), sum(len(row[3]) for row in rows)),
    )
    return seqs[-1]


def checksum(body: bytes) -> int:
    """Return the CRC-32 by which it is seen that the disk did not keep a body."""
    return int(crc32(body))


def count_outcome(connection: sqlite3.Connection, sink: str, what: str, batches: int, items: int) -> None:
    """Add to what a sink never got, in the caller's transaction."""
    connection.execute(
        "INSERT INTO outcome VALUES (?, ?, ?, ?) ON CONFLICT (sink, what)"
        " DO UPDATE SET batches = batches + excluded.batches, items = items + excluded.items",
        (sink, what, batches, items),
    )


def count_loss(connection: sqlite3.Connection, seq: int, items: int) -> None:
    """Add a batch that the disk did not keep to what is lost, once, in the caller's transaction."""
    connection.execute(
        "INSERT OR IGNORE INTO loss (at_ns, batches, items, letters, unknown, seq) VALUES (?, 1, ?, 0, 0, ?)",
        (time.time_ns(), items, seq),
    )


def measure(connection: sqlite3.Connection) -> int:
    """Return the bytes of the file that hold something; what was freed is used again before the file grows."""
    used = pragma(connection, "page_count") - pragma(connection, "freelist_count")
    return used * pragma(connection, "page_size")


def disk_left(folder: Path) -> int:
    """Return the bytes that the disk of the folder has left for us. Raises StoreUnavailable where it is gone."""
    try:
        disk = os.statvfs(folder)
    except OSError as error:
        raise StoreUnavailable(f"the spool's folder {folder.absolute()} cannot be used: {error.strerror}") from None
    return disk.f_bavail * disk.f_frsize


def keep_reserve(folder: Path) -> None:
    """Hold some of the disk back in a file, where there is room: it is given up when others have filled the disk."""
    path = folder / RESERVE_NAME
    _refuse_link(path)
    if path.exists() or disk_left(folder) < 3 * _RESERVE_BYTES:
        return
    with contextlib.suppress(OSError), os.fdopen(_open_own(path), "wb") as reserve:
        reserve.write(bytes(_RESERVE_BYTES))


def give_up_reserve(folder: Path) -> bool:
    """Let go of it, where the disk has nothing else left; false where there was none to let go of."""
    if disk_left(folder) > _RESERVE_BYTES:
        return False
    try:
        (folder / RESERVE_NAME).unlink()
    except OSError:
        return False
    return True


def log_bytes(folder: Path) -> int:
    """Return the size of the write-ahead log."""
    try:
        return (folder / f"{FILE_NAME}-wal").stat().st_size
    except OSError:
        return 0


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """Return the value of a numeric pragma."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
