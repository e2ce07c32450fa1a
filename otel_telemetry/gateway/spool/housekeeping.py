"""Maintenance of the spool: frees the space of delivered batches.

A batch that all sinks have received is deleted once its retention is over or its space is needed, and the disk gets the
space back. Only if a policy allows it, a batch that a sink has not received for too long is deleted too, and counted.
All of this runs in small steps, in the thread that owns the write connection, in the one process that delivers.

Dead letters have a limit for each sink: otherwise a sink that refuses everything would fill the spool, and no sender
could send more.
"""

import logging
import math
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final

from otel_telemetry.base import metrics
from otel_telemetry.gateway.spool import cursors, spool_file

_TRIM_ROWS: Final = 64
_VACUUM_PAGES: Final = 512
_CAREFUL_PAGES: Final = 64  # 1 MiB: what is moved goes through the log, which needs room too
_KEEP_FREE_PAGES: Final = 1024  # free pages (16 MiB) that stay in the file for the next batches
_CHECKPOINT_MS: Final = 50
_DEAD_TOO_MANY: Final = "dead_letters_full"
#: The oldest ones of a sink, but for the newest of all and for those that are to be delivered again.
_OLDEST_DEAD: Final = (
    "SELECT id, signal, items, length(body) FROM dead_letter WHERE sink = ? AND id NOT IN (SELECT id FROM replay)"
    " AND id < (SELECT max(id) FROM dead_letter WHERE sink = ?) ORDER BY id LIMIT ?"
)

_log = logging.getLogger("otel_telemetry.gateway.spool")


class Housekeeper:
    """Does the maintenance on a write connection. `write_lock` is held while anything is written.

    `retention_hours` is for delivered batches; `max_age_hours` for undelivered ones, 0: no limit. Each sink may have
    `max_dead_bytes` of dead letters, 0: any number; above that, the oldest are deleted.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        write_lock: Callable[[], AbstractContextManager[None]],
        retention_hours: float,
        max_age_hours: float,
        max_dead_bytes: int = 0,
    ) -> None:
        self._connection = connection
        self._write_lock = write_lock
        self._retention_ns = int(retention_hours * 3600e9)
        self._max_age_ns = int(max_age_hours * 3600e9)
        self._max_dead_bytes = max_dead_bytes
        self._logged: set[str] = set()

    def step(self, too_much: float, *, disk_low: bool) -> bool:
        """Do a little; true if there may be more. `too_much` are the bytes that have to go whatever their age.

        Where the disk is nearly full that is everything that is delivered, and all free pages go back to the disk.
        """
        if disk_low:
            self._cut_file()  # deleting needs room in the log first
        return (
            self._expire()
            or self._thin_out()
            or self._trim(math.inf if disk_low else too_much)
            or self._shrink(0 if disk_low else None)
        )

    # --- delivered --------------------------------------------------------------------------------------------------
    def _trim(self, too_much: float) -> bool:
        heads = self._connection.execute(
            "SELECT seq, received_ns, length(body) FROM batch WHERE seq <= (SELECT min(seq) FROM cursor)"
            " ORDER BY seq LIMIT ?",
            (_TRIM_ROWS,),
        ).fetchall()
        gone = [(seq,) for seq in self._to_drop(heads, too_much)]
        if gone:
            with self._write_lock(), spool_file.transaction(self._connection):
                self._connection.executemany("DELETE FROM batch WHERE seq = ?", gone)
                self._connection.execute("UPDATE total SET trimmed = trimmed + ?", (len(gone),))
        return len(gone) == _TRIM_ROWS

    def _to_drop(self, heads: Sequence[tuple[int, int, int]], too_much: float) -> Iterator[int]:
        """Yield those of the (seq, received_ns, size) that are past the retention, or in the way of new ones."""
        horizon = time.time_ns() - self._retention_ns
        for seq, received_ns, size in heads:
            if received_ns <= horizon or too_much > 0:
                yield seq
                too_much -= size

    # --- not delivered ----------------------------------------------------------------------------------------------
    def _expire(self) -> bool:
        """Have each sink pass over what is too old for the policy, if there is one."""
        if not self._max_age_ns:
            return False
        horizon = time.time_ns() - self._max_age_ns
        sinks = [name for (name,) in self._connection.execute("SELECT sink FROM cursor").fetchall()]
        return any([self._expire_for(sink, horizon) for sink in sinks])  # noqa: C419 - each of them gets its turn

    def _expire_for(self, sink: str, horizon: int) -> bool:
        if not cursors.older(self._connection, sink, horizon, 1):
            return False
        with self._write_lock(), spool_file.transaction(self._connection):
            old = cursors.older(self._connection, sink, horizon, _TRIM_ROWS)
            cursors.pass_over(self._connection, sink, old, "expired")
        for one in old:
            metrics.dropped.add(one.items, {"signal": one.signal, "exporter": sink, "reason": "expired"})
        _log.error("%d batches that %s had not got were too old for gateway.spool_max_age_hours", len(old), sink)
        return len(old) == _TRIM_ROWS

    # --- dead letters -----------------------------------------------------------------------------------------------
    def _thin_out(self) -> bool:
        """Drop the oldest dead letters of each sink that has too many; true if there may be more to drop."""
        if not self._max_dead_bytes:
            return False
        full = self._connection.execute("SELECT sink FROM dead_total WHERE bytes > ?", (self._max_dead_bytes,))
        return any([self._thin_out_for(sink) for (sink,) in full.fetchall()])  # noqa: C419 - each of them gets its turn

    def _thin_out_for(self, sink: str) -> bool:
        with self._write_lock(), spool_file.transaction(self._connection):
            gone = self._oldest_dead(sink)
            self._connection.executemany("DELETE FROM dead_letter WHERE id = ?", [(letter[0],) for letter in gone])
            items = sum(letter[2] for letter in gone)
            if gone:
                spool_file.count_outcome(self._connection, sink, _DEAD_TOO_MANY, len(gone), items)
        for _, signal, count, _ in gone:
            metrics.dropped.add(count, {"signal": signal, "exporter": sink, "reason": _DEAD_TOO_MANY})
        if gone and sink not in self._logged:
            self._logged.add(sink)
            _log.error(
                "%s has more than %d bytes of dead letters: the oldest are dropped, and counted, from here on; see "
                "`otel-telemetry spool status`, and replay them once it takes them", sink, self._max_dead_bytes,
            )  # fmt: skip
        return len(gone) == _TRIM_ROWS

    def _oldest_dead(self, sink: str) -> list[tuple[int, str, int, int]]:
        """Return those letters, some at a time, that have to go: (id, signal, items, bytes)."""
        row = self._connection.execute("SELECT bytes FROM dead_total WHERE sink = ?", (sink,)).fetchone()
        excess = row[0] - self._max_dead_bytes
        gone = []
        for letter in self._connection.execute(_OLDEST_DEAD, (sink, sink, _TRIM_ROWS)).fetchall():
            if excess <= 0:
                break
            gone.append(letter)
            excess -= letter[3]
        return gone

    # --- the disk ---------------------------------------------------------------------------------------------------
    def _shrink(self, keep: int | None) -> bool:
        """Give some free pages back to the disk when they are more than should be kept; true if there may be more."""
        before = self._excess(keep)
        if not before:
            return False
        with self._write_lock():
            # execute() would take one step of it, and each step frees one page
            steps = _VACUUM_PAGES if keep is None else _CAREFUL_PAGES
            self._connection.executescript(f"PRAGMA incremental_vacuum({steps})")
        after = self._excess(keep)
        if not after or keep is not None:
            self._cut_file()
        return 0 < after < before

    def _cut_file(self) -> None:
        """Make the file shorter, which it only now gets; where a reader is in the way, another time will do."""
        patience = spool_file.pragma(self._connection, "busy_timeout")
        with self._write_lock():
            self._connection.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_MS}")
            try:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {patience}")

    def _excess(self, keep: int | None) -> int:
        """Return how many pages are free beyond what is to be kept: None: what the next batches may well need."""
        pages, free = (spool_file.pragma(self._connection, name) for name in ("page_count", "freelist_count"))
        return max(0, free - (max(_KEEP_FREE_PAGES, pages // 4) if keep is None else keep))
