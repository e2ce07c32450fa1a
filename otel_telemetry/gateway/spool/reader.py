"""Reading the spool: batches in order, cursors, and its state in numbers. Works beside a running gateway.

`SpoolReader` never writes, so that looking (`otel-telemetry spool status`, `spool cat`) changes nothing.
"""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, get_args

from otel_telemetry.base import otlp_json
from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import SpoolDamaged, StoreUnavailable
from otel_telemetry.gateway.spool import spool_file

_CAT_BYTES: Final = 4 << 20
_MAX_BATCHES: Final = 256
_EVERY: Final = "traces logs metrics"
#: Bodies of signals that nobody asked for are not read: SQLite knows their length without. A flipped bit makes text of
#: a body, whose bytes are still right.
_SIGNALS: Final = frozenset(get_args(Signal))
_BATCH: Final = (
    "SELECT seq, signal, received_ns, items, CASE WHEN instr(?, signal) THEN CAST(body AS BLOB) END, crc,"
    " length(body) FROM batch"
)


@dataclass(slots=True, frozen=True)
class Batch:
    """One acknowledged request: `body` is a redacted Export*ServiceRequest, `items` its spans, records or points.

    A negative `seq` is a dead letter that is to be delivered again. Where `damaged`, the disk did not keep the body.
    `left_out` is the size of a body that was not read.
    """

    seq: int
    signal: Signal
    received_ns: int
    items: int
    body: bytes
    damaged: bool = False
    left_out: int = 0


@dataclass(slots=True, frozen=True)
class Lag:
    """What a sink has still before it; `seconds` is the age of the oldest batch of it. None: nobody knows."""

    batches: int
    items: int | None
    bytes: int | None
    seconds: float


@dataclass(slots=True, frozen=True)
class Loss:
    """Acknowledged data that the disk lost and that nobody has acknowledged as lost yet.

    `items` are those of the batches whose number is known, `letters` dead letters. `unknown`: there may be more.
    """

    batches: int
    items: int
    letters: int
    unknown: bool
    since_ns: int


@dataclass(slots=True, frozen=True)
class SpoolStatus:
    """The spool in numbers. `bytes` is its size; `batches` includes delivered ones kept for replay. None: not known.

    `appended` are all items that ever came in. For each sink they are the delivered items, the undelivered ones
    (`lag`), its dead letters (`dead_items`, `dead_bytes`) and those never delivered (`missed`: dropped, expired,
    unreadable, dead_letters_full). `detached` are sinks that no longer get deliveries. `loss` is None when all is well.
    """

    bytes: int | None
    batches: int
    oldest_seconds: float
    dead_letters: int
    lag: Mapping[str, Lag]
    appended: int | None
    dead_items: Mapping[str, int]
    missed: Mapping[str, Mapping[str, int]]
    detached: Sequence[str]
    dead_bytes: Mapping[str, int]
    loss: Loss | None = None


@dataclass(slots=True, frozen=True)
class DeadLetters:
    """What an exporter could not take for one kind of reason: `reason` is one of them in full.

    `since_ns` is when the first of it came in.
    """

    exporter: str
    signal: Signal
    reason: str
    batches: int
    items: int
    since_ns: int


class SpoolReader:
    """The spool in `folder`, read only. Thread-safe. Raises ConfigurationError where there is none."""

    def __init__(self, folder: Path) -> None:
        self._connection = spool_file.open_reader(folder)
        self.on_damage: Callable[[], object] = lambda: None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                if not spool_file.means_damage(error):
                    raise StoreUnavailable(f"the spool cannot be read: {error}") from None
                self.on_damage()
                raise SpoolDamaged(f"the spool is damaged: {error}") from None

    def read(
        self, after_seq: int, limit_bytes: int, limit_batches: int = _MAX_BATCHES, wanted: Iterable[Signal] = ()
    ) -> list[Batch]:
        """Return the batches behind `after_seq`, in order, until a limit is reached (one at least, if there is one).

        What the disk did not keep is among them, marked as damaged; batches of signals other than those `wanted` (none
        named: all are) come without their bodies.
        """
        signals = " ".join(wanted) or _EVERY
        with self._reading() as connection:
            try:
                query = f"{_BATCH} WHERE seq > ? ORDER BY seq LIMIT ?"
                with contextlib.closing(connection.execute(query, (signals, after_seq, limit_batches))) as rows:
                    return _until(limit_bytes, map(_batch, rows))
            except sqlite3.DatabaseError as error:
                if not spool_file.means_damage(error):
                    raise
                return _until(limit_bytes, _one_by_one(connection, signals, after_seq, limit_batches))

    def replays(self, sink: str, limit_bytes: int, limit_batches: int = _MAX_BATCHES) -> list[Batch]:
        """Return dead letters of the sink that are to be delivered again, with negative numbers."""
        query = (
            "SELECT -d.id, d.signal, d.received_ns, d.items, d.body FROM replay r JOIN dead_letter d USING (id)"
            " WHERE r.sink = ? ORDER BY id LIMIT ?"
        )
        with (
            self._reading() as connection,
            contextlib.closing(connection.execute(query, (sink, limit_batches))) as rows,
        ):
            return _until(limit_bytes, (Batch(*row) for row in rows))

    def cat(self) -> Iterator[str]:
        """Yield every batch that is in the spool and can be read, oldest first, as one line of OTLP/JSON each."""
        for batch in self.batches():
            if not batch.damaged:
                yield otlp_json.encode(batch.signal, batch.body)

    def dead_letters(self) -> list[DeadLetters]:
        """Return what exporters could not take, by exporter, signal and kind of reason (what is before a colon)."""
        query = (
            "SELECT sink, signal, max(reason), count(*), sum(items), min(received_ns) FROM dead_letter"
            " GROUP BY sink, signal, substr(reason, 1, instr(reason || ':', ':'))"
            " ORDER BY sink, signal, min(received_ns)"
        )
        with self._reading() as connection:
            return [DeadLetters(*row) for row in connection.execute(query)]

    def cat_dead_letters(self) -> Iterator[str]:
        """Yield what exporters could not take, oldest first, as one line of OTLP/JSON each."""
        after = 0
        while True:
            with self._reading() as connection:
                row = connection.execute(
                    "SELECT id, signal, body FROM dead_letter WHERE id > ? ORDER BY id LIMIT 1", (after,)
                ).fetchone()
            if row is None:
                return
            after, signal, body = row
            yield otlp_json.encode(signal, body)

    def batches(self) -> Iterator[Batch]:
        """Yield every batch that is in the spool, oldest first."""
        after = 0
        while batches := self.read(after, _CAT_BYTES):
            yield from batches
            after = batches[-1].seq

    def position(self, sink: str) -> int:
        """Return the seq of the last batch that the sink has."""
        with self._reading() as connection:
            row = connection.execute("SELECT seq FROM cursor WHERE sink = ?", (sink,)).fetchone()
        return int(row[0]) if row else 0

    def last_seq(self) -> int:
        """Return the seq of the last batch that was committed."""
        with self._reading() as connection:
            return int(connection.execute("SELECT seq FROM total").fetchone()[0])

    def status(self) -> SpoolStatus:
        """Return the spool in numbers."""
        with self._reading() as connection:
            batches, items, size, trimmed = connection.execute(
                "SELECT batches, items, bytes, trimmed FROM total"
            ).fetchone()
            cursors = connection.execute("SELECT sink, seq, batches, items, bytes FROM cursor").fetchall()
            lag = {
                row[0]: Lag(batches - row[2], items - row[3], size - row[4], _age(connection, row[1]))
                for row in cursors
            }
            oldest = max((one.seconds for one in lag.values()), default=_age(connection, 0))
            dead = connection.execute("SELECT sink, letters, items, bytes FROM dead_total WHERE letters > 0").fetchall()
            attached = {name for (name,) in connection.execute("SELECT sink FROM attached")}
            return SpoolStatus(
                bytes=spool_file.measure(connection),
                batches=batches - trimmed,
                oldest_seconds=oldest,
                dead_letters=sum(row[1] for row in dead),
                lag=lag,
                appended=items,
                dead_items={row[0]: row[2] for row in dead},
                missed=_missed(connection),
                detached=sorted(set(lag) - attached),
                dead_bytes={row[0]: row[3] for row in dead},
                loss=_loss(connection),
            )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()


def _age(connection: sqlite3.Connection, after_seq: int) -> float:
    query = "SELECT received_ns FROM batch WHERE seq > ? ORDER BY seq LIMIT 1"
    row = connection.execute(query, (after_seq,)).fetchone()
    return max(0.0, (time.time_ns() - row[0]) / 1e9) if row else 0.0


def _batch(row: tuple[int, Signal, int, int, bytes | None, int | None, int]) -> Batch:
    seq, signal, received_ns, items, body, crc, size = row
    if signal not in _SIGNALS:
        return Batch(seq, "traces", received_ns, items, b"", damaged=True)
    if body is None:
        return Batch(seq, signal, received_ns, items, b"", left_out=size)
    if crc is not None and spool_file.checksum(body) != crc:
        return Batch(seq, signal, received_ns, items, b"", damaged=True)
    return Batch(seq, signal, received_ns, items, body)


def _until(limit_bytes: int, batches: Iterable[Batch]) -> list[Batch]:
    found: list[Batch] = []
    size = 0
    for batch in batches:
        found.append(batch)
        size += len(batch.body)
        if size >= limit_bytes:
            break
    return found


def _one_by_one(connection: sqlite3.Connection, signals: str, after_seq: int, limit: int) -> Iterator[Batch]:
    """Yield what is behind `after_seq` where reading it at one time failed."""
    last = int(connection.execute("SELECT seq FROM total").fetchone()[0])
    found = 0
    for seq in range(after_seq + 1, last + 1):
        try:
            row = connection.execute(f"{_BATCH} WHERE seq = ?", (signals, seq)).fetchone()
        except sqlite3.DatabaseError:
            yield _without_body(connection, seq)
        else:
            if row is None:
                continue
            yield _batch(row)
        found += 1
        if found == limit:
            return


def _without_body(connection: sqlite3.Connection, seq: int) -> Batch:
    """Return the known values of a batch whose body cannot be read."""
    query = "SELECT signal, received_ns, items FROM batch WHERE seq = ?"
    with contextlib.suppress(sqlite3.DatabaseError):
        row = connection.execute(query, (seq,)).fetchone()
        if row:
            signal, received_ns, items = row
            return Batch(seq, signal, received_ns, items, b"", damaged=True)
    return Batch(seq, "traces", 0, 0, b"", damaged=True)


def _loss(connection: sqlite3.Connection) -> Loss | None:
    query = (
        "SELECT sum(batches), sum(items), sum(letters), max(unknown), min(at_ns) FROM loss"
        " WHERE acknowledged_ns IS NULL HAVING count(*)"
    )
    try:
        row = connection.execute(query).fetchone()
    except sqlite3.OperationalError:  # a spool that no gateway of this version has opened yet
        return None
    return Loss(row[0], row[1], row[2], bool(row[3]), row[4]) if row else None


def _missed(connection: sqlite3.Connection) -> Mapping[str, Mapping[str, int]]:
    missed: dict[str, dict[str, int]] = {}
    for sink, what, items in connection.execute("SELECT sink, what, items FROM outcome"):
        missed.setdefault(sink, {})[what] = items
    return missed
