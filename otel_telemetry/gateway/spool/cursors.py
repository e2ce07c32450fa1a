"""Cursors and dead letters: the progress of each sink, as statements in their caller's transaction.

Code that moves a cursor first reads its position: the gateway and an operator's command may move it at the same time.
"""

import itertools
import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from otel_telemetry.base.destinations import Signal
from otel_telemetry.gateway.spool import spool_file
from otel_telemetry.gateway.spool.reader import Batch

#: A new cursor stands before the oldest batch that is still there, and counts as its own all that came before.
_NEW: Final = """
INSERT INTO cursor
SELECT ?, coalesce(min(b.seq) - 1, t.seq), t.batches - count(b.seq), t.items - coalesce(sum(b.items), 0),
       t.bytes - coalesce(sum(length(b.body)), 0)
FROM total t LEFT JOIN batch b ON true WHERE NOT EXISTS (SELECT 1 FROM cursor WHERE sink = ?) GROUP BY t.id
"""


class Head(NamedTuple):
    """A batch without its body."""

    seq: int
    signal: Signal
    items: int
    bytes: int


def head(batch: Batch) -> Head:
    """Return the head of a batch."""
    return Head(batch.seq, batch.signal, batch.items, len(batch.body) + batch.left_out)


def attach(connection: sqlite3.Connection, sinks: Sequence[str]) -> list[str]:
    """Give each named sink a cursor; return the other sinks that still have undelivered batches.

    Others that have everything are forgotten, so that they hold nothing back.
    """
    connection.executemany(_NEW, [(name, name) for name in sinks])
    connection.execute("DELETE FROM attached")
    connection.executemany("INSERT INTO attached VALUES (?)", [(name,) for name in sinks])
    others = "sink NOT IN (SELECT sink FROM attached)"
    connection.execute(f"DELETE FROM cursor WHERE {others} AND seq >= (SELECT seq FROM total)")  # noqa: S608
    return [name for (name,) in connection.execute(f"SELECT sink FROM cursor WHERE {others}")]  # noqa: S608


def position(connection: sqlite3.Connection, sink: str) -> int | None:
    """Return the number of the last batch that the sink has, None where it has no cursor."""
    row = connection.execute("SELECT seq FROM cursor WHERE sink = ?", (sink,)).fetchone()
    return int(row[0]) if row else None


def advance(
    connection: sqlite3.Connection, sink: str, batches: Sequence[Batch], dead_letters: Sequence[tuple[Batch, str]]
) -> None:
    """Move the cursor behind batches that were read in order, and set the dead ones aside with their reasons.

    What was dropped meanwhile counts for nothing any more. Where the cursor was set back meanwhile it stays there.
    """
    at = position(connection, sink)
    if at is None or _set_back(connection, at, batches[0].seq):
        return
    fresh = [batch for batch in batches if batch.seq > at]
    if not fresh:
        return
    dead_letter_batches(connection, sink, [(batch, reason) for batch, reason in dead_letters if batch.seq > at])
    _move(connection, sink, [head(batch) for batch in fresh])


def _set_back(connection: sqlite3.Connection, at: int, first: int) -> bool:
    row = connection.execute("SELECT 1 FROM batch WHERE seq > ? AND seq < ? LIMIT 1", (at, first)).fetchone()
    return row is not None


def _move(connection: sqlite3.Connection, sink: str, heads: Sequence[Head]) -> None:
    connection.execute(
        "UPDATE cursor SET seq = ?, batches = batches + ?, items = items + ?, bytes = bytes + ? WHERE sink = ?",
        (heads[-1].seq, len(heads), sum(one.items for one in heads), sum(one.bytes for one in heads), sink),
    )
    # At the end there is nothing before it, whatever could not be counted on the way.
    connection.execute(
        "UPDATE cursor SET (batches, items, bytes) = (SELECT batches, items, bytes FROM total)"
        " WHERE sink = ? AND seq >= (SELECT seq FROM total)",
        (sink,),
    )


# --- what a sink never gets -----------------------------------------------------------------------------------------
def older(connection: sqlite3.Connection, sink: str, before_ns: int, limit: int) -> list[Head]:
    """Return the first batches that the sink has not got yet, as far as they came before a time."""
    query = (
        "SELECT seq, signal, items, length(body), received_ns FROM batch"
        " WHERE seq > (SELECT seq FROM cursor WHERE sink = ?) ORDER BY seq LIMIT ?"
    )
    rows = connection.execute(query, (sink, limit)).fetchall()
    return [Head(*row[:4]) for row in itertools.takewhile(lambda row: row[4] < before_ns, rows)]


def pass_over(connection: sqlite3.Connection, sink: str, heads: Sequence[Head], what: str) -> int:
    """Move the cursor behind the next batches without delivering them, count that, and return their items."""
    at = position(connection, sink)
    gone = [one for one in heads if at is not None and one.seq > at]
    if not gone:
        return 0
    _move(connection, sink, gone)
    items = sum(one.items for one in gone)
    spool_file.count_outcome(connection, sink, what, len(gone), items)
    return items


# --- dead letters ---------------------------------------------------------------------------------------------------
def dead_letter_batches(connection: sqlite3.Connection, sink: str, dead_letters: Iterable[tuple[Batch, str]]) -> None:
    """Store batches as dead letters, each with the reason why the sink refused it."""
    now = time.time_ns()
    connection.executemany(
        "INSERT INTO dead_letter (sink, seq, signal, received_ns, at_ns, items, reason, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(sink, b.seq, b.signal, b.received_ns, now, b.items, reason, b.body) for b, reason in dead_letters],
    )


def ack_replayed(
    connection: sqlite3.Connection, sink: str, letters: Sequence[Batch], dead_letters: Sequence[tuple[Batch, str]]
) -> None:
    """Delete dead letters that were delivered again, except those that were refused again."""
    ids = [(-letter.seq,) for letter in letters]
    seqs = {letter.seq: _seq_of(connection, -letter.seq) for letter in letters}
    connection.executemany("DELETE FROM replay WHERE id = ?", ids)
    connection.executemany("DELETE FROM dead_letter WHERE id = ?", ids)
    again = [
        (Batch(seqs[b.seq] or 0, b.signal, b.received_ns, b.items, b.body), why)
        for b, why in dead_letters
        if seqs.get(b.seq) is not None
    ]
    dead_letter_batches(connection, sink, again)


def _seq_of(connection: sqlite3.Connection, letter: int) -> int | None:
    row = connection.execute("SELECT seq FROM dead_letter WHERE id = ?", (letter,)).fetchone()
    return int(row[0]) if row else None
