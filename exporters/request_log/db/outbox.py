"""What has to be sent on to another database: which rows a transaction wrote, moved or deleted, noted by it.

Only a database that `otel-telemetry clickhouse init` has given a target has an outbox. A row of `outbox` names rows,
and holds none of their values: whoever sends them reads them then. The numbers of what one row goes through rise,
because its writers hold a lock for it (postgres.py) until they are committed: the entry with the highest came last.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import orjson
import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import column_types, schema

#: Trace id, span id, and start of a row.
RowKey = tuple[str, str, datetime]
_CHUNK: Final = 400

outbox = sa.Table(
    "outbox",
    schema.metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("body", sa.Text, nullable=False),
    sqlite_autoincrement=True,  # a number is never used again
)

outbox_target = sa.Table(
    "outbox_target",
    schema.metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("ts", column_types.UtcTime, nullable=False),
)


def is_wanted(connection: sa.Connection) -> bool:
    """Return whether changed rows must be noted in the outbox."""
    return connection.execute(sa.select(outbox_target.c.name)).first() is not None


def note(
    connection: sa.Connection, requests: Iterable[RowKey], calls: Iterable[RowKey], renamed: Iterable[str] = ()
) -> None:
    """Note rows that were written or deleted, and the new ids of requests that were renamed."""
    entry = [list(requests), list(calls), list(renamed)]
    if any(entry):
        body = orjson.dumps(entry).decode()
        connection.execute(sa.insert(outbox).values(body=body))


def note_rows(connection: sa.Connection, table: sa.Table, ids: Sequence[str]) -> None:
    """Note rows of request_log or llm_call that are going to be changed or deleted, by id."""
    if table not in (schema.request_log, schema.llm_call) or not is_wanted(connection):
        return
    found: list[RowKey] = []
    for start in range(0, len(ids), _CHUNK):
        query = sa.select(table.c.trace_id, table.c.span_id, table.c.ts).where(
            table.c.id.in_(ids[start : start + _CHUNK])
        )
        found += [(trace, span, ts) for trace, span, ts in connection.execute(query)]
    note(connection, *((found, ()) if table is schema.request_log else ((), found)))


def note_renamed(connection: sa.Connection, ids: Sequence[str]) -> None:
    """Note requests that have other ids now, which these are."""
    if is_wanted(connection):
        note(connection, (), (), ids)


def load(body: str) -> tuple[list[RowKey], list[RowKey], list[str]]:
    """Return what an entry names: requests, calls, and ids of renamed requests."""
    requests, calls, renamed = orjson.loads(body)
    return _keys(requests), _keys(calls), renamed


def _keys(rows: Iterable[Sequence[Any]]) -> list[RowKey]:
    return [(trace, span, datetime.fromisoformat(ts)) for trace, span, ts in rows]
