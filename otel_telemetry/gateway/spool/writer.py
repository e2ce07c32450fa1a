"""The spool: every acknowledged batch, redacted, on disk until all sinks have it.

One thread owns the write connection and commits all waiting appends in one transaction (group commit); an append's
future resolves after that commit. Each sink has a cursor, moved in the same file, so a crash repeats at most the chunk
in progress. Delivered batches are kept for replay until they are older than the retention or their space is needed.
Undelivered batches are dropped only on request: at `max_bytes` new batches are refused.

Several processes may have the file open, each with its own Spool: any number append, one delivers and does the
maintenance.
"""

import logging
import math
import os
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from otel_telemetry.base import metrics
from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import DiskFull, Overloaded, SpoolDamaged, StoreUnavailable
from otel_telemetry.gateway.spool import cursors, recovery, spool_file
from otel_telemetry.gateway.spool.disk import DiskRoom, no_room
from otel_telemetry.gateway.spool.housekeeping import Housekeeper
from otel_telemetry.gateway.spool.put_back import put_back
from otel_telemetry.gateway.spool.reader import Batch, SpoolReader, SpoolStatus
from otel_telemetry.gateway.spool.watch import FileWatch

_GROUP_BYTES: Final = 16 << 20
_LOOK_SECONDS: Final = 1.0
_CROWDED_SECONDS: Final = 0.02
_POLL_SECONDS: Final = 0.05  # what other processes commit is seen after this
_FREE_SHARE: Final = 0.1  # of max_bytes is kept free of batches that all sinks have, whatever their age
_DEAD_PART: Final = 4  # at most this part of max_bytes may be one sink's dead letters
_STUCK_SECONDS: Final = 5.0
_LOW_DISK_BYTES: Final = 64 << 20
_LONGEST_WAIT_FOR_ROOM: Final = 3.0

_log = logging.getLogger("otel_telemetry.gateway.spool")


@dataclass(slots=True)
class _Append:
    rows: tuple[tuple[str, int, int, bytes], ...]
    size: int
    future: Future[int]


@dataclass(slots=True)
class _Change:
    run: Callable[[sqlite3.Connection], None]
    future: Future[None]


class Spool:
    """The spool in `folder`; made, or recovered, on construction. Raises ConfigurationError where that fails.

    `problem` is why it cannot be written right now, or "". The one `housekeeper` among several processes trims it,
    after `retention_hours` for what is delivered, after `max_age_hours` (0: never) for what is not, and each sink's
    dead letters from `max_dead_bytes` (0: never) or a quarter of `max_bytes`. It keeps room for a batch of
    `largest_body` bytes.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        retention_hours: float,
        *,
        max_age_hours: float = 0.0,
        max_dead_bytes: int = 0,
        largest_body: int = 0,
        housekeeper: bool = True,
    ) -> None:
        self._folder = folder
        self._disk_low = False
        self._disk = DiskRoom(folder)
        self._shared = spool_file.share(folder)
        self._write_lock_file = spool_file.lock_file(folder, spool_file.WRITE_LOCK_NAME)
        try:
            self._writer = recovery.open_spool(folder, self._shared, self._write_lock_file)
        except BaseException:
            self._let_go()
            raise
        self.reader = SpoolReader(folder)
        self.max_dead_bytes = min(max_dead_bytes, max_bytes // _DEAD_PART)
        policy = (retention_hours, max_age_hours, self.max_dead_bytes)
        self._housekeeper = Housekeeper(self._writer, self._write_lock, *policy) if housekeeper else None
        self._last_seq = self.reader.last_seq()
        self.problem = ""
        self.on_damage: Callable[[], object] = lambda: None  # called when the file turns out to be damaged
        self.reader.on_damage = self._damaged
        self.max_bytes = max_bytes
        self._queue: queue.SimpleQueue[_Append | _Change | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._writing_since = math.inf
        self._largest_refused = min(largest_body, max_bytes // 2)  # what other processes refuse is not known here
        self._refusing = False
        self._watch = FileWatch(folder)
        self._counting = threading.Lock()
        self._committed = threading.Condition()
        self._closed = False
        self._live_bytes = spool_file.measure(self._writer)
        self._thread = threading.Thread(target=self._write_loop, name="otel-telemetry-spool", daemon=True)
        self._thread.start()

    def _write_lock(self) -> AbstractContextManager[None]:
        return spool_file.write_lock(self._write_lock_file)

    def _let_go(self) -> None:
        os.close(self._write_lock_file)
        os.close(self._shared)

    # --- writing ------------------------------------------------------------------------------------------------
    def append(self, signal: Signal, body: bytes, items: int) -> Future[int]:
        """Queue a redacted batch; the future is its seq, once committed, or StoreUnavailable.

        Raises Overloaded at once when the spool is full, StoreUnavailable when it is closed.
        """
        return self.append_all(signal, [(body, items)])

    def append_all(self, signal: Signal, batches: Sequence[tuple[bytes, int]]) -> Future[int]:
        """Queue bodies with their numbers of items, of which all are stored or none, as `append` does."""
        size = sum(len(body) for body, _ in batches)
        with self._counting:
            self._admit(size)
            self._refusing = False
            self._waiting_bytes += size
            future: Future[int] = Future()
            now = time.time_ns()
            rows = tuple((signal, now, items, body) for body, items in batches)
            self._queue.put(_Append(rows, size, future))
        return future

    def expect(self, size: int) -> None:
        """See Transport.expect."""
        with self._counting:
            self._admit(size)

    def _admit(self, size: int) -> None:
        if self._closed:
            raise StoreUnavailable("the spool is closed")
        if self._watch.gone:
            raise StoreUnavailable(self._watch.gone)
        if self._live_bytes + self._waiting_bytes + size > self.max_bytes:
            raise self._full(size)

    @property
    def full(self) -> bool:
        """Return whether it refused the last batch for lack of room, and has not got much more room since."""
        return self._refusing and self._crowded()

    @property
    def disk_problem(self) -> str:
        """Return which disk has no room for new batches; "" if there is room."""
        return self._disk.problem()

    @property
    def stuck(self) -> bool:
        """Return why a write does not end, "" if it does: a disk that hangs, a process that is stopped."""
        return time.monotonic() - self._writing_since > _STUCK_SECONDS

    def _full(self, size: int) -> Overloaded:
        self._refusing = True
        self._largest_refused = max(self._largest_refused, size)
        return Overloaded("the spool is full", random.uniform(1, _LONGEST_WAIT_FOR_ROOM))  # noqa: S311 - spreads retries

    def attach(self, sinks: Sequence[str]) -> None:
        """Give each named sink a cursor; a new one starts at the oldest batch. Only the delivering process does so.

        Of other sinks, those that have received everything are forgotten; undelivered batches of the rest are kept and
        logged.
        """
        left: list[str] = []
        self._change(lambda connection: left.extend(cursors.attach(connection, sinks)))
        for name in left:
            _log.warning(
                "nobody delivers to %s any more, and what it has not got is kept: configure it again, or say "
                "`otel-telemetry spool drop --exporter %s --forget`", name, name,
            )  # fmt: skip

    def advance(self, sink: str, batches: Sequence[Batch], dead: Sequence[tuple[Batch, str]] = ()) -> None:
        """Note that the sink has `batches`, which `due` returned, except the `dead` ones, set aside with a reason."""
        move = cursors.ack_replayed if batches[0].seq < 0 else cursors.advance
        self._change(lambda connection: move(connection, sink, batches, dead))

    def set_aside(self, sink: str, signal: Signal, reason: str) -> None:
        """Keep a dead letter without a body, of a request that was never acknowledged."""
        letter = Batch(0, signal, time.time_ns(), 0, b"")
        self._change(lambda connection: cursors.dead_letter_batches(connection, sink, [(letter, reason)]))

    def _change(self, run: Callable[[sqlite3.Connection], None]) -> None:
        future: Future[None] = Future()
        with self._counting:
            if self._closed:
                raise StoreUnavailable("the spool is closed")
            self._queue.put(_Change(run, future))
        future.result()

    # --- reading ------------------------------------------------------------------------------------------------
    def due(self, sink: str, limit_bytes: int, limit_batches: int, wanted: Collection[Signal] = ()) -> list[Batch]:
        """Return what the sink gets next: requested dead letters, else the batches after its cursor.

        Data that the disk lost is skipped here, counted and logged. Batches of signals other than those `wanted` come
        without their bodies.
        """
        while True:
            found = self.reader.replays(sink, limit_bytes, limit_batches) or self.reader.read(
                self.reader.position(sink), limit_bytes, limit_batches, wanted
            )
            damaged = [index for index, batch in enumerate(found) if batch.damaged]
            if not damaged:
                return found
            if damaged[0]:
                return found[: damaged[0]]
            self._pass_over(sink, found[0])

    def _pass_over(self, sink: str, batch: Batch) -> None:
        heads = [cursors.head(batch)]

        def run(connection: sqlite3.Connection) -> None:
            cursors.pass_over(connection, sink, heads, "unreadable")
            spool_file.count_loss(connection, batch.seq, batch.items)

        self._change(run)
        metrics.dropped.add(batch.items, {"signal": batch.signal, "exporter": sink, "reason": "unreadable"})
        _log.error("batch %d of the spool cannot be read from the disk, %s will not get it", batch.seq, sink)

    def hold(self, sink: str) -> None:
        """Do nothing: what is on the disk is nobody else's."""

    def wait(self, sink: str, timeout: float) -> None:
        """Wait until there is a batch behind the sink's cursor, or `wake` is called, or the time is over."""
        end = time.monotonic() + timeout
        after_seq = self.reader.position(sink)
        while (left := end - time.monotonic()) > 0:
            with self._committed:
                if self._last_seq > after_seq or self._committed.wait(min(_POLL_SECONDS, left)):
                    return
            if self.reader.last_seq() > after_seq:  # another process committed it
                return

    def wake(self) -> None:
        """End every `wait`."""
        with self._committed:
            self._committed.notify_all()

    def status(self) -> SpoolStatus:
        """Return the spool in numbers."""
        return self.reader.status()

    def health(self, now: SpoolStatus) -> dict[str, Any]:
        """Return what /health shows of it."""
        gone = self._watch.gone
        disk = "" if gone else self.disk_problem
        problem = gone or disk or self.problem or ("a write does not end" if self.stuck else "")
        state = "disk_full" if disk else "failing" if problem else "full" if self.full else "ok"
        numbers = {
            "bytes": now.bytes,
            "max_bytes": self.max_bytes,
            "batches": now.batches,
            "oldest_seconds": round(now.oldest_seconds, 3),
            "dead_letters": now.dead_letters,
        }
        return {"status": state, "transport": "disk", **numbers} | ({"problem": problem} if problem else {})

    def close(self) -> None:
        """Commit what waits, end the writer and close the file. Safe to repeat."""
        with self._counting:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        self.reader.close()
        with self._write_lock():  # the last one to close puts the log into the file
            if self._watch.file_gone() and (spool_file.alone(self._shared) or self._housekeeper):
                put_back(self._folder, self._writer, self._watch)
            self._writer.close()
            os.close(self._shared)  # of two that close, one is the last
        os.close(self._write_lock_file)

    # --- the writer's thread ------------------------------------------------------------------------------------
    def _write_loop(self) -> None:
        looked = time.monotonic()
        more = True
        while more:
            due = looked + (_CROWDED_SECONDS if self._crowded() else _LOOK_SECONDS)
            group, more = self._take_group(due - time.monotonic())
            if group:
                self._commit(group)
            if time.monotonic() >= due and (self._crowded() or not group):  # else: the senders come first
                looked = -math.inf if self._look() else time.monotonic()

    def _take_group(self, timeout: float) -> tuple[list[_Append | _Change], bool]:
        """Return what waits, up to a transaction's worth, and whether the loop goes on."""
        group: list[_Append | _Change] = []
        size = 0
        try:
            task = self._queue.get(timeout=timeout) if timeout > 0 else self._queue.get_nowait()
            while task is not None:
                group.append(task)
                size += task.size if isinstance(task, _Append) else 0
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
        self._writing_since = time.monotonic()
        try:
            with self._write_lock(), spool_file.transaction(self._writer):
                fitting = self._fitting(wanted)
                rows = [row for task in fitting for row in task.rows]
                last = spool_file.insert(self._writer, rows) if rows else 0
                for change in changes:
                    change.run(self._writer)
            self._live_bytes = spool_file.measure(self._writer)
        except Exception as error:  # noqa: BLE001 - of any fault the senders are told; the writer must live on
            self._fail([*wanted, *changes], error)
        else:
            self._succeed(fitting, changes, last)
            self._refuse(wanted[len(fitting) :])
        finally:
            self._writing_since = math.inf
            with self._counting:
                self._waiting_bytes -= sum(task.size for task in appends)

    def _fitting(self, wanted: list[_Append]) -> list[_Append]:
        """Return the first of them, as many as there is room for: other processes may have filled it meanwhile.

        The last of the disk is left to cursors and trimming, without which it would never get room again.
        """
        room = 0
        if wanted:
            room = min(self.max_bytes - spool_file.measure(self._writer), self._disk.room())
        for index, task in enumerate(wanted):
            room -= task.size
            if room < 0:
                return wanted[:index]
        return wanted

    def _refuse(self, tasks: Sequence[_Append]) -> None:
        """Refuse batches without room, with the limit that was reached."""
        for task in tasks:
            short = self._disk.short_of(task.size)
            task.future.set_exception(self._disk.refuse(task.size) if short else self._full(task.size))

    def _succeed(self, appends: Sequence[_Append], changes: Sequence[_Change], last: int) -> None:
        self.problem = ""
        self._last_seq = last or self._last_seq
        seq = last - sum(len(task.rows) for task in appends)
        for task in appends:
            seq += len(task.rows)
            task.future.set_result(seq)
        for change in changes:
            change.future.set_result(None)
        if appends:
            self._disk.took()
            self.wake()

    def _fail(self, tasks: Sequence[_Append | _Change], error: Exception) -> None:
        if not self.problem:
            _log.error("the spool cannot be written, senders are told to retry: %s", error)
        self.problem = str(error)
        self._log_damage(error)
        kind = SpoolDamaged if spool_file.means_damage(error) else DiskFull if no_room(error) else StoreUnavailable
        for task in tasks:
            task.future.set_exception(kind(f"the spool cannot be written: {error}"))

    def _damaged(self) -> None:
        self.on_damage()  # as it is set by then

    def _crowded(self) -> bool:
        return self._disk_low or self._live_bytes > self._high_water()

    def _high_water(self) -> float:
        """Return the size from which delivered batches go whatever their age, so that what comes finds room."""
        return self.max_bytes - max(_FREE_SHARE * self.max_bytes, self._largest_refused)

    def _look(self) -> bool:
        """Run one step of maintenance; return True if more of it is due at once."""
        try:
            self._watch.look()
            if self._watch.gone:  # all is kept as it is for the stop
                return False
            if self.problem:
                spool_file.give_up_reserve(self._folder)
            self._probe()
            self._live_bytes = spool_file.measure(self._writer)
            return self._housekeeper is not None and self._maintain(self._housekeeper)
        except Exception as error:  # noqa: BLE001 - the writer must live on
            _log.warning("trimming the spool failed, it will be tried again: %s", error)
            self._log_damage(error)
            return False

    def _log_damage(self, error: Exception) -> None:
        if spool_file.means_damage(error):
            self.on_damage()

    def _maintain(self, housekeeper: Housekeeper) -> bool:
        low = spool_file.disk_left(self._folder) < _LOW_DISK_BYTES
        if low and not self._disk_low:
            _log.warning("the disk of %s is nearly full: what is delivered is no longer kept for replay", self._folder)
        self._disk_low = low
        if not self.problem:
            spool_file.keep_reserve(self._folder)
        return housekeeper.step(self._live_bytes - self._high_water(), disk_low=low)

    def _probe(self) -> None:
        """Find out whether a spool that could not be written can be again; nobody may be sending meanwhile."""
        if self.problem:
            with self._write_lock(), spool_file.transaction(self._writer):
                self._writer.execute("UPDATE total SET seq = seq")
            self.problem = ""
