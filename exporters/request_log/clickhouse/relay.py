"""Sends rows that the outbox names to ClickHouse, as they are then, and deletes the entries once they are there.

Whatever dies in between, entries are sent again: rows with the same key and `rev` are one row, whether they come once
or twice, and from one relay or several. Of a row that changes meanwhile a newer entry tells, with a higher `rev`.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Self

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.clickhouse import tables
from otel_telemetry.exporters.request_log.clickhouse.client import ClickHouse, RowsRefused
from otel_telemetry.exporters.request_log.clickhouse.source import Entry, source
from otel_telemetry.exporters.request_log.db import database, outbox, postgres, schema


class Relay:
    """Sends rows from one database to one ClickHouse."""

    def __init__(self, url: str, server: ClickHouse, batch_rows: int) -> None:
        self._server = server
        self._batch_rows = batch_rows
        self._reader = database.reader(url, len(tables.TABLES))
        self._writer = postgres.sharing(database.connect(url))
        self._pool = ThreadPoolExecutor(len(tables.TABLES))
        self._source = source(self._reader.dialect.name)
        #: Rows that were sent, and that ClickHouse refused.
        self.sent = 0
        self.refused = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        self._reader.dispose()
        self._writer.dispose()

    def step(self) -> int:
        """Send what some entries name; return how many entries that were, 0 where there are none.

        Raises StoreUnavailable where either database is away: the entries stay.
        """
        try:
            return self._step()
        except Exception as error:  # also of the driver alone, while it copies
            raise (database.unavailable(error) or error) from error

    def _step(self) -> int:
        with self._reader.connect() as connection:
            entries = self._source.entries(connection)
        if entries:
            sent = [self._pool.submit(self._send, table, entries) for table in tables.TABLES]
            wait(sent)
            for lines, refused in [each.result() for each in sent]:
                self._count(lines, refused)
            with self._writer.begin() as connection:
                numbers = [entry.number for entry in entries]
                connection.execute(sa.delete(outbox.outbox).where(outbox.outbox.c.id.in_(numbers)))
        return len(entries)

    def _count(self, lines: int, refused: int) -> None:
        self.sent += lines - refused
        self.refused += refused

    def _send(self, table: sa.Table, entries: Sequence[Entry]) -> tuple[int, int]:
        """Send what entries name of a table, while the other is sent; return how many rows, and how many refused."""
        with self._reader.connect() as connection:
            lines = self._source.named(connection, table, entries)
        token = blake2b(repr([entry.number for entry in entries]).encode(), digest_size=16).hexdigest()
        refused = 0
        for start in range(0, len(lines), self._batch_rows):
            refused += self._insert(table, lines[start : start + self._batch_rows], f"{token}-{table.name}-{start}")
        return len(lines), refused

    def _insert(self, table: sa.Table, lines: Sequence[bytes], token: str) -> int:
        """Insert rows; of refused ones halves, until those are found that are at fault: their number is returned."""
        try:
            self._server.insert_lines(table.name, self._source.form(table), lines, token)
        except RowsRefused as error:
            if len(lines) == 1:
                self._dead_letter(table, lines[0], str(error))
                return 1
            middle = len(lines) // 2
            return self._insert(table, lines[:middle], f"{token}a") + self._insert(table, lines[middle:], f"{token}b")
        return 0

    def _dead_letter(self, table: sa.Table, line: bytes, reason: str) -> None:
        trace_id, span_id = self._source.span(line)
        letter = {
            "id": f"clickhouse-{table.name}-{trace_id}-{span_id}",
            "ts": datetime.now(UTC),
            "signal": "clickhouse",
            "reason": f"ClickHouse refused the row: {reason}",
            "trace_id": trace_id,
            "span_id": span_id,
        }
        own = schema.dead_letter.c
        with self._writer.begin() as connection:
            connection.execute(sa.delete(schema.dead_letter).where(own.id == letter["id"]))
            connection.execute(sa.insert(schema.dead_letter), [letter])

    def backfill(self) -> Iterator[int]:
        """Send all rows that are stored, as older than anything that the outbox names; yield how many at a time."""
        with self._reader.connect() as connection:
            for table in tables.TABLES:
                for lines in self._source.every(connection, table, self._batch_rows):
                    digest = blake2b(digest_size=16)
                    for line in lines:
                        digest.update(line)
                    self._count(len(lines), self._insert(table, lines, digest.hexdigest()))
                    yield len(lines)
