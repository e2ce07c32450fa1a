"""The spool: every acknowledged batch, redacted, on disk until all sinks have it.

One thread owns the write connection and commits all waiting appends in one transaction (group commit); an append's
future resolves after that commit. Each sink has a cursor, moved in the same file, so a crash repeats at most the chunk
that was under way. Delivered batches are kept for replay until they are older than the retention or the room is
needed; what is not delivered is never dropped: at `max_bytes` new batches are refused.
"""

import logging
import math
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_telemetry.errors import Overloaded, StoreUnavailable
from otel_telemetry.gateway import spool_file
from otel_telemetry.gateway.otlp_json import Signal
from otel_telemetry.gateway.spool_reader import Batch, SpoolReader

_GROUP_BYTES: Final = 16 << 20
_TRIM_SECONDS: Final = 1.0
_CROWDED_SECONDS: Final = 0.02
_TRIM_ROWS: Final = 64
_FREE_SHARE: Final = 0.1  # of max_bytes is kept free of batches that all sinks have, whatever their age
_VACUUM_PAGES: Final = 512
_KEEP_FREE_PAGES: Final = 1024  # free pages (16 MiB) that stay in the file for the next batches

#: A new cursor stands before the oldest batch that is still there, and counts as its own all that came before.
_NEW_CURSOR: Final = """
INSERT INTO cursor
SELECT ?, coalesce(min(b.seq) - 1, t.seq), t.batches - count(b.seq), t.items - coalesce(sum(b.items), 0),
       t.bytes - coalesce(sum(length(b.body)), 0)
FROM total t LEFT JOIN batch b ON true WHERE NOT EXISTS (SELECT 1 FROM cursor WHERE sink = ?) GROUP BY t.id
"""

_log = logging.getLogger("otel_telemetry.gateway.spool")


@dataclass(slots=True)
class _Append:
    row: tuple[str, int, int, bytes]
    future: Future[int]


@dataclass(slots=True)
class _Change:
    run: Callable[[sqlite3.Connection], None]
    future: Future[None]


class Spool:
    """The spool in `folder`; made, or recovered, on construction. Raises ConfigurationError where that fails.

    `problem` is why it cannot be written right now, or "".
    """

    def __init__(self, folder: Path, max_bytes: int, retention_hours: float) -> None:
        self._writer = spool_file.open_spool(folder)
        self.reader = SpoolReader(folder)
        self._last_seq = self.reader.last_seq()
        self.problem = ""
        self.max_bytes = max_bytes
        self._retention_ns = int(retention_hours * 3600e9)
        self._queue: queue.SimpleQueue[_Append | _Change | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._largest_refused = 0
        self._refusing = False
        self._counting = threading.Lock()
        self._committed = threading.Condition()
        self._closed = False
        self._live_bytes = spool_file.measure(self._writer)
        self._thread = threading.Thread(target=self._write_loop, name="otel-telemetry-spool", daemon=True)
        self._thread.start()

    # --- writing ------------------------------------------------------------------------------------------------
    def append(self, signal: Signal, body: bytes, items: int) -> Future[int]:
        """Queue a redacted batch; the future is its seq, once committed, or StoreUnavailable.

        Raises Overloaded at once when the spool is full, StoreUnavailable when it is closed.
        """
        with self._counting:
            if self._closed:
                raise StoreUnavailable("the spool is closed")
            if self._live_bytes + self._waiting_bytes + len(body) > self.max_bytes:
                self._refusing = True
                self._largest_refused = max(self._largest_refused, len(body))
                raise Overloaded("the spool is full", random.uniform(1, 3))  # noqa: S311 - spreads retries, no secret
            self._refusing = False
            self._waiting_bytes += len(body)
            future: Future[int] = Future()
            self._queue.put(_Append((signal, time.time_ns(), items, body), future))
        return future

    @property
    def full(self) -> bool:
        """Say whether it refused the last batch for lack of room, and has not got much more room since."""
        return self._refusing and self._crowded()

    def attach(self, sinks: Sequence[str]) -> None:
        """Give each named sink a cursor (a new one starts at the oldest batch) and forget the cursors of all others."""

        def run(connection: sqlite3.Connection) -> None:
            connection.executemany(_NEW_CURSOR, [(name, name) for name in sinks])
            marks = ",".join("?" * len(sinks))
            connection.execute(f"DELETE FROM cursor WHERE sink NOT IN ({marks})", list(sinks))  # noqa: S608 - marks only

        self._change(run)

    def advance(self, sink: str, batches: Sequence[Batch], dead: Sequence[tuple[Batch, str]] = ()) -> None:
        """Move the sink's cursor behind `batches`; it has them all, except the `dead` ones, set aside with a reason."""
        letters = [(sink, b.seq, b.signal, b.received_ns, time.time_ns(), b.items, why, b.body) for b, why in dead]
        moved = (
            batches[-1].seq, len(batches), sum(b.items for b in batches), sum(len(b.body) for b in batches), sink,
        )  # fmt: skip

        def run(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT INTO dead_letter (sink, seq, signal, received_ns, at_ns, items, reason, body)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                letters,
            )
            connection.execute(
                "UPDATE cursor SET seq = ?, batches = batches + ?, items = items + ?, bytes = bytes + ? WHERE sink = ?",
                moved,
            )

        self._change(run)

    def _change(self, run: Callable[[sqlite3.Connection], None]) -> None:
        future: Future[None] = Future()
        with self._counting:
            if self._closed:
                raise StoreUnavailable("the spool is closed")
            self._queue.put(_Change(run, future))
        future.result()

    # --- reading ------------------------------------------------------------------------------------------------
    def wait(self, after_seq: int, timeout: float) -> None:
        """Wait until there is a batch behind `after_seq`, or `wake` is called, or the time is over."""
        with self._committed:
            if self._last_seq <= after_seq:  # what other processes commit is seen after the timeout
                self._committed.wait(timeout)

    def wake(self) -> None:
        """End every `wait`."""
        with self._committed:
            self._committed.notify_all()

    def close(self) -> None:
        """Commit what waits, end the writer and close the file. Safe to repeat."""
        with self._counting:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        self.reader.close()
        self._writer.close()

    # --- the writer's thread ------------------------------------------------------------------------------------
    def _write_loop(self) -> None:
        looked = time.monotonic()
        more = True
        while more:
            due = looked + (_CROWDED_SECONDS if self._crowded() else _TRIM_SECONDS)
            group, more = self._take_group(due - time.monotonic())
            if group:
                self._commit(group)
            if time.monotonic() >= due and (self._crowded() or not group):  # else: the senders come first
                looked = -math.inf if self._guarded_trim() else time.monotonic()

    def _take_group(self, timeout: float) -> tuple[list[_Append | _Change], bool]:
        """Return what waits, up to a transaction's worth, and whether the loop goes on."""
        group: list[_Append | _Change] = []
        size = 0
        try:
            task = self._queue.get(timeout=timeout) if timeout > 0 else self._queue.get_nowait()
            while task is not None:
                group.append(task)
                size += len(task.row[3]) if isinstance(task, _Append) else 0
                if size >= _GROUP_BYTES:
                    break
                task = self._queue.get_nowait()
        except queue.Empty:
            return group, True
        return group, task is not None

    def _commit(self, group: Sequence[_Append | _Change]) -> None:
        appends = [task for task in group if isinstance(task, _Append)]
        changes = [task for task in group if isinstance(task, _Change)]
        wanted = [task for task in appends if task.future.set_running_or_notify_cancel()]
        try:
            with spool_file.transaction(self._writer):
                last = spool_file.insert(self._writer, [task.row for task in wanted]) if wanted else 0
                for change in changes:
                    change.run(self._writer)
            self._live_bytes = spool_file.measure(self._writer)
        except Exception as error:  # noqa: BLE001 - of any fault the senders are told; the writer must live on
            self._fail([*wanted, *changes], error)
        else:
            self._succeed(wanted, changes, last)
        finally:
            with self._counting:
                self._waiting_bytes -= sum(len(task.row[3]) for task in appends)

    def _succeed(self, appends: Sequence[_Append], changes: Sequence[_Change], last: int) -> None:
        self.problem = ""
        self._last_seq = last or self._last_seq
        for seq, task in enumerate(appends, last - len(appends) + 1):
            task.future.set_result(seq)
        for change in changes:
            change.future.set_result(None)
        if appends:
            self.wake()

    def _fail(self, tasks: Sequence[_Append | _Change], error: Exception) -> None:
        if not self.problem:
            _log.error("the spool cannot be written, senders are told to retry: %s", error)
        self.problem = str(error)
        for task in tasks:
            task.future.set_exception(StoreUnavailable(f"the spool cannot be written: {error}"))

    def _crowded(self) -> bool:
        return self._live_bytes > self._high_water()

    def _high_water(self) -> float:
        """Return the size from which delivered batches go whatever their age, so that what comes finds room."""
        return self.max_bytes - max(_FREE_SHARE * self.max_bytes, self._largest_refused)

    def _guarded_trim(self) -> bool:
        try:
            self._probe()
            return self._trim() or self._shrink()
        except Exception as error:  # noqa: BLE001 - the writer must live on
            _log.warning("trimming the spool failed, it will be tried again: %s", error)
            return False

    def _probe(self) -> None:
        """Find out whether a spool that could not be written can be again; nobody may be sending meanwhile."""
        if self.problem:
            with spool_file.transaction(self._writer):
                self._writer.execute("UPDATE total SET seq = seq")
            self.problem = ""

    def _trim(self) -> bool:
        """Drop some delivered batches that are past the retention, or in the way; true if there may be more."""
        heads = self._writer.execute(
            "SELECT seq, received_ns, length(body) FROM batch WHERE seq <= (SELECT min(seq) FROM cursor)"
            " ORDER BY seq LIMIT ?",
            (_TRIM_ROWS,),
        ).fetchall()
        gone = [(seq,) for seq in self._to_drop(heads)]
        if gone:
            with spool_file.transaction(self._writer):
                self._writer.executemany("DELETE FROM batch WHERE seq = ?", gone)
                self._writer.execute("UPDATE total SET trimmed = trimmed + ?", (len(gone),))
            self._live_bytes = spool_file.measure(self._writer)
        return len(gone) == _TRIM_ROWS

    def _to_drop(self, heads: Sequence[tuple[int, int, int]]) -> Iterator[int]:
        """Yield those of the (seq, received_ns, size) that are past the retention, or in the way of new ones."""
        horizon = time.time_ns() - self._retention_ns
        too_much = self._live_bytes - self._high_water()
        for seq, received_ns, size in heads:
            if received_ns <= horizon or too_much > 0:
                yield seq
                too_much -= size

    def _shrink(self) -> bool:
        """Give some free pages back to the disk when they are many; true if there may be more."""
        before = self._excess()
        if not before:
            return False
        # execute() would take one step of it, and each step frees one page
        self._writer.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
        after = self._excess()
        if not after:
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # only now does the file get shorter
        return 0 < after < before

    def _excess(self) -> int:
        """Return how many pages are free beyond what the next batches may well need."""
        pages, free = (spool_file.pragma(self._writer, name) for name in ("page_count", "freelist_count"))
        return max(0, free - max(_KEEP_FREE_PAGES, pages // 4))
