"""What is known of spans, whether their traces are packed or not."""

import sqlite3
from pathlib import Path

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.packed import Packed, unpacked
from otel_telemetry.exporters.request_log.schema import span_packed


def unpack_all(connection: sa.Connection) -> None:
    """Unpack every trace, as a writer does it with those of which it hears again."""
    packs = [unpacked(*row) for row in connection.execute(sa.select(span_packed.c.id, span_packed.c.body))]
    Packed(connection).unpack(packs)


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
