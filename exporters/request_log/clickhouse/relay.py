"""Sends rows that the outbox names to ClickHouse, as they are then, and deletes the entries once they are there.

Whatever dies in between, entries are sent again: rows with the same key and `rev` are one row, whether they come once
or twice, and from one relay or several. Of a row that changes meanwhile a newer entry tells, with a higher `rev`.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final, Self

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.clickhouse import tables
from otel_telemetry.exporters.request_log.clickhouse.client import ClickHouse, RowsRefused
from otel_telemetry.exporters.request_log.db import database, outbox, postgres, schema
from otel_telemetry.exporters.request_log.db.given import GIVEN, ask
from otel_telemetry.exporters.request_log.db.outbox import RowKey

_ENTRIES: Final = 64
_KEYS: Final = 5_000
_BACKFILL: Final = 0

Row = dict[str, Any]
Revs = dict[RowKey, int]


class _Queries:
    def __init__(self, given: sa.Subquery) -> None:
        self.by_span = {
            table: sa.select(table).select_from(
                given.join(table, sa.and_(table.c.trace_id == given.c.a, table.c.span_id == given.c.b))
            )
            for table in (schema.request_log,)
        }
        calls = schema.llm_call
        self.by_span[calls] = sa.select(calls).select_from(given.join(calls, calls.c.id == given.c.a + "-" + given.c.b))
        log = schema.request_log
        self.renamed = {
            log: sa.select(log).select_from(given.join(log, log.c.id == given.c.a)),
            calls: sa.select(calls).select_from(given.join(calls, calls.c.request_id == given.c.a)),
        }


_QUERIES: Final = {dialect: _Queries(given) for dialect, given in GIVEN.items()}


class Relay:
    """Sends rows from one database to one ClickHouse."""

    def __init__(self, url: str, server: ClickHouse, batch_rows: int) -> None:
        self._server = server
        self._batch_rows = batch_rows
        self._reader = database.reader(url)
        self._writer = postgres.sharing(database.connect(url))
        self._queries = _QUERIES[self._reader.dialect.name]
        #: Rows that were sent, and that ClickHouse refused.
        self.sent = 0
        self.refused = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.dispose()
        self._writer.dispose()

    def step(self) -> int:
        """Send what some entries name; return how many entries that were, 0 where there are none.

        Raises StoreUnavailable where either database is away: the entries stay.
        """
        try:
            return self._step()
        except sa.exc.DBAPIError as error:
            raise (database.unavailable(error) or error) from error

    def _step(self) -> int:
        with self._reader.connect() as connection:
            query = sa.select(outbox.outbox.c.id, outbox.outbox.c.body).order_by(outbox.outbox.c.id).limit(_ENTRIES)
            entries = connection.execute(query).all()
            if not entries:
                return 0
            named: dict[sa.Table, Revs] = {table: {} for table in tables.TABLES}
            renamed: dict[str, int] = {}
            for number, body in entries:
                requests, calls, ids = outbox.load(body)
                named[schema.request_log].update(dict.fromkeys(requests, number))
                named[schema.llm_call].update(dict.fromkeys(calls, number))
                renamed.update(dict.fromkeys(ids, number))
            rows = {table: list(self._rows(connection, table, named[table], renamed)) for table in tables.TABLES}
        token = blake2b(repr([number for number, _ in entries]).encode(), digest_size=16).hexdigest()
        for table, of_table in rows.items():
            self._send(table, of_table, token)
        with self._writer.begin() as connection:
            connection.execute(
                sa.delete(outbox.outbox).where(outbox.outbox.c.id.in_([number for number, _ in entries]))
            )
        return len(entries)

    def _rows(self, connection: sa.Connection, table: sa.Table, named: Revs, renamed: dict[str, int]) -> Iterator[Row]:
        """Yield the rows as they are now, and a tombstone for each that is not there with this time."""
        gone = dict(named)
        by_span: dict[tuple[str, str], int] = {}
        for (trace, span, _), rev in named.items():
            by_span[trace, span] = max(rev, by_span.get((trace, span), 0))
        found: dict[RowKey, tuple[int, Any]] = {}
        for pairs in _chunks([*by_span]):
            for row in ask(connection, self._queries.by_span[table], pairs).mappings():
                key = (row["trace_id"], row["span_id"], row["ts"])
                found[key] = by_span[key[:2]], row
        column = "id" if table is schema.request_log else "request_id"
        for pairs in _chunks([(each, None) for each in renamed]):
            for row in ask(connection, self._queries.renamed[table], pairs).mappings():
                key = (row["trace_id"], row["span_id"], row["ts"])
                found[key] = max(renamed[row[column]], found.get(key, (0, None))[0]), row
        for key, (rev, row) in found.items():
            gone.pop(key, None)
            yield tables.row(table, row, rev)
        for key, rev in gone.items():
            yield tables.tombstone(key, rev)

    def _send(self, table: sa.Table, rows: Sequence[Row], token: str) -> None:
        for start in range(0, len(rows), self._batch_rows):
            self._insert(table, rows[start : start + self._batch_rows], f"{token}-{table.name}-{start}")

    def _insert(self, table: sa.Table, rows: Sequence[Row], token: str) -> None:
        """Insert rows; of refused ones halves, until the row is found that is at fault: it goes to dead_letter."""
        try:
            self._server.insert(table.name, rows, token)
        except RowsRefused as error:
            if len(rows) == 1:
                self._dead_letter(table, rows[0], str(error))
                return
            middle = len(rows) // 2
            self._insert(table, rows[:middle], f"{token}a")
            self._insert(table, rows[middle:], f"{token}b")
        else:
            self.sent += len(rows)

    def _dead_letter(self, table: sa.Table, row: Row, reason: str) -> None:
        letter = {
            "id": f"clickhouse-{table.name}-{row['trace_id']}-{row['span_id']}",
            "ts": datetime.now(UTC),
            "signal": "clickhouse",
            "reason": f"ClickHouse refused the row: {reason}",
            "trace_id": row["trace_id"],
            "span_id": row["span_id"],
        }
        own = schema.dead_letter.c
        with self._writer.begin() as connection:
            connection.execute(sa.delete(schema.dead_letter).where(own.id == letter["id"]))
            connection.execute(sa.insert(schema.dead_letter), [letter])
        self.refused += 1

    def backfill(self) -> Iterator[int]:
        """Send all rows that are stored, as older than anything that the outbox names; yield how many at a time."""
        for table in tables.TABLES:
            last: tuple[Any, ...] | None = None
            while True:
                key = table.c.ts, table.c.id
                query = sa.select(table).order_by(*key).limit(self._batch_rows)
                if last is not None:
                    query = query.where(sa.tuple_(*key) > sa.tuple_(*map(_bound, key, last)))
                with self._reader.connect() as connection:
                    found = connection.execute(query).mappings().all()
                if not found:
                    break
                rows = [tables.row(table, dict(row), _BACKFILL) for row in found]
                self._insert(table, rows, blake2b(repr(rows).encode(), digest_size=16).hexdigest())
                last = found[-1]["ts"], found[-1]["id"]
                yield len(rows)


def _bound(column: sa.Column[Any], value: Any) -> sa.ColumnElement[Any]:
    return sa.bindparam(None, value, type_=column.type)


def _chunks(pairs: Sequence[Any]) -> Iterable[Sequence[Any]]:
    for start in range(0, len(pairs), _KEYS):
        yield pairs[start : start + _KEYS]
