"""Copies all rows of one database into another, for example from SQLite into PostgreSQL.

The rows of all tables come over as they are, with the facts of traces, the claims of ids and the state of workflows:
late spans and events find in the new database what they would have found in the old one. Not copied are rollups, which
are computed again, and the outbox, whose entries belong to one database.

The old database is only read, as it was at one moment. Each chunk is one transaction, and a row that is there already
is left alone: a copy that was interrupted goes on when it is started again. It refuses a new database that has any row
which the old one does not have. At the end, all rows are read from both and compared.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Self

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite

from otel_telemetry.base.errors import ConfigurationError, StoreError
from otel_telemetry.exporters.request_log.db import database, outbox, rollups, schema
from otel_telemetry.exporters.request_log.db.partitions import Partitions

_CHUNK: Final = 500
_KEY: Final = "request_log.url"
_ROW_TABLES: Final = (schema.request_log, schema.llm_call)
_NOT_COPIED: Final = (rollups.rollup, rollups.rollup_done, outbox.outbox, outbox.outbox_target)
TABLES: Final = tuple(table for table in schema.metadata.sorted_tables if table not in _NOT_COPIED)

Row = Mapping[str, Any]


class Copying:
    """Copies the database at one URL into that at another, which is made if it is not there.

    Raises ConfigurationError where both are the same, or the new one has rows of its own.
    """

    def __init__(self, old: str, new: str) -> None:
        if database.parse(old) == database.parse(new):
            raise ConfigurationError(
                _KEY, "is the old database itself", "name the new one: postgresql://user@host/telemetry"
            )
        self._old = database.reader(old)
        try:
            self._new = database.connect(new)
        except BaseException:
            self._old.dispose()
            raise
        self._new_reader = database.reader(new)
        self.rows: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._old.dispose()
        self._new.dispose()
        self._new_reader.dispose()

    def size(self) -> int:
        """Return how many rows the old database has; afterwards, `rows` has the number of each table."""
        with self._old.connect() as connection:
            for table in TABLES:
                self.rows[table.name] = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        return sum(self.rows.values())

    def check(self) -> None:
        """Raise ConfigurationError where the new database has a row that the old one has not, or has otherwise."""
        for name, count, missing in _compared(self._new_reader, self._old):
            if missing:
                raise ConfigurationError(
                    _KEY,
                    f"has {missing} of {count} rows in {name} that are not in the old database",
                    "name a database without rows; what was begun goes on only while nothing else writes there",
                )

    def steps(self) -> Iterator[tuple[str, int]]:
        """Copy a chunk at a time; yields its table and number of rows."""
        partitions = Partitions(self._new) if self._new.dialect.name == "postgresql" else None
        with database.snapshot(self._old) as connection:
            for table in TABLES:
                for rows in _chunks(connection, table):
                    if partitions is not None and table in _ROW_TABLES:
                        partitions.prepare(row["ts"] for row in rows)
                    self._write(table, rows)
                    yield table.name, len(rows)
        self._go_on_counting()

    def compare(self) -> Iterator[tuple[str, int]]:
        """Compare all rows of both, a chunk at a time; yields its table and number of rows.

        Raises StoreError where a row is not there, or not the same.
        """
        for name, count, missing in _compared(self._old, self._new_reader):
            if missing:
                raise StoreError(
                    f"{missing} of {count} rows in {name} are not in the new database as they are in the old one. "
                    "next: stop what writes to the old database, and copy it into one without rows"
                )
            yield name, count

    def _write(self, table: sa.Table, rows: Sequence[Row]) -> None:
        insert = postgresql.insert if self._new.dialect.name == "postgresql" else sqlite.insert
        statement = insert(table).on_conflict_do_nothing()
        try:
            with self._new.begin() as connection:
                connection.execute(statement, rows)
                if table in _ROW_TABLES:
                    rollups.forget(connection, {row["ts"] for row in rows})
                    if outbox.is_wanted(connection):
                        keys = [(row["trace_id"], row["span_id"], row["ts"]) for row in rows]
                        outbox.note(connection, *((keys, ()) if table is schema.request_log else ((), keys)))
        except exc.DBAPIError as error:
            raise database.unavailable(error) or _refused(table, rows, error) from error

    def _go_on_counting(self) -> None:
        """Let PostgreSQL number new rows behind the copied ones; SQLite does by itself."""
        if self._new.dialect.name != "postgresql":
            return
        name = schema.trace_facts.name
        with self._new.begin() as connection:
            last = connection.execute(sa.select(sa.func.max(schema.trace_facts.c.id))).scalar()
            if last is not None:
                connection.exec_driver_sql(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), {last})")


def _compared(these: sa.Engine, those: sa.Engine) -> Iterator[tuple[str, int, int]]:
    """Yield, for each chunk of these, its table, number of rows, and how many of them are not the same in those."""
    with database.snapshot(these) as here, database.snapshot(those) as there:
        for table in TABLES:
            for rows in _chunks(here, table):
                yield table.name, len(rows), len(rows) - _same(there, table, rows)


def _copied(table: sa.Table) -> list[sa.Column[Any]]:
    """Return the columns that have values of their own."""
    return [column for column in table.c if column.computed is None]


def _chunks(connection: sa.Connection, table: sa.Table) -> Iterator[list[Row]]:
    query = sa.select(*_copied(table)).execution_options(yield_per=_CHUNK)
    for rows in connection.execute(query).mappings().partitions():
        yield [dict(row) for row in rows]


def _same(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> int:
    """Return how many of these rows the table has."""
    keys = list(table.primary_key)
    named = [tuple(row[key.name] for key in keys) for row in rows]
    found = sa.tuple_(*keys).in_(named) if len(keys) > 1 else keys[0].in_([key for (key,) in named])
    there = connection.execute(sa.select(*_copied(table)).where(found)).mappings()
    by_key = {tuple(row[key.name] for key in keys): dict(row) for row in there}
    return sum(by_key.get(key) == row for key, row in zip(named, rows, strict=True))


def _refused(table: sa.Table, rows: Sequence[Row], error: exc.DBAPIError) -> StoreError:
    first, last = ([row[key.name] for key in table.primary_key] for row in (rows[0], rows[-1]))
    return StoreError(
        f"the new database refuses one of the rows {first} to {last} of {table.name}: {error.orig}. "
        "next: correct or delete that row in the old database, and start the copy again"
    )
