"""What entries of the outbox name, as lines that ClickHouse reads: rows as they are now, and tombstones of those gone.

A tombstone marks a row as deleted. The `rev` of a row is twice the number of its entry, and one more; that of a
tombstone is one less: where a row moved to another time of the same day, which is the same key there, the row counts.

PostgreSQL writes the lines itself, in the text format of COPY, which ClickHouse calls TabSeparated: no row and no key
goes through Python. Rows of SQLite are lines of JSON.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import cache
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

import orjson
import sqlalchemy as sa

from otel_telemetry.exporters.request_log.clickhouse import tables
from otel_telemetry.exporters.request_log.db import column_types, outbox, schema
from otel_telemetry.exporters.request_log.db.given import GIVEN, ask
from otel_telemetry.exporters.request_log.db.outbox import RowKey

Lines = list[bytes]

_ENTRIES: Final = 64
_KEYS: Final = 5_000
_BACKFILL: Final = 0
_DAY: Final = timedelta(days=1)
#: Of a few rows each, with an index: reading all of a table would be wrong however few rows are known of it.
_BY_INDEX: Final = (
    "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off;"
    " SET LOCAL datestyle = 'ISO'"
)


class Entry(NamedTuple):
    """An entry of the outbox; `body` is empty where the database reads that itself."""

    number: int
    body: str = ""


class Source(Protocol):
    """Reads from a connection, within a transaction that the caller ends."""

    def entries(self, connection: sa.Connection) -> list[Entry]:
        """Return the oldest entries; none where nothing is left to send."""

    def named(self, connection: sa.Connection, table: sa.Table, entries: Sequence[Entry]) -> Lines:
        """Return what entries name of a table."""

    def every(self, connection: sa.Connection, table: sa.Table, most: int) -> Iterator[Lines]:
        """Yield all rows of a table, so many at a time, as older than anything that an entry names."""

    def form(self, table: sa.Table) -> tuple[str, str]:
        """Return the columns of a line, as an INSERT names them, and its format."""

    def span(self, line: bytes) -> tuple[str, str]:
        """Return of which trace and span a line is."""


def source(dialect: str) -> Source:
    """Return what reads a database."""
    return _Postgres() if dialect == "postgresql" else _Sqlite()


# --- PostgreSQL -------------------------------------------------------------------------------------------------------
class _Postgres:
    def entries(self, connection: sa.Connection) -> list[Entry]:
        query = sa.select(outbox.outbox.c.id).order_by(outbox.outbox.c.id).limit(_ENTRIES)
        return [Entry(number) for number in connection.execute(query).scalars()]

    def named(self, connection: sa.Connection, table: sa.Table, entries: Sequence[Entry]) -> Lines:
        numbers = [entry.number for entry in entries]
        connection.exec_driver_sql(_BY_INDEX)
        return [
            *_copied(connection, _changed(table), (numbers,)),
            *_copied(connection, _renamed(table), (numbers,)),
        ]

    def every(self, connection: sa.Connection, table: sa.Table, most: int) -> Iterator[Lines]:
        """Day by day: so the database never has to keep for long what it would clean up meanwhile."""
        own = table.c.ts
        first, last = connection.execute(sa.select(sa.func.min(own), sa.func.max(own))).one()
        day = first
        while day is not None and day <= last:
            connection.rollback()
            connection.exec_driver_sql("SET LOCAL datestyle = 'ISO'")
            columns = f"{_values(table)}, {_BACKFILL}, 0"
            query = f"SELECT {columns} FROM {table.name} AS t WHERE t.ts >= %s AND t.ts < %s"  # noqa: S608 - ours
            lines = _copied(connection, query, (day, day + _DAY))
            while some := list(islice(lines, most)):
                yield some
            day += _DAY

    def form(self, table: sa.Table) -> tuple[str, str]:
        return f" ({', '.join((*_names(table), *tables.OWN))})", "TabSeparated"

    def span(self, line: bytes) -> tuple[str, str]:
        trace, span, _ = line.split(b"\t", 2)
        return trace.decode(), span.decode()


def _names(table: sa.Table) -> list[str]:
    """Return the columns of a line, those first by which a row is told from others."""
    key = ["trace_id", "span_id", "ts"]
    return [*key, *(name for name in table.c.keys() if name not in key)]  # noqa: SIM118 - of columns, not a map


def _values(table: sa.Table) -> str:
    return ", ".join(_value(table, name, f"t.{name}") for name in _names(table))


def _value(table: sa.Table, name: str, value: str) -> str:
    return f"{value} AT TIME ZONE 'UTC'" if isinstance(table.c[name].type, column_types.UtcTime) else value


@cache
def _changed(table: sa.Table) -> str:
    """Return the query of the rows with the keys that entries name; of a key without a row, a tombstone."""
    place = tables.TABLES.index(table)
    key = {name: _value(table, name, f"coalesce(t.{name}, n.{name})") for name in ("trace_id", "span_id", "ts")}
    values = ", ".join(key.get(name) or _value(table, name, f"t.{name}") for name in _names(table))
    same = "t.trace_id = n.trace_id AND t.span_id = n.span_id"
    if table is schema.llm_call:
        same = "t.id = n.trace_id || '-' || n.span_id"
    return f"""
        WITH n AS (
          SELECT key ->> 0 AS trace_id, key ->> 1 AS span_id, (key ->> 2)::timestamptz AS ts, max(id) AS number
          FROM outbox CROSS JOIN LATERAL jsonb_array_elements(body::jsonb -> {place}) AS key
          WHERE id = ANY (%s) GROUP BY 1, 2, 3
        )
        SELECT {values}, n.number * 2 + (t.id IS NOT NULL)::int, (t.id IS NULL)::int
        FROM n LEFT JOIN {table.name} AS t ON {same} AND t.ts = n.ts"""  # noqa: S608 - names of ours


@cache
def _renamed(table: sa.Table) -> str:
    """Return the query of the rows of requests that were renamed."""
    name = "id" if table is schema.request_log else "request_id"
    return f"""
        WITH n AS (
          SELECT name, max(id) AS number
          FROM outbox CROSS JOIN LATERAL jsonb_array_elements_text(body::jsonb -> 2) AS name
          WHERE id = ANY (%s) GROUP BY 1
        )
        SELECT {_values(table)}, n.number * 2 + 1, 0 FROM n JOIN {table.name} AS t ON t.{name} = n.name"""  # noqa: S608


def _copied(connection: sa.Connection, query: str, parameters: Sequence[Any]) -> Iterator[bytes]:
    raw: Any = connection.connection.driver_connection
    with raw.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT", parameters) as copy:
        yield from map(bytes, copy)


# --- SQLite -----------------------------------------------------------------------------------------------------------
_given: Final = GIVEN["sqlite"]
_log: Final = schema.request_log
_calls: Final = schema.llm_call
_BY_SPAN: Final = {
    _log: sa.select(_log).select_from(
        _given.join(_log, sa.and_(_log.c.trace_id == _given.c.a, _log.c.span_id == _given.c.b))
    ),
    _calls: sa.select(_calls).select_from(_given.join(_calls, _calls.c.id == _given.c.a + "-" + _given.c.b)),
}
_RENAMED: Final = {
    _log: sa.select(_log).select_from(_given.join(_log, _log.c.id == _given.c.a)),
    _calls: sa.select(_calls).select_from(_given.join(_calls, _calls.c.request_id == _given.c.a)),
}


class _Sqlite:
    def entries(self, connection: sa.Connection) -> list[Entry]:
        query = sa.select(outbox.outbox.c.id, outbox.outbox.c.body).order_by(outbox.outbox.c.id).limit(_ENTRIES)
        return [Entry(number, body) for number, body in connection.execute(query)]

    def named(self, connection: sa.Connection, table: sa.Table, entries: Sequence[Entry]) -> Lines:
        keys: dict[RowKey, int] = {}
        renamed: dict[str, int] = {}
        for number, body in entries:
            requests, calls, ids = outbox.load(body)
            keys.update(dict.fromkeys(requests if table is _log else calls, number))
            renamed.update(dict.fromkeys(ids, number))
        return list(_rows(connection, table, keys, renamed))

    def every(self, connection: sa.Connection, table: sa.Table, most: int) -> Iterator[Lines]:
        last: tuple[datetime, str] | None = None
        while True:
            key = table.c.ts, table.c.id
            query = sa.select(table).order_by(*key).limit(most)
            if last is not None:
                bounds = (sa.bindparam(None, value, type_=column.type) for column, value in zip(key, last, strict=True))
                query = query.where(sa.tuple_(*key) > sa.tuple_(*bounds))
            found = connection.execute(query).mappings().all()
            connection.rollback()
            if not found:
                return
            last = found[-1]["ts"], found[-1]["id"]
            yield [_encoded(tables.row(table, dict(row), _BACKFILL)) for row in found]

    def form(self, table: sa.Table) -> tuple[str, str]:
        del table
        return "", "JSONEachRow"

    def span(self, line: bytes) -> tuple[str, str]:
        row = orjson.loads(line)
        return row["trace_id"], row["span_id"]


def _rows(
    connection: sa.Connection, table: sa.Table, named: dict[RowKey, int], renamed: dict[str, int]
) -> Iterator[bytes]:
    gone = dict(named)
    found: dict[RowKey, tuple[int, Any]] = {}
    for pairs in _chunks([[trace, span] for trace, span, _ in named]):
        for row in ask(connection, _BY_SPAN[table], pairs).mappings():
            key = (row["trace_id"], row["span_id"], row["ts"])
            if number := gone.pop(key, None):
                found[key] = number, row
    column = "id" if table is _log else "request_id"
    for pairs in _chunks([[name, None] for name in renamed]):
        for row in ask(connection, _RENAMED[table], pairs).mappings():
            key = (row["trace_id"], row["span_id"], row["ts"])
            found[key] = max(renamed[row[column]], found.get(key, (0, None))[0]), row
    for number, row in found.values():
        yield _encoded(tables.row(table, row, number * 2 + 1))
    for key, number in gone.items():
        yield _encoded(tables.tombstone(key, number * 2))


def _encoded(row: dict[str, Any]) -> bytes:
    return tables.encode(row) + b"\n"


def _chunks(pairs: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(pairs), _KEYS):
        yield pairs[start : start + _KEYS]
