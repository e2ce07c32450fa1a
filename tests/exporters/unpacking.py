"""What is known of spans, whether their traces are packed or not."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.packed import Packed, unpacked
from otel_telemetry.exporters.request_log.schema import span_packed


def unpack_all(connection: sa.Connection) -> None:
    """Unpack every trace, as a writer does it with those of which it hears again."""
    packs = [unpacked(*row) for row in connection.execute(sa.select(span_packed.c.id, span_packed.c.body))]
    Packed(connection).unpack(packs)


@contextmanager
def as_unpacked(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Show a database with every trace unpacked; it stays as it is."""
    with engine.connect() as connection, connection.begin() as transaction:
        unpack_all(connection)
        yield connection
        transaction.rollback()


def rows_of(engine: sa.Engine, tables: Iterable[sa.Table]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of tables in order of trace and span, as if no trace were packed."""
    with as_unpacked(engine) as connection:
        return {
            table.name: [
                dict(row)
                for row in connection.execute(sa.select(table).order_by(table.c.trace_id, table.c.span_id)).mappings()
            ]
            for table in tables
        }


def unpacked_copy(path: Path) -> sqlite3.Connection:
    """Return a copy of a database, in memory, with every trace unpacked."""
    copy = sqlite3.connect(":memory:", check_same_thread=False)
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as source:
        source.backup(copy)
    source.close()
    engine = sa.create_engine("sqlite://", creator=lambda: copy, poolclass=sa.StaticPool)
    with engine.begin() as connection:
        unpack_all(connection)
    return copy
