"""Operators' changes to the spool, beside a running gateway: deliver again, or drop.

Nothing of this happens by itself. Each change is one transaction that may be rolled back at its end: a dry run does the
same, and leaves no trace.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable
from otel_telemetry.gateway.spool import cursors, spool_file

_DROPPED: Final = "dropped"
_ALL: Final = -1
_OLD_DEAD: Final = "sink = ? AND received_ns < ?"


@dataclass(slots=True, frozen=True)
class Count:
    """What a change is about."""

    batches: int
    items: int


class Operator:
    """A write connection on the spool in `folder`. Raises ConfigurationError where there is none."""

    def __init__(self, folder: Path, *, dry_run: bool = False) -> None:
        spool_file.open_reader(folder).close()  # a spool that is not there is not made
        self._dry_run = dry_run
        self._parts = contextlib.ExitStack()
        with contextlib.ExitStack() as parts:
            parts.callback(os.close, spool_file.share(folder))
            self._write_lock = spool_file.lock_file(folder, spool_file.WRITE_LOCK_NAME)
            parts.callback(os.close, self._write_lock)
            self._connection = _open(folder / spool_file.FILE_NAME, self._write_lock)
            parts.callback(self._connection.close)
            self._parts = parts.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._parts.close()

    @contextlib.contextmanager
    def _change(self, exporter: str) -> Iterator[sqlite3.Connection]:
        with spool_file.write_lock(self._write_lock):
            self._connection.execute("BEGIN IMMEDIATE")
            done = False
            try:
                self._refuse_unknown(exporter)
                yield self._connection
                done = not self._dry_run
            except sqlite3.Error as error:
                raise StoreUnavailable(f"the spool cannot be changed: {error}") from None
            finally:
                self._connection.execute("COMMIT" if done else "ROLLBACK")

    def _refuse_unknown(self, exporter: str) -> None:
        known = [name for (name,) in self._connection.execute("SELECT sink FROM cursor ORDER BY sink")]
        dead = [name for (name,) in self._connection.execute("SELECT DISTINCT sink FROM dead_letter")]
        if exporter not in {*known, *dead}:
            hint = f"the spool knows {', '.join(known) or 'none yet'}"
            raise ConfigurationError("--exporter", f"the spool has nothing for {exporter!r}", hint)

    def acknowledge(self) -> int:
        """Take note of what the disk did not keep, so that /health is no longer degraded by it; return how many."""
        with spool_file.write_lock(self._write_lock), spool_file.transaction(self._connection):
            taken = self._connection.execute(
                "UPDATE loss SET acknowledged_ns = ? WHERE acknowledged_ns IS NULL", (time.time_ns(),)
            )
        return taken.rowcount

    # --- deliver again ----------------------------------------------------------------------------------------------
    def replay_dead(self, exporter: str, before_ns: int) -> Count:
        """Have the exporter's dead letters that came before a time delivered again; each leaves when it is."""
        with self._change(exporter) as connection:
            count = _count(connection, f"dead_letter WHERE {_OLD_DEAD}", (exporter, before_ns))
            connection.execute(
                f"INSERT OR IGNORE INTO replay SELECT id, sink FROM dead_letter WHERE {_OLD_DEAD}",  # noqa: S608
                (exporter, before_ns),
            )
        return count

    def replay_since(self, exporter: str, since_ns: int) -> Count:
        """Set the exporter's cursor back, before the first batch that is still there and came at or after a time."""
        with self._change(exporter) as connection:
            at = cursors.position(connection, exporter) or 0
            (first,) = connection.execute("SELECT min(seq) FROM batch WHERE received_ns >= ?", (since_ns,)).fetchone()
            if first is None or first > at:
                return Count(0, 0)
            count = _count(connection, "batch WHERE seq BETWEEN ? AND ?", (first, at))
            connection.execute(
                "UPDATE cursor SET (batches, items, bytes) = (SELECT cursor.batches - count(*), cursor.items"
                " - sum(b.items), cursor.bytes - sum(length(b.body)) FROM batch b WHERE b.seq BETWEEN ? AND ?), seq = ?"
                " WHERE sink = ?",
                (first, at, first - 1, exporter),
            )
        return count

    # --- drop -------------------------------------------------------------------------------------------------------
    def drop_dead(self, exporter: str, before_ns: int) -> Count:
        """Delete the exporter's dead letters that came before a time."""
        with self._change(exporter) as connection:
            count = _count(connection, f"dead_letter WHERE {_OLD_DEAD}", (exporter, before_ns))
            ids = f"SELECT id FROM dead_letter WHERE {_OLD_DEAD}"  # noqa: S608 - text of our own
            connection.execute(f"DELETE FROM replay WHERE id IN ({ids})", (exporter, before_ns))  # noqa: S608
            connection.execute(f"DELETE FROM dead_letter WHERE {_OLD_DEAD}", (exporter, before_ns))  # noqa: S608
            spool_file.count_outcome(connection, exporter, _DROPPED, count.batches, count.items)
        return count

    def drop_undelivered(self, exporter: str, before_ns: int) -> Count:
        """Have the exporter's cursor pass over what it has not got and came before a time."""
        with self._change(exporter) as connection:
            heads = cursors.older(connection, exporter, before_ns, _ALL)
            return Count(len(heads), cursors.pass_over(connection, exporter, heads, _DROPPED))

    def forget(self, exporter: str) -> Count:
        """Drop all that an exporter has not got, and its cursor. Refused while it is delivered to."""
        with self._change(exporter) as connection:
            if connection.execute("SELECT 1 FROM attached WHERE sink = ?", (exporter,)).fetchone():
                hint = "take it out of the settings and start the gateway again first, or use --undelivered"
                raise ConfigurationError("--forget", f"{exporter} is delivered to", hint)
            heads = cursors.older(connection, exporter, 1 << 62, _ALL)
            items = cursors.pass_over(connection, exporter, heads, _DROPPED)
            connection.execute("DELETE FROM cursor WHERE sink = ?", (exporter,))
        return Count(len(heads), items)


def _open(path: Path, write_lock: int) -> sqlite3.Connection:
    try:
        with spool_file.write_lock(write_lock):
            return spool_file.open_sound(path)
    except sqlite3.Error as error:
        raise spool_file.not_opened(path, error) from None


def _count(connection: sqlite3.Connection, source: str, values: tuple[object, ...]) -> Count:
    query = f"SELECT count(*), coalesce(sum(items), 0) FROM {source}"  # noqa: S608 - text of our own
    return Count(*connection.execute(query, values).fetchone())
