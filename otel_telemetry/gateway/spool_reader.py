"""Reading the spool: batches in order, cursors, and its state in numbers. Works beside a running gateway.

`SpoolReader` never writes, so that looking (`otel-telemetry spool status`, `spool cat`) changes nothing.
"""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from otel_telemetry.errors import StoreUnavailable
from otel_telemetry.gateway import otlp_json, spool_file
from otel_telemetry.gateway.otlp_json import Signal

_CAT_BYTES: Final = 4 << 20
_MAX_BATCHES: Final = 256


@dataclass(slots=True, frozen=True)
class Batch:
    """One acknowledged request: `body` is a redacted Export*ServiceRequest, `items` its spans, records or points."""

    seq: int
    signal: Signal
    received_ns: int
    items: int
    body: bytes


@dataclass(slots=True, frozen=True)
class Lag:
    """What a sink has still before it; `seconds` is the age of the oldest batch of it."""

    batches: int
    items: int
    bytes: int
    seconds: float


@dataclass(slots=True, frozen=True)
class SpoolStatus:
    """The spool in numbers. `bytes` is what it occupies; `batches` counts delivered ones kept for replay too."""

    bytes: int
    batches: int
    oldest_seconds: float
    dead_letters: int
    lag: Mapping[str, Lag]


class SpoolReader:
    """The spool in `folder`, read only. Thread-safe. Raises ConfigurationError where there is none."""

    def __init__(self, folder: Path) -> None:
        self._connection = spool_file.open_reader(folder)
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
                raise StoreUnavailable(f"the spool cannot be read: {error}") from None

    def read(self, after_seq: int, limit_bytes: int, limit_batches: int = _MAX_BATCHES) -> list[Batch]:
        """Return the batches behind `after_seq`, in order, until a limit is reached (one at least, if there is one)."""
        query = "SELECT seq, signal, received_ns, items, body FROM batch WHERE seq > ? ORDER BY seq LIMIT ?"
        found: list[Batch] = []
        size = 0
        with (
            self._reading() as connection,
            contextlib.closing(connection.execute(query, (after_seq, limit_batches))) as rows,
        ):
            for row in rows:
                found.append(Batch(*row))
                size += len(row[4])
                if size >= limit_bytes:
                    break
        return found

    def cat(self) -> Iterator[str]:
        """Yield every batch that is in the spool, oldest first, as one line of OTLP/JSON each."""
        for batch in self.batches():
            yield otlp_json.encode(batch.signal, batch.body)

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
            (dead,) = connection.execute("SELECT count(*) FROM dead_letter").fetchone()
            return SpoolStatus(spool_file.measure(connection), batches - trimmed, oldest, dead, lag)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()


def _age(connection: sqlite3.Connection, after_seq: int) -> float:
    query = "SELECT received_ns FROM batch WHERE seq > ? ORDER BY seq LIMIT 1"
    row = connection.execute(query, (after_seq,)).fetchone()
    return max(0.0, (time.time_ns() - row[0]) / 1e9) if row else 0.0
