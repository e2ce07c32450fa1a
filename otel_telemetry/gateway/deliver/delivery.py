"""Delivery: one thread per sink reads the spool from the sink's cursor and delivers batches.

Every batch ends as delivered or, if the sink can never accept it, as a dead letter with its reason. A sink that is down
(StoreUnavailable) is retried, as its circuit allows. Any other exception means that one of the batches is bad: the
group is halved until it is found. If the fault may be the destination's, that happens after some more retries. The
cursor moves only after the sink returned, so a crash repeats at most one chunk.
"""

import contextlib
import dataclasses
import itertools
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_telemetry.base import memory, metrics
from otel_telemetry.base.destinations import AcceptsSignals, NeedsReceiveTime, Receipt, Rejected, Signal, Sink, runs
from otel_telemetry.base.errors import DeliveryRefused, SchemaTooNew, StoreUnavailable, TelemetryError
from otel_telemetry.gateway.deliver.circuit import Circuit, State
from otel_telemetry.gateway.deliver.refusals import Refusals
from otel_telemetry.gateway.spool.reader import Batch
from otel_telemetry.gateway.spool.transport import Transport

__all__ = ["Delivery", "Sink", "nowhere"]

_CHUNK_BYTES: Final = 8 << 20
_CHUNK_BATCHES: Final = 256
_ITEM_BYTES: Final = 512  # an item counts as so many at least
_EVERY: Final[frozenset[Signal]] = frozenset({"traces", "logs", "metrics"})
_LOOK_SECONDS: Final = 1.0  # an operator may have asked for something again
_DOUBTS: Final = 6
_REASON_CHARACTERS: Final = 500
_STATES: Final = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}

_log = logging.getLogger("otel_telemetry.gateway.deliver.delivery")


def _weight(batch: Batch) -> int:
    """Return what a batch takes in a call: of small items rows take more than bytes do."""
    return max(len(batch.body), batch.items * _ITEM_BYTES)


def nowhere(deliveries: "Sequence[Delivery]") -> list[Signal]:
    """Return the signals that are accepted and that no sink takes."""
    taken = frozenset[Signal]().union(*(delivery.signals for delivery in deliveries))
    return sorted(_EVERY - taken)


class _Stopped(Exception):
    """The delivery was stopped while it waited."""


@dataclass(slots=True)
class _Chunk:
    """Batches read at one time: the groups that are still to deliver, and what the sink would not take."""

    batches: list[Batch]
    todo: deque[list[Batch]]
    dead_letters: list[tuple[Batch, str]] = field(default_factory=list)
    doubts: int = 0


class Delivery:
    """Delivers to one sink until stopped. `problem` is the reason while the sink is unavailable, else ""."""

    def __init__(self, spool: Transport, sink: Sink) -> None:
        self._spool = spool
        self._sink = sink
        self._signals = sink.signals if isinstance(sink, AcceptsSignals) else _EVERY
        self._max_bytes = sink.max_bytes if isinstance(sink, AcceptsSignals) else _CHUNK_BYTES
        self._chunk_bytes = max(_CHUNK_BYTES, self._max_bytes)
        self._stop = threading.Event()
        self._abandoned = False
        self._circuit = Circuit()
        self._rejected: Counter[str] = Counter()
        self._warning = ""
        self._unreturned = 0  # bytes delivered since memory was given back
        self._refusals = Refusals(sink.name)
        self._thread = threading.Thread(target=self._run, name=f"otel-telemetry-deliver-{sink.name}", daemon=True)

    @property
    def name(self) -> str:
        """The sink's name."""
        return self._sink.name

    @property
    def signals(self) -> frozenset[Signal]:
        """The signals that the sink takes."""
        return self._signals

    @property
    def problem(self) -> str:
        """Why the sink is waited for, or ""."""
        return self._circuit.reason

    @property
    def refusing(self) -> str:
        """Return why the sink refuses everything; "" if it does not."""
        return self._refusals.problem

    def state(self) -> dict[str, Any]:
        """Return its state for /health: the circuit, and how many items the destination rejected since the start."""
        rejected = {"rejected": dict(self._rejected)} if self._rejected else {}
        warning = {"warning": self._warning} if self._warning else {}
        until = {"next_try": _clock(self._circuit.until)} if self._circuit.until else {}
        return {"circuit": self._circuit.state.value, **until, **rejected, **warning}

    def start(self) -> None:
        """Begin; the spool must know the sink (`Transport.attach`)."""
        self._show_circuit()
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
        """Return whether the thread has ended."""
        return not self._thread.is_alive()

    # --- the thread -------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        with suppress_instrumentation(), contextlib.suppress(_Stopped):  # what we send makes no telemetry of its own
            while not self._abandoned:
                self._step()
        try:
            self._sink.close()
        except Exception:  # noqa: BLE001 - it is over for this sink either way
            _log.exception("%s did not close well", self._sink.name)

    def _step(self) -> None:
        try:
            batches = self._spool.due(self._sink.name, self._chunk_bytes, _CHUNK_BATCHES, self._signals)
            if batches:
                self._unreturned += sum(len(batch.body) for batch in batches)
                self._deliver(_Chunk(batches, deque(self._groups(batches))))
            elif self._stop.is_set():
                self._abandoned = True
            else:
                self._queue_empty()
                memory.give_back(self._unreturned)
                self._unreturned = 0
                self._refusals.log_refusals()
                self._spool.wait(self._sink.name, _LOOK_SECONDS)
        except StoreUnavailable as error:  # the spool itself
            self._pause(error)
        except _Stopped:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end the delivery
            _log.exception("delivery to %s stumbled, it goes on", self._sink.name)
            self._pause(StoreUnavailable(type(error).__name__))

    def _groups(self, batches: Sequence[Batch]) -> Iterator[list[Batch]]:
        """Yield what the sink gets in one call each: batches of one signal that it takes, up to its size."""
        by_signal: dict[Signal, list[Batch]] = {}
        for batch in batches:
            if batch.signal in self._signals:
                by_signal.setdefault(batch.signal, []).append(batch)
        for wanted in by_signal.values():
            yield from runs(wanted, _weight, self._max_bytes)

    def _deliver(self, chunk: _Chunk) -> None:
        while chunk.todo:
            self._check()
            group = chunk.todo.popleft()
            if self._circuit.probe():
                self._show_circuit()
                group = _first_of(chunk, group)
            self._try(chunk, group)
        self._advance_cursor(chunk)

    def _advance_cursor(self, chunk: _Chunk) -> None:
        """Move the cursor behind what the sink has by now, so that a restart repeats as little as can be."""
        left = {batch.seq for group in chunk.todo for batch in group}
        done = list(itertools.takewhile(lambda batch: batch.seq not in left, chunk.batches))
        if done:
            seqs = {batch.seq for batch in done}
            dead_letters = [letter for letter in chunk.dead_letters if letter[0].seq in seqs]
            self._spool.advance(self._sink.name, done, dead_letters)
            chunk.batches = chunk.batches[len(done) :]
            chunk.dead_letters = [letter for letter in chunk.dead_letters if letter[0].seq not in seqs]
            self._report_dead_letters(dead_letters)

    def _try(self, chunk: _Chunk, group: list[Batch]) -> None:
        try:
            receipt = self._timed(group)
        except (StoreUnavailable, SchemaTooNew) as error:  # not the batches' fault
            too_much = isinstance(error, StoreUnavailable) and error.timed_out
            chunk.todo.extendleft(reversed(_halves(group) if too_much else [group]))
            self._advance_cursor(chunk)
            self._pause(error)
        except Exception as error:  # noqa: BLE001 - a sink may fail in any way on hostile data
            self._refused(chunk, group, error)
        else:
            self._recovered()
            self._delivered(chunk, group, receipt or Receipt())

    def _timed(self, group: Sequence[Batch]) -> Receipt | None:
        started, outcome = time.monotonic(), "refused"
        try:
            receipt = self._call_sink(group[0].signal, group)
            outcome = "delivered"
        except (StoreUnavailable, SchemaTooNew):
            outcome = "retry"
            raise
        finally:
            labels = {"exporter": self._sink.name, "outcome": outcome}
            metrics.delivery_duration.record(time.monotonic() - started, labels)
        return receipt

    def _call_sink(self, signal: Signal, group: Sequence[Batch]) -> Receipt | None:
        bodies = [batch.body for batch in group]
        if isinstance(self._sink, NeedsReceiveTime):
            return self._sink.deliver_received(signal, bodies, [batch.received_ns for batch in group])
        return self._sink.deliver(signal, bodies)

    # --- outcomes ---------------------------------------------------------------------------------------------------
    def _delivered(self, chunk: _Chunk, group: Sequence[Batch], receipt: Receipt) -> None:
        sent = sum(batch.items for batch in group)
        rejections = [_at_most(sent, rejected) for rejected in receipt.rejected]
        for rejected in rejections:
            self._record_rejection(group[0].signal, rejected)
            if rejected.body:
                batch = dataclasses.replace(group[rejected.index], items=rejected.items, body=rejected.body)
                chunk.dead_letters.append((batch, f"{rejected.reason}: {rejected.detail}"[:_REASON_CHARACTERS]))
        if receipt.warning and receipt.warning != self._warning:
            self._warning = receipt.warning[:_REASON_CHARACTERS]
            _log.warning("%s says: %s", self._sink.name, self._warning)
        if receipt.unclear:
            metrics.unclear_answers.add(1, {"exporter": self._sink.name, "signal": group[0].signal})
        items = sent - sum(rejected.items for rejected in rejections)
        if items > 0 or not receipt.rejected:
            self._refusals.took()
        else:
            self._refusals.refused(f"{receipt.rejected[-1].reason}: {receipt.rejected[-1].detail}")
        metrics.delivered.add(max(0, items), {"exporter": self._sink.name, "signal": group[0].signal})

    def _record_rejection(self, signal: Signal, rejected: Rejected) -> None:
        self._rejected[rejected.reason] += rejected.items
        if not rejected.body:  # else it is counted as a dead letter
            labels = {"exporter": self._sink.name, "signal": signal, "reason": rejected.reason}
            metrics.rejected.add(rejected.items, labels)

    def _refused(self, chunk: _Chunk, group: list[Batch], error: Exception) -> None:
        """Halve the group, or set aside the one that is left of it; where in doubt, first try again as it is."""
        if isinstance(error, DeliveryRefused) and error.doubtful and chunk.doubts < _DOUBTS:
            chunk.doubts += 1
            chunk.todo.appendleft(group)
            self._advance_cursor(chunk)
            self._pause(error)
            return
        self._recovered()  # it is there, and has answered
        if len(group) > 1:
            chunk.todo.extendleft(reversed(_halves(group)))
            return
        kind = str(error) if isinstance(error, DeliveryRefused) else f"{type(error).__name__}: {error}"
        self._refusals.refused(kind[:_REASON_CHARACTERS])
        chunk.dead_letters.append((group[0], kind[:_REASON_CHARACTERS]))

    def _report_dead_letters(self, dead_letters: Sequence[tuple[Batch, str]]) -> None:
        for batch, reason in dead_letters:
            kind = reason.partition(":")[0]
            metrics.dead_lettered.add(batch.items, {"exporter": self._sink.name, "reason": kind})
            self._refusals.set_aside(batch.seq, reason)
        self._refusals.log_refusals()

    # --- waiting ----------------------------------------------------------------------------------------------------
    def _pause(self, error: TelemetryError) -> None:
        if self._stop.is_set():
            raise _Stopped
        if not self._circuit.failures:
            _log.warning("%s is away, what is spooled waits for it: %s", self._sink.name, error)
        metrics.write_failures.add(1, {"exporter": self._sink.name})
        asked = error.retry_after if isinstance(error, (StoreUnavailable, DeliveryRefused)) else 0.0
        seconds = self._circuit.failed(str(error), asked)
        if self._circuit.capped:
            _log.warning(
                "%s asks to be left alone for %.0f s; it is tried again at %s", self._sink.name, asked,
                _clock(self._circuit.until),
            )  # fmt: skip
        self._show_circuit()
        self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        """Wait until the next try; what was read stays in memory for it."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self._stop.wait(min(left, _LOOK_SECONDS)):
                raise _Stopped
            self._spool.hold(self._sink.name)

    def _recovered(self) -> None:
        failed = self._circuit.succeeded()
        if failed:
            self._show_circuit()
            _log.warning("%s is back after %d failed tries", self._sink.name, failed)

    def _queue_empty(self) -> None:
        """Close the circuit: the queue is empty."""
        if self._circuit.succeeded():
            self._show_circuit()

    def _show_circuit(self) -> None:
        metrics.circuit.set(_STATES[self._circuit.state], {"exporter": self._sink.name})

    def _check(self) -> None:
        if self._abandoned:
            raise _Stopped


def _clock(seconds: float) -> str:
    """Return a time as people read it, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _at_most(sent: int, rejected: Rejected) -> Rejected:
    """Return a rejection of no more than was sent, whatever number the destination names."""
    return rejected if rejected.items <= sent else dataclasses.replace(rejected, items=sent)


def _halves(group: list[Batch]) -> list[list[Batch]]:
    """Return the two halves of a group, or the one batch that it is."""
    middle = len(group) // 2
    return [group[:middle], group[middle:]] if middle else [group]


def _first_of(chunk: _Chunk, group: list[Batch]) -> list[Batch]:
    """Return the first batch of the group alone; the others come after it."""
    if group[1:]:
        chunk.todo.appendleft(group[1:])
    return group[:1]
