"""The filtered requests as CSV, JSON lines or Parquet, read one page of the database at a time, up to a limit."""

import csv
import io
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from threading import BoundedSemaphore
from typing import Any, Final

from otel_telemetry.base.foreign_text import spreadsheet
from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.operate import browse, listing, parquet
from otel_telemetry.ui.asked import View
from otel_telemetry.ui.problems import Problem
from otel_telemetry.ui.reading import Reading

Rows = Sequence[dict[str, Any]]
Lines = Callable[[Rows, Iterator[Rows]], Iterator[str] | Iterator[bytes]]

_SIZE: Final = 500
MOST: Final = 100_000
AT_ONCE: Final = 4
_WAIT_S: Final = 5


class Turns:
    """How many exports are read at once: they share the database and the threads with every other page."""

    def __init__(self, most: int = AT_ONCE) -> None:
        self._most = most
        self._free = BoundedSemaphore(most)

    def held(self, pages: Iterator[Rows]) -> Generator[Rows]:
        """Yield these pages, with a turn from the first until the last, or until nobody wants more.

        Raises Problem, with the first, where all turns are taken.
        """
        if not self._free.acquire(blocking=False):
            problem = f"{self._most} exports are being read already"
            hint = f"try again in {_WAIT_S} seconds, or choose a shorter time to export"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, problem, hint, _WAIT_S)
        try:
            yield from pages
        finally:
            self._free.release()


def pages(reading: Reading, view: View, most: int = MOST) -> Iterator[Rows]:
    """Yield pages of rows, the first one even where it is empty; each holds a connection for itself alone."""
    after, left = view.after, most
    while True:
        with reading.connection() as connection:
            rows = listing.page(
                connection, view.filters, view.period, order=view.order, after=after, size=min(_SIZE, left)
            )
        yield rows
        left -= len(rows)
        if len(rows) < _SIZE or left <= 0:
            return
        after = browse.mark(rows[-1], view.order)


def csv_lines(first: Rows, rest: Iterator[Rows]) -> Iterator[str]:
    """Yield CSV with a line of names; a text that begins like a formula is made text."""
    yield _written([list(browse.LISTED)])
    for rows in _all(first, rest):
        yield _written([[_cell(row[name]) for name in browse.LISTED] for row in rows])


def json_lines(first: Rows, rest: Iterator[Rows]) -> Iterator[str]:
    """Yield a line of JSON for each row, with every value as it is."""
    for rows in _all(first, rest):
        yield "".join(json.dumps(row, default=plain_value, ensure_ascii=False) + "\n" for row in rows)


def parquet_file(first: Rows, rest: Iterator[Rows]) -> Iterator[bytes]:
    """Yield a Parquet file, a group of rows for each page: money as decimals, times in UTC."""
    import pyarrow as pa  # noqa: PLC0415 - an extra
    import pyarrow.parquet as pq  # noqa: PLC0415

    columns = schema.request_log.c
    fields = parquet.fields(columns[name] for name in browse.LISTED)
    out = _Passing()
    with pq.ParquetWriter(pa.PythonFile(out, mode="w"), fields, compression="zstd") as writer:
        for rows in _all(first, rest):
            writer.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=fields))
            yield out.taken()
    yield out.taken()


class _Passing(io.RawIOBase):
    """A file that is only written to, whose bytes are taken away as they come."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        """It is what it is for."""
        return True

    def write(self, data: Any) -> int:
        """Take bytes."""
        self._parts.append(bytes(data))
        self._size += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        """Return how much was written."""
        return self._size

    def taken(self) -> bytes:
        """Return what came since the last time."""
        found = b"".join(self._parts)
        self._parts.clear()
        return found


def _all(first: Rows, rest: Iterator[Rows]) -> Iterator[Rows]:
    yield first
    yield from rest


def _written(lines: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(lines)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return spreadsheet(value) if isinstance(value, str) else plain_value(value)


def plain_value(value: Any) -> Any:
    """Return what JSON has no type for: money as text, which keeps every digit, and times as ISO 8601."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if isinstance(value, datetime) else str(value) if not isinstance(value, bool) else value
