"""The tables in ClickHouse, and the form in which rows go there.

Both have the columns of the tables here, `rev` and `is_deleted`: of several rows with one key, (day, trace, span), that
with the highest `rev` counts, which follows the numbers of the outbox's entries (source.py); none, if it is deleted.
Ask them with FINAL. Money is Decimal(20, 12), JSON is text, times are in UTC with microseconds.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import sqlalchemy as sa

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.exporters.request_log.clickhouse.client import ClickHouse
from otel_telemetry.exporters.request_log.db import column_types, schema
from otel_telemetry.exporters.request_log.db.outbox import RowKey

TABLES: Final = (schema.request_log, schema.llm_call)
#: By these, beside their keys, rows are looked for.
LOOKED_UP: Final = {"request_log": ("id", "session_id", "user_id"), "llm_call": ("id", "request_id")}
OWN: Final = {"rev": "UInt64", "is_deleted": "UInt8"}
_TYPES: Final[tuple[tuple[type[Any], str], ...]] = (
    (column_types.UtcTime, "DateTime64(6, 'UTC')"),
    (column_types.Money, "Decimal(20, 12)"),
    (column_types.Json, "String"),
    (sa.Boolean, "Bool"),
    (sa.BigInteger, "Int64"),
    (sa.Double, "Float64"),
    (sa.Text, "String"),
)


def columns(table: sa.Table) -> dict[str, str]:
    """Return the columns of a table in ClickHouse: {name: type}."""
    found = {}
    for column in table.c:
        kind = next(name for of, name in _TYPES if isinstance(column.type, of))
        found[column.name] = f"Nullable({kind})" if column.nullable else kind
    return {**found, **OWN}


def make(server: ClickHouse, days: int | None = None, text_days: int | None = None) -> None:
    """Make database and tables, and add columns that a newer version has; safe to repeat.

    ClickHouse deletes rows after `days`, and empties their texts after `text_days`; None: never.
    """
    server.run(f"CREATE DATABASE IF NOT EXISTS {server.database}")
    for table in TABLES:
        listed = ", ".join(f"{name} {kind}" for name, kind in columns(table).items())
        server.run(
            f"CREATE TABLE IF NOT EXISTS {server.database}.{table.name} ({listed})"
            " ENGINE = ReplacingMergeTree(rev, is_deleted) PARTITION BY toYYYYMM(ts)"
            " ORDER BY (toDate(ts), trace_id, span_id) SETTINGS non_replicated_deduplication_window = 1000"
        )
        for name, kind in missing(server, table).items():
            server.run(f"ALTER TABLE {server.database}.{table.name} ADD COLUMN IF NOT EXISTS {name} {kind}")
        _index(server, table)
        _expire(server, table, days, text_days)


def _index(server: ClickHouse, table: sa.Table) -> None:
    """Have what single rows are looked for by found without reading the whole column, also in rows that are there."""
    known = f"WHERE database = '{server.database}' AND table = '{table.name}'"
    there = {row["expr"] for row in server.rows(f"SELECT expr FROM system.data_skipping_indices {known}")}  # noqa: S608
    for name in LOOKED_UP[table.name]:
        if name not in there:
            changed = f"ALTER TABLE {server.database}.{table.name}"
            server.run(f"{changed} ADD INDEX IF NOT EXISTS ix_{name} {name} TYPE bloom_filter(0.01) GRANULARITY 1")
            server.run(f"{changed} MATERIALIZE INDEX ix_{name}")


def _expire(server: ClickHouse, table: sa.Table, days: int | None, text_days: int | None) -> None:
    """Have rows and texts deleted when ClickHouse merges its parts; what was said before no longer counts."""
    changed = f"ALTER TABLE {server.database}.{table.name}"
    where = f"database = '{server.database}' AND {{}} = '{table.name}'"
    (made,) = server.rows(f"SELECT create_table_query AS text FROM system.tables WHERE {where.format('name')}")  # noqa: S608
    columns_made, _, table_made = made["text"].partition("ENGINE =")
    if days is not None:
        server.run(f"{changed} MODIFY TTL toDateTime(ts) + toIntervalDay({days})")
    elif " TTL " in table_made:
        server.run(f"{changed} REMOVE TTL")
    for name in sorted(schema.TEXTS & set(table.c.keys())):
        if text_days is not None:
            kind = columns(table)[name]
            server.run(f"{changed} MODIFY COLUMN {name} {kind} TTL toDateTime(ts) + toIntervalDay({text_days})")
        elif re.search(rf"`{name}` [^,]* TTL ", columns_made):
            server.run(f"{changed} MODIFY COLUMN {name} REMOVE TTL")


def missing(server: ClickHouse, table: sa.Table) -> dict[str, str]:
    """Return the columns that the table does not have there: {name: type}."""
    query = f"SELECT name FROM system.columns WHERE database = '{server.database}' AND table = '{table.name}'"  # noqa: S608
    there = {row["name"] for row in server.rows(query)}
    return {name: kind for name, kind in columns(table).items() if name not in there}


def check(server: ClickHouse) -> None:
    """Raise ConfigurationError where the tables are not there or older."""
    for table in TABLES:
        lacking = missing(server, table)
        if lacking:
            problem = f"table {table.name} of {server.database} has no column {', '.join(list(lacking)[:3])}"
            raise ConfigurationError(server.key, problem, "otel-telemetry clickhouse init")


def row(table: sa.Table, values: Mapping[str, Any], rev: int) -> dict[str, Any]:
    """Return a row as it is sent; what is NULL is left out."""
    sent: dict[str, Any] = {"rev": rev, "is_deleted": 0}
    for name, value in values.items():
        if value is None:
            continue
        if isinstance(value, datetime):
            sent[name] = time(value)
        elif isinstance(table.c[name].type, column_types.Json):
            sent[name] = column_types.encode(value)
        else:
            sent[name] = value
    return sent


def encode(row: Mapping[str, Any]) -> bytes:
    """Return a row as JSON."""
    return orjson.dumps(row, default=str, option=orjson.OPT_NON_STR_KEYS)  # names of columns are no plain texts


def tombstone(key: RowKey, rev: int) -> dict[str, Any]:
    """Return the row that marks another as deleted."""
    trace_id, span_id, ts = key
    return {"trace_id": trace_id, "span_id": span_id, "ts": time(ts), "rev": rev, "is_deleted": 1}


def time(ts: datetime) -> str:
    """Return a time as ClickHouse reads it."""
    return ts.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
