"""Opens the spool in any state.

A damaged file is set aside, never deleted, and its readable contents are copied into a new one: batches with their
numbers, cursors, dead letters. The new file is built beside the damaged one and takes its name when it is complete, so
that a crash meanwhile loses nothing: the copy is repeated at the next start.
"""

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from otel_telemetry.base.errors import SpoolDamaged
from otel_telemetry.gateway.spool import identity, spool_file
from otel_telemetry.gateway.spool.copy import Copy, SalvageResult
from otel_telemetry.gateway.spool.pages import Pages

RESCUED_NAME: Final = "spool.rescued.db"
#: The copy of a deleted spool while it is written (put_back): a supervisor gives the process more time then.
SAVING_NAME: Final = "spool.saving.db"
_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")
_log = logging.getLogger("otel_telemetry.gateway.spool")


def open_spool(
    folder: Path, shared: int, write_lock: int, *, doubtful: bool = False, stopped: Callable[[], bool] | None = None
) -> sqlite3.Connection:
    """Return the write connection on a sound spool in `folder`, recovering a damaged one first.

    `shared` and `write_lock` are the caller's locks. Where nobody else has the spool open, and its last user did not
    close it or it is `doubtful`, all of it is looked at. Raises ConfigurationError, and SpoolDamaged where others have
    to let go first.
    """
    path = folder / spool_file.FILE_NAME
    with spool_file.write_lock(write_lock, stopped):
        alone = spool_file.alone(shared)
        try:
            identity.refuse_foreign_file(path)
            if alone:
                _finish_rescue(path)
            else:
                identity.refuse_another(shared, path)
            spool_file.make_file(path)
            spool_file.keep_reserve(folder)
            opened = _open_on_any_disk(path, alone=alone, doubtful=doubtful, made=identity.was_made(shared))
        except (sqlite3.OperationalError, OSError) as error:
            raise spool_file.not_opened(path, error) from None
        else:
            identity.note_made(shared, path, anew=alone)
            return opened
        finally:
            spool_file.share_again(shared)


def _open_on_any_disk(path: Path, *, alone: bool, doubtful: bool, made: bool) -> sqlite3.Connection:
    try:
        return _open(path, alone=alone, doubtful=doubtful, made=made)
    except sqlite3.OperationalError:
        if not spool_file.give_up_reserve(path.parent):
            raise
        _log.warning("the disk of %s is full; what was held back is used to deliver what is there", path.parent)
        return _open(path, alone=alone, doubtful=doubtful, made=made)


def _open(path: Path, *, alone: bool, doubtful: bool, made: bool) -> sqlite3.Connection:
    thorough = alone and (doubtful or _ended_badly(path))
    try:
        if thorough:
            _refuse_cut(path)
        return spool_file.open_sound(path, thorough=thorough, made=made)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if not _damaged(path, error):
            raise
        if not alone:
            raise SpoolDamaged(f"the spool is damaged: {error}") from None
        return _start_anew(path, error)


def _damaged(path: Path, error: Exception) -> bool:
    """Return whether a file that cannot be opened is damaged: of faults of the surroundings it is not the file's."""
    if not spool_file.is_of_surroundings(error):  # such as a format or a text of the schema that nobody knows
        return True
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code == sqlite3.SQLITE_READONLY and os.access(path, os.W_OK)  # a header may say so, too


def _ended_badly(path: Path) -> bool:
    """Return whether the last user did not close the file, or it ends within a page, of which SQLite says nothing."""
    log = path.with_name(path.name + "-wal")
    return (log.exists() and log.stat().st_size > 0) or path.stat().st_size % spool_file.PAGE_BYTES > 0


def _refuse_cut(path: Path) -> None:
    """Raise sqlite3.DatabaseError for a file without its end, while its log is still there: closing it ends that."""
    with Pages(path) as pages:
        if pages.cut():
            raise sqlite3.DatabaseError(f"it was cut to {path.stat().st_size} bytes")


def _finish_rescue(path: Path) -> None:
    """Give a rescued file its name where a crash came in between; files that are not whole go."""
    rescued = path.with_name(RESCUED_NAME)
    if rescued.exists() and not path.exists():
        rescued.rename(path)
    _remove(rescued)
    _remove(path.with_name(SAVING_NAME))


def _remove(path: Path) -> None:
    for suffix in _SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _start_anew(path: Path, error: Exception) -> sqlite3.Connection:
    began = time.monotonic()
    rescued = path.with_name(RESCUED_NAME)
    _remove(rescued)
    saved = _rescue_or_begin(path, rescued)
    aside = path.with_name(f"{path.stem}.damaged-{time.time_ns()}.db")
    for suffix in _SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    rescued.rename(path)
    _log.error(
        "the spool %s was damaged (%s); it was moved to %s, %s; serving on with a new file after %.1f s%s",
        path, error, aside, saved, time.monotonic() - began, saved.next_step(),
    )  # fmt: skip
    return spool_file.open_sound(path)


def _rescue_or_begin(path: Path, rescued: Path) -> SalvageResult:
    """Make a new spool of what can be read; an empty one where even looking failed in a way that nobody foresaw."""
    try:
        return _rescue(path, rescued)
    except Exception as error:
        if spool_file.is_of_surroundings(error):
            raise
        _log.exception("nothing of the damaged spool %s could be saved; its files are kept", path)
    _remove(rescued)
    spool_file.make_file(rescued)
    with contextlib.closing(spool_file.open_sound(rescued)) as target:
        saved = SalvageResult(unknown=True)
        saved.note_unknown(target)
        target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return saved


def _rescue(path: Path, rescued: Path) -> SalvageResult:
    """Make a whole new spool of what can be read."""
    spool_file.make_file(rescued)
    with contextlib.closing(spool_file.open_sound(rescued)) as target:
        target.execute("PRAGMA synchronous = OFF")  # it is synced once, at the end; before that it has not got its name
        with Pages(path) as pages, contextlib.closing(_source(path)) as source:
            saved = Copy(source, pages, target).run()
        target.execute("PRAGMA synchronous = FULL")
        target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return saved


def _source(path: Path) -> sqlite3.Connection:
    """Open a damaged file for looking: nothing is put from its log into it.

    Beside a file without a header SQLite would delete the log: it is opened as if nothing could be read of it.
    """
    source = sqlite3.connect(path if identity.has_header(path) else ":memory:", isolation_level=None)
    with contextlib.suppress(sqlite3.DatabaseError):
        source.execute("PRAGMA wal_autocheckpoint = 0")
    return source


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[tuple[int, int]]:
    """Hold the two locks of a process that opens the spool: (shared, write lock)."""
    shared = spool_file.share(folder)
    try:
        write_lock = spool_file.lock_file(folder, spool_file.WRITE_LOCK_NAME)
    except BaseException:
        os.close(shared)
        raise
    try:
        yield shared, write_lock
    finally:
        os.close(write_lock)
        os.close(shared)


def make_sound(folder: Path, *, doubtful: bool = False, stopped: Callable[[], bool] | None = None) -> None:
    """Open the spool, recovering it where it has to be, and close it again: before others open it together."""
    with holding(folder) as (shared, write_lock):
        open_spool(folder, shared, write_lock, doubtful=doubtful, stopped=stopped).close()
