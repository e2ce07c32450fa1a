"""Writes a spool whose file was deleted, moved or replaced while it was in use to its place again.

SQLite still has the file open and can read all of it, so the last process that has it writes a copy when it stops. The
copy has the same pages: should a crash leave the old log beside it, that changes nothing. It takes its name only when
it is complete, and never the place of another file.
"""

import contextlib
import logging
import os
import sqlite3
import time
from pathlib import Path

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.gateway.spool import recovery, spool_file
from otel_telemetry.gateway.spool.watch import FileWatch

_log = logging.getLogger("otel_telemetry.gateway.spool")


def put_back(folder: Path, connection: sqlite3.Connection, watch: FileWatch) -> None:
    """Write what the connection reads to the spool's place in `folder`, beside it where another file is there now.

    The caller holds the write lock, and nobody commits any more.
    """
    path = folder / spool_file.FILE_NAME
    saving = folder / recovery.SAVING_NAME
    try:
        spool_file.make_folder(folder)
        _copy(connection, saving)
        where = _place(saving, path, watch)
    except (OSError, sqlite3.Error, ConfigurationError) as error:
        _log.error("what was acknowledged could not be written to %s again: %s", path, error)
        return
    if where == path:
        _log.warning("%s was deleted while it was used; all that was acknowledged was written to it again", path)
        return
    _log.error(
        "%s was replaced while it was used; what was acknowledged is in %s: to have it delivered, give it the name %s "
        "in a folder of its own, and start a gateway with that as --spool-dir", path, where, path.name,
    )  # fmt: skip


def _copy(connection: sqlite3.Connection, saving: Path) -> None:
    saving.unlink(missing_ok=True)
    spool_file.make_file(saving)
    try:
        with contextlib.closing(sqlite3.connect(saving, isolation_level=None)) as target:
            target.execute("PRAGMA synchronous = OFF")  # it is synced once
            connection.backup(target)
        _sync(saving)
    except BaseException:
        saving.unlink(missing_ok=True)
        raise


def _place(saving: Path, path: Path, watch: FileWatch) -> Path:
    """Give the complete copy its name, take the old log away, which no other file may get, and return where it is."""
    complete = saving.rename(path.with_name(recovery.RESCUED_NAME))  # a start after a crash finds it by this name
    if watch.log_is_ours():
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if path.is_file() and not path.is_symlink() and not path.stat().st_size:
            path.unlink()
    where = path if _move(complete, path) else complete.rename(path.with_name(f"spool.saved-{time.time_ns()}.db"))
    _sync(path.parent)
    return where


def _move(file: Path, to: Path) -> bool:
    """Rename a file to a name that is free; false where it is not."""
    try:
        os.link(file, to)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        if os.path.lexists(to):
            return False
        file.rename(to)
    else:
        file.unlink()
    return True


def _sync(path: Path) -> None:
    held = os.open(path, os.O_RDONLY)
    try:
        os.fsync(held)
    finally:
        os.close(held)
