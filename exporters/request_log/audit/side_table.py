"""What verification has to remember of every leaf and checkpoint: in a file that SQLite deletes, not in memory."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from otel_telemetry.exporters.request_log.audit.entries import ERASE, EXPIRE

_CACHE: Final = "PRAGMA cache_size = -32768"
_MANY: Final = 1_000
_TABLES: Final = """
CREATE TABLE leaf (ref BLOB PRIMARY KEY, number INTEGER, kind BLOB, commitment BLOB, row INTEGER) WITHOUT ROWID;
CREATE TABLE point (size INTEGER, root BLOB, name TEXT);
"""

Leaf = tuple[bytes, int, bytes, bytes]


class SideTable:
    """Of each row its last leaf, and the checkpoints in the order of their sizes. It contains no row's content."""

    def __init__(self) -> None:
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.executescript(f"{_CACHE}; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_TABLES} BEGIN")
        self._pending: list[Leaf] = []

    def add(self, ref: bytes, number: int, kind: bytes, commitment: bytes) -> None:
        """Remember a leaf; it takes the place of an earlier one with its ref."""
        self._pending.append((ref, number, kind, commitment))
        if len(self._pending) >= _MANY:
            self._write()

    def add_points(self, points: Iterable[tuple[int, bytes, str]]) -> None:
        """Remember checkpoints: size, root, and what each is called."""
        self._file.executemany("INSERT INTO point VALUES (?, ?, ?)", points)

    def points(self) -> Iterator[tuple[int, bytes, str]]:
        """Yield checkpoints, the smallest first."""
        yield from self._file.execute("SELECT size, root, name FROM point ORDER BY size, rowid")

    def last(self, ref: bytes) -> tuple[int, bytes]:
        """Return the number of the last leaf with this ref, and its commitment; -1 where there is none."""
        found = self._file.execute("SELECT number, commitment FROM leaf WHERE ref = ?", (ref,)).fetchone()
        return found or (-1, b"")

    def has_row(self, refs: Sequence[bytes]) -> None:
        """Note that rows with these refs exist."""
        self._file.executemany("UPDATE leaf SET row = 1 WHERE ref = ?", [(ref,) for ref in refs])

    def without_row(self) -> Iterator[int]:
        """Yield the last leaves of rows that do not exist, although no leaf records their deletion."""
        query = "SELECT number FROM leaf WHERE row IS NULL AND kind NOT IN (?, ?) ORDER BY number"
        yield from (number for (number,) in self._file.execute(query, (ERASE, EXPIRE)))

    def finish(self) -> None:
        """Call this when there are no more leaves."""
        self._write()

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def _write(self) -> None:
        rows: list[tuple[Any, ...]] = [(*leaf, None) for leaf in self._pending]
        self._file.executemany("INSERT OR REPLACE INTO leaf VALUES (?, ?, ?, ?, ?)", rows)
        self._pending.clear()
