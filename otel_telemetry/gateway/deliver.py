"""Delivery: one thread per sink reads the spool behind the sink's cursor and hands batches over.

Every batch ends as delivered or, where the sink can never take it, as a dead letter kept with its reason. A sink that
is away (StoreUnavailable) is tried again with a growing, jittered pause. Any other exception means that one of the
batches is poisonous: the chunk is halved until it is found. The cursor moves only after the sink returned, so a crash
repeats a chunk at most (sinks are idempotent).
"""

import contextlib
import logging
import random
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from otel_telemetry import metrics
from otel_telemetry.errors import SchemaTooNew, StoreError, StoreUnavailable
from otel_telemetry.gateway.otlp_json import Signal
from otel_telemetry.gateway.spool import Spool
from otel_telemetry.gateway.spool_reader import Batch

_CHUNK_BYTES: Final = 8 << 20
_CHUNK_BATCHES: Final = 256
_LOOK_SECONDS: Final = 1.0  # another process may have committed: only commits of this one wake us at once
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 30.0
_REASON_CHARACTERS: Final = 500

_log = logging.getLogger("otel_telemetry.gateway.deliver")


class Sink(Protocol):
    """Where batches go. `deliver` returns once they are safe there; raises StoreUnavailable to get them again later."""

    @property
    def name(self) -> str:
        """Its name, the same over restarts: the spool's cursor belongs to it."""

    def deliver(self, signal: Signal, bodies: Sequence[bytes]) -> None:
        """Store the requests; return once they are safe."""

    def close(self) -> None:
        """Let go of what it holds. Called once, in the thread that delivers, after the last delivery."""


class _Stopped(Exception):
    """The delivery was told to stop while it waited."""


@dataclass(slots=True)
class _Chunk:
    """Batches read at one time: what is still to deliver, by signal, and what turned out to be poisonous."""

    batches: list[Batch]
    todo: deque[list[Batch]] = field(default_factory=deque)
    dead: list[tuple[Batch, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        by_signal: dict[Signal, list[Batch]] = {}
        for batch in self.batches:
            by_signal.setdefault(batch.signal, []).append(batch)
        self.todo.extend(by_signal.values())


class Delivery:
    """Delivers to one sink until stopped. `problem` is why the sink is waited for, or ""."""

    def __init__(self, spool: Spool, sink: Sink) -> None:
        self._spool = spool
        self._sink = sink
        self._stop = threading.Event()
        self._abandoned = False
        self._failures = 0
        self.problem = ""
        self._thread = threading.Thread(target=self._run, name=f"otel-telemetry-deliver-{sink.name}", daemon=True)

    @property
    def name(self) -> str:
        """The sink's name."""
        return self._sink.name

    def start(self) -> None:
        """Begin; the spool must know the sink (`Spool.attach`)."""
        self._thread.start()

    def stop(self) -> None:
        """Let the thread deliver what the sink takes now, then end. Does not wait for that."""
        self._stop.set()
        self._spool.wake()

    def abandon(self) -> None:
        """Let the thread end after the call that it is in."""
        self._abandoned = True
        self.stop()

    def finished(self) -> bool:
        """Say whether the thread has ended."""
        return not self._thread.is_alive()

    # --- the thread -------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        with contextlib.suppress(_Stopped):
            while not self._abandoned:
                self._step()
        try:
            self._sink.close()
        except Exception:  # noqa: BLE001 - it is over for this sink either way
            _log.exception("%s did not close well", self._sink.name)

    def _step(self) -> None:
        try:
            position = self._spool.reader.position(self._sink.name)
            batches = self._spool.reader.read(position, _CHUNK_BYTES, _CHUNK_BATCHES)
            if batches:
                self._deliver(_Chunk(batches))
            elif not self._stop.is_set():
                self._spool.wait(position, _LOOK_SECONDS)
            else:
                self._abandoned = True
        except StoreUnavailable as error:  # the spool itself
            self._pause(error)
        except _Stopped:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end the delivery
            _log.exception("delivery to %s stumbled, it goes on", self._sink.name)
            self._pause(StoreUnavailable(type(error).__name__))

    def _deliver(self, chunk: _Chunk) -> None:
        while chunk.todo:
            self._check()
            group = chunk.todo.popleft()
            try:
                self._sink.deliver(group[0].signal, [batch.body for batch in group])
            except (StoreUnavailable, SchemaTooNew) as error:  # not the batches' fault
                chunk.todo.appendleft(group)
                self._pause(error)
            except Exception as error:  # noqa: BLE001 - a sink may fail in any way on hostile data
                self._halve(chunk, group, error)
            else:
                self._recovered()
        self._spool.advance(self._sink.name, chunk.batches, chunk.dead)
        self._mourn(chunk.dead)

    def _mourn(self, dead: Sequence[tuple[Batch, str]]) -> None:
        for batch, reason in dead:
            kind = reason.partition(":")[0]
            metrics.dead_lettered.add(batch.items, {"exporter": self._sink.name, "reason": kind})
        if dead:
            (first, reason), name = dead[0], self._sink.name
            _log.error(
                "%s can never take %d batches, the first is %d (%s); they are kept as dead letters",
                name, len(dead), first.seq, reason.partition(":")[0],
            )  # fmt: skip

    def _halve(self, chunk: _Chunk, group: list[Batch], error: Exception) -> None:
        middle = len(group) // 2
        if middle:
            chunk.todo.extendleft((group[middle:], group[:middle]))
            return
        reason = f"{type(error).__name__}: {error}"[:_REASON_CHARACTERS]
        chunk.dead.append((group[0], reason))

    def _pause(self, error: StoreError) -> None:
        if self._stop.is_set():
            raise _Stopped
        if not self._failures:
            _log.warning("%s is away, what is spooled waits for it: %s", self._sink.name, error)
        self.problem = str(error)
        self._failures += 1
        metrics.write_failures.add(1, {"exporter": self._sink.name})
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._failures - 1, 10))
        if self._stop.wait(longest * random.uniform(0.5, 1)):  # noqa: S311 - spreads retries
            raise _Stopped

    def _recovered(self) -> None:
        if self._failures:
            _log.warning("%s is back after %d failed tries", self._sink.name, self._failures)
        self._failures = 0
        self.problem = ""

    def _check(self) -> None:
        if self._abandoned:
            raise _Stopped
