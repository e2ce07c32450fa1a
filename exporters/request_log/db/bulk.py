"""Writes many rows at once, in the fastest way of each database: `executemany` on SQLite, COPY and sets on PostgreSQL.

Rows are sequences of Python values in the order of the caller's columns; a column's type (schema.py) decides how each
value is sent.

On PostgreSQL new rows are streamed with COPY directly into their tables. Which rows are new was decided under the lock
that every writer holds (postgres.py), and an existing row makes COPY fail, and with it the whole transaction. So
nothing can be counted twice, at half the writing of staging tables. Updates and deletions send all their keys as one
JSON parameter: one round trip for any number of rows.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from otel_telemetry.exporters.request_log.db import column_types, copy_text

Row = Sequence[Any]
Encoder = Callable[[Any], Any]

_TO_MICROSECONDS: Final = len("2026-11-20 10:11:12.123456")
_POSTGRES: Final = postgresql.dialect()  # type: ignore[no-untyped-call]


class Bulk(Protocol):
    """Writes to one connection, within its transaction."""

    def insert(self, table: sa.Table, rows: Iterable[Row]) -> None:
        """Insert new rows; values in the order of the table's columns."""

    def insert_missing(self, table: sa.Table, rows: Sequence[Row]) -> int:
        """Insert the rows whose key is not there yet; return how many that were."""

    def update(self, table: sa.Table, keys: tuple[str, ...], values: tuple[str, ...], rows: Sequence[Row]) -> None:
        """Set the columns `values` where the columns `keys` are equal; a row is its keys, then its values."""

    def delete(self, table: sa.Table, keys: tuple[str, ...], rows: Sequence[Row]) -> None:
        """Delete where the columns `keys` are equal."""


def bulk(connection: sa.Connection) -> Bulk:
    """Return the writer for a connection."""
    return _PostgresBulk(connection) if connection.dialect.name == "postgresql" else _SqliteBulk(connection)


@cache
def _encoders(table: sa.Table, columns: tuple[str, ...], *, postgres: bool) -> tuple[Encoder | None, ...]:
    """Return what has to be done to the values of each column; where the driver knows a type by itself, nothing."""
    found: list[Encoder | None] = []
    for name in columns:
        kind = table.c[name].type
        encoder: Encoder | None = column_types.encode if isinstance(kind, column_types.Json) else None
        found.append(encoder if postgres else _SQLITE.get(type(kind), encoder))
    return tuple(found)


def _sqlite_time(value: datetime) -> str:
    """Return a time as SQLAlchemy writes it, which takes it five times as long."""
    if value.tzinfo is not UTC:
        value = value.astimezone(UTC)
    return value.isoformat(" ", "microseconds")[:_TO_MICROSECONDS]


#: Truth values are integers to its driver already, but it takes five times as long to see that.
_SQLITE: Final[dict[type[Any], Encoder]] = {
    column_types.UtcTime: _sqlite_time,
    column_types.Money: float,
    sa.Boolean: int,
}


def _encoded(
    table: sa.Table, columns: tuple[str, ...], rows: Iterable[Row], *, postgres: bool, whole: bool = False
) -> list[tuple[str, Sequence[Any]]]:
    """Return columns with their values as the driver takes them: most of that is done without Python's help.

    Columns in which no row has a value are left out, unless the rows are wanted `whole`: of 50 columns, often half.
    """
    sent: list[tuple[str, Sequence[Any]]] = []
    encoders = _encoders(table, columns, postgres=postgres)
    for name, encode, values in zip(columns, encoders, zip(*rows, strict=True), strict=False):
        if values[0] is None and not whole and values.count(None) == len(values):
            continue
        if encode is None:
            sent.append((name, values))
        elif type(None) in set(map(type, values)):  # other values than None take long to see that they differ
            sent.append((name, [None if value is None else encode(value) for value in values]))
        else:
            sent.append((name, list(map(encode, values))))
    return sent


def _rows(columns: Iterable[tuple[str, Sequence[Any]]]) -> list[Row]:
    return list(zip(*(values for _, values in columns), strict=True))


def _names(columns: Iterable[tuple[str, Sequence[Any]]]) -> str:
    return ", ".join(name for name, _ in columns)


class _SqliteBulk:
    """Prepared once, executed for each row: nothing of SQLAlchemy in between."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def insert(self, table: sa.Table, rows: Iterable[Row]) -> None:
        """See Bulk."""
        self._insert("INSERT", table, rows)

    def insert_missing(self, table: sa.Table, rows: Sequence[Row]) -> int:
        """See Bulk."""
        return self._insert("INSERT OR IGNORE", table, rows)

    def _insert(self, verb: str, table: sa.Table, rows: Iterable[Row]) -> int:
        sent = _encoded(table, tuple(table.c.keys()), rows, postgres=False)
        marks = ", ".join("?" * len(sent))
        return self._many(f"{verb} INTO {table.name} ({_names(sent)}) VALUES ({marks})", _rows(sent))

    def update(self, table: sa.Table, keys: tuple[str, ...], values: tuple[str, ...], rows: Sequence[Row]) -> None:
        """See Bulk."""
        statement = f"UPDATE {table.name} SET {_equal(values, ', ')} WHERE {_equal(keys, ' AND ')}"  # noqa: S608
        turned = [(*row[len(keys) :], *row[: len(keys)]) for row in rows]
        self._many(statement, _rows(_encoded(table, values + keys, turned, postgres=False, whole=True)))

    def delete(self, table: sa.Table, keys: tuple[str, ...], rows: Sequence[Row]) -> None:
        """See Bulk."""
        sent = _rows(_encoded(table, keys, rows, postgres=False, whole=True))
        self._many(f"DELETE FROM {table.name} WHERE {_equal(keys, ' AND ')}", sent)  # noqa: S608

    def _many(self, statement: str, sent: list[Any]) -> int:
        return self._connection.exec_driver_sql(statement, sent).rowcount if sent else 0


def _equal(names: tuple[str, ...], between: str) -> str:
    return between.join(f"{name} = ?" for name in names)


class _PostgresBulk:
    """COPY for new rows; one statement over `json_to_recordset` for a set of changes."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def insert(self, table: sa.Table, rows: Iterable[Row]) -> None:
        """See Bulk."""
        sent = _encoded(table, tuple(table.c.keys()), rows, postgres=True)
        if not sent:
            return
        raw: Any = self._connection.connection.driver_connection
        with raw.cursor() as cursor, cursor.copy(f"COPY {table.name} ({_names(sent)}) FROM STDIN") as copy:
            copy.write(copy_text.lines((table.c[name], values) for name, values in sent))

    def insert_missing(self, table: sa.Table, rows: Sequence[Row]) -> int:
        """See Bulk."""
        columns = tuple(table.c.keys())
        named = ", ".join(columns)
        values = ", ".join(f"k{n}" for n in range(len(columns)))
        statement = f"INSERT INTO {table.name} ({named}) SELECT {values} FROM {_given(table, columns, ())}"  # noqa: S608
        names = [f"k{n}" for n in range(len(columns))]
        given = column_types.encode([dict(zip(names, row, strict=True)) for row in rows])
        return self._connection.exec_driver_sql(f"{statement} ON CONFLICT DO NOTHING", (given,)).rowcount

    def update(self, table: sa.Table, keys: tuple[str, ...], values: tuple[str, ...], rows: Sequence[Row]) -> None:
        """See Bulk."""
        sets = ", ".join(f"{name} = given.v{n}" for n, name in enumerate(values))
        self._set(f"UPDATE {table.name} SET {sets} FROM {_given(table, keys, values)}", table, keys, values, rows)  # noqa: S608

    def delete(self, table: sa.Table, keys: tuple[str, ...], rows: Sequence[Row]) -> None:
        """See Bulk."""
        self._set(f"DELETE FROM {table.name} USING {_given(table, keys, ())}", table, keys, (), rows)  # noqa: S608

    def _set(self, statement: str, table: sa.Table, keys: tuple[str, ...], values: tuple[str, ...], rows: Any) -> None:
        if not rows:
            return
        names = [*(f"k{n}" for n in range(len(keys))), *(f"v{n}" for n in range(len(values)))]
        where = " AND ".join(f"{table.name}.{name} = given.k{n}" for n, name in enumerate(keys))
        given = column_types.encode([dict(zip(names, row, strict=True)) for row in rows])
        self._connection.exec_driver_sql(f"{statement} WHERE {where}", (given,))


@cache
def _given(table: sa.Table, keys: tuple[str, ...], values: tuple[str, ...]) -> str:
    """Return the rows of a JSON parameter, with the types of the columns that they are meant for."""
    typed = [f"k{n} {_type(table, name)}" for n, name in enumerate(keys)]
    typed += [f"v{n} {_type(table, name)}" for n, name in enumerate(values)]
    return f"json_to_recordset(%s::json) AS given({', '.join(typed)})"


def _type(table: sa.Table, name: str) -> str:
    return table.c[name].type.compile(_POSTGRES)
