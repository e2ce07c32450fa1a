"""Opening the spool after whatever happened to it.

A damaged file is set aside, never deleted, and what it still holds is carried over into a new one: batches with their
numbers, cursors, dead letters. The new file is made beside the damaged one and takes its name when it is whole, so that
a crash on the way loses nothing: it is done again at the next start.
"""

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_telemetry.errors import SpoolDamaged
from otel_telemetry.gateway import spool_file

RESCUED_NAME: Final = "spool.rescued.db"
_SUFFIXES: Final = ("", "-wal", "-shm")
_RUN: Final = 16  # batches read at one time
_COMMIT_BYTES: Final = 64 << 20
_TABLES: Final = ("cursor", "outcome", "replay", "attached")

#: What a cursor has behind it: all that ever came, less what is still before it.
_RECOUNT: Final = """
UPDATE cursor SET (batches, items, bytes) = (
    SELECT t.batches - count(b.seq), t.items - coalesce(sum(b.items), 0), t.bytes - coalesce(sum(length(b.body)), 0)
    FROM total t LEFT JOIN batch b ON b.seq > cursor.seq GROUP BY t.id)
"""

_log = logging.getLogger("otel_telemetry.gateway.spool")


@dataclass(slots=True)
class Saved:
    """What came over from a damaged file. `lost` are batches that should be there and cannot be read."""

    batches: int = 0
    dead_letters: int = 0
    lost: int = 0


def open_spool(folder: Path, shared: int, turn: int, *, doubtful: bool = False) -> sqlite3.Connection:
    """Return the write connection on a sound spool in `folder`, recovering a damaged one first.

    `shared` and `turn` are the caller's locks. Where nobody else has the spool open, and its last user did not close it
    or it is `doubtful`, all of it is looked at. Raises ConfigurationError, and SpoolDamaged where others have to let go
    first.
    """
    path = folder / spool_file.FILE_NAME
    with spool_file.turn(turn):
        alone = spool_file.alone(shared)
        try:
            if alone:
                _finish_rescue(path)
            spool_file.make_file(path)
            spool_file.keep_reserve(folder)
            return _open_on_any_disk(path, alone=alone, doubtful=doubtful)
        except sqlite3.OperationalError as error:
            raise spool_file.not_opened(path, error) from None
        finally:
            spool_file.share_again(shared)


def _open_on_any_disk(path: Path, *, alone: bool, doubtful: bool) -> sqlite3.Connection:
    try:
        return _open(path, alone=alone, doubtful=doubtful)
    except sqlite3.OperationalError:
        if not spool_file.give_up_reserve(path.parent):
            raise
        _log.warning("the disk of %s is full; what was held back is used to deliver what is there", path.parent)
        return _open(path, alone=alone, doubtful=doubtful)


def _open(path: Path, *, alone: bool, doubtful: bool) -> sqlite3.Connection:
    try:
        return spool_file.open_sound(path, thorough=alone and (doubtful or _left_open(path)))
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        if not alone:
            raise SpoolDamaged(f"the spool is damaged: {error}") from None
        return _start_anew(path, error)


def _left_open(path: Path) -> bool:
    log = path.with_name(path.name + "-wal")
    return log.exists() and log.stat().st_size > 0


def _finish_rescue(path: Path) -> None:
    """Give a rescued file its name where a crash came in between; one that is not whole goes, to be made again."""
    rescued = path.with_name(RESCUED_NAME)
    if rescued.exists() and not path.exists():
        rescued.rename(path)
    _remove(rescued)


def _remove(path: Path) -> None:
    for suffix in _SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _start_anew(path: Path, error: sqlite3.DatabaseError) -> sqlite3.Connection:
    began = time.monotonic()
    rescued = path.with_name(RESCUED_NAME)
    _remove(rescued)
    saved = _rescue(path, rescued)
    aside = path.with_name(f"{path.stem}.damaged-{time.time_ns()}.db")
    for suffix in _SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    rescued.rename(path)
    _log.error(
        "the spool %s was damaged (%s); it was moved to %s, %d batches were saved from it, %d could not be read and "
        "are lost to who had not got them, %d dead letters were saved; serving on with a new file after %.1f s",
        path, error, aside, saved.batches, saved.lost, saved.dead_letters, time.monotonic() - began,
    )  # fmt: skip
    return spool_file.open_sound(path)


def _rescue(path: Path, rescued: Path) -> Saved:
    """Make a whole new spool of what can be read."""
    saved = Saved()
    spool_file.make_file(rescued)
    with contextlib.closing(spool_file.open_sound(rescued)) as target:
        target.execute("PRAGMA synchronous = OFF")  # it is synced once, at the end; before that it has not got its name
        with contextlib.suppress(sqlite3.DatabaseError), contextlib.closing(_source(path)) as source:
            _Copy(source, target, saved).run()
        target.execute("PRAGMA synchronous = FULL")
        target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return saved


def _source(path: Path) -> sqlite3.Connection:
    source = sqlite3.connect(path, isolation_level=None)
    source.execute("PRAGMA wal_autocheckpoint = 0")  # looks, and leaves the file as it is
    return source


class _Copy:
    """Carries over what can be read, table by table, batches in runs that are halved until the bad ones are found."""

    def __init__(self, source: sqlite3.Connection, target: sqlite3.Connection, saved: Saved) -> None:
        self._source = source
        self._target = target
        self._saved = saved
        self._lost: list[int] = []
        self._bytes = 0

    def run(self) -> None:
        self._target.execute("BEGIN")
        try:
            self._totals()
            for table in _TABLES:
                self._table(table)
            self._dead_letters()
            for first in range(*self._range(), _RUN):
                self._batches(first, first + _RUN - 1)
            self._account()
        finally:
            self._target.execute("COMMIT")

    def _totals(self) -> None:
        with contextlib.suppress(sqlite3.DatabaseError):
            row = self._source.execute("SELECT id, seq, batches, items, bytes, trimmed FROM total").fetchone()
            self._target.execute("INSERT OR REPLACE INTO total VALUES (?, ?, ?, ?, ?, ?)", row)

    def _table(self, table: str) -> None:
        with contextlib.suppress(sqlite3.DatabaseError):
            rows = self._source.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - names of our own
            if rows:
                marks = ",".join("?" * len(rows[0]))
                self._target.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", rows)  # noqa: S608

    def _dead_letters(self) -> None:
        with contextlib.suppress(sqlite3.DatabaseError):
            for row in self._source.execute("SELECT * FROM dead_letter ORDER BY id"):
                self._target.execute("INSERT INTO dead_letter VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
                self._saved.dead_letters += 1

    def _range(self) -> tuple[int, int]:
        """Return the first and the behind-the-last number that there should be: there are no gaps."""
        last, kept = self._target.execute("SELECT seq, batches - trimmed FROM total").fetchone()
        ends = [last - kept + 1, last]
        for position, order in enumerate(("ASC", "DESC")):
            with contextlib.suppress(sqlite3.DatabaseError):
                row = self._source.execute(f"SELECT seq FROM batch ORDER BY seq {order} LIMIT 1").fetchone()  # noqa: S608
                ends[position] = row[0] if row else ends[position]
        return ends[0], max(ends[1], last) + 1

    def _batches(self, first: int, last: int) -> None:
        query = "SELECT seq, signal, received_ns, items, body, crc FROM batch WHERE seq BETWEEN ? AND ?"
        try:
            rows = self._source.execute(query, (first, last)).fetchall()
        except sqlite3.DatabaseError:
            if first == last:
                self._lost.append(first)
                return
            middle = (first + last) // 2
            self._batches(first, middle)
            self._batches(middle + 1, last)
            return
        for row in rows:
            self._keep(row)

    def _keep(self, row: tuple[int, str, int, int, bytes, int | None]) -> None:
        if row[5] is not None and spool_file.checksum(row[4]) != row[5]:
            self._lost.append(row[0])
            return
        self._target.execute(
            "INSERT INTO batch (seq, signal, received_ns, items, body, crc) VALUES (?, ?, ?, ?, ?, ?)", row
        )
        self._saved.batches += 1
        self._bytes += len(row[4])
        if self._bytes >= _COMMIT_BYTES:
            self._target.execute("COMMIT")
            self._target.execute("BEGIN")
            self._bytes = 0

    def _account(self) -> None:
        """Make the numbers fit what is there now, and count what is lost for each sink that had not got it."""
        last = max(self._scalar("SELECT coalesce(max(seq), 0) FROM batch"), self._scalar("SELECT seq FROM total"))
        self._lost = [seq for seq in self._lost if seq <= last]
        self._saved.lost = len(self._lost)
        kept = self._scalar("SELECT count(*) FROM batch")
        self._target.execute(
            "UPDATE total SET seq = ?, batches = max(batches, ?), trimmed = max(batches, ?) - ?",
            (last, kept, kept, kept),
        )
        self._target.execute(_RECOUNT)
        self._target.execute("DELETE FROM sqlite_sequence WHERE name = 'batch'")
        self._target.execute("INSERT INTO sqlite_sequence VALUES ('batch', ?)", (last,))  # no number is given twice
        for sink, seq in self._target.execute("SELECT sink, seq FROM cursor").fetchall():
            missed = sum(1 for lost in self._lost if lost > seq)
            if missed:
                spool_file.count_outcome(self._target, sink, "unreadable", missed, 0)

    def _scalar(self, query: str) -> int:
        return int(self._target.execute(query).fetchone()[0])


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[tuple[int, int]]:
    """Have the two locks of whoever opens the spool: (shared, turn)."""
    shared = spool_file.share(folder)
    try:
        turn = spool_file.lock_file(folder, spool_file.TURN_NAME)
    except BaseException:
        os.close(shared)
        raise
    try:
        yield shared, turn
    finally:
        os.close(turn)
        os.close(shared)


def make_sound(folder: Path, *, doubtful: bool = False) -> None:
    """Open the spool, recovering it where it has to be, and close it again: before others open it together."""
    with holding(folder) as (shared, turn):
        open_spool(folder, shared, turn, doubtful=doubtful).close()
