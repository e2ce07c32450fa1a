"""Opens whichever database is asked: SQLite, PostgreSQL or ClickHouse; for pages with limits of time.

So no query of a page occupies a database, or its reader, for longer.
"""

import time
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc

from otel_telemetry.exporters.request_log.clickhouse import reader as columns
from otel_telemetry.exporters.request_log.clickhouse import tables
from otel_telemetry.exporters.request_log.clickhouse.dbapi import TIMEOUT, TOO_MUCH
from otel_telemetry.exporters.request_log.db import database
from otel_telemetry.exporters.request_log.operate import report_ranks

_IDLE: Final = 2  # connections to PostgreSQL that stay open: opening one takes longer than most queries
_OPCODES: Final = 10_000  # of SQLite's machine, between two looks at the clock
_STOPPED: Final = ("SQLITE_INTERRUPT", "57014", *TIMEOUT)
#: Rows that one query of a page may bring from ClickHouse.
_ROWS: Final = 1_000_000


def unlimited(url: str) -> sa.Engine:
    """Return a read-only engine for reports and archives, which may take their time."""
    if columns.names(url):
        return columns.reader(url)
    engine = database.reader(url)
    report_ranks.prepare(engine)
    return engine


def reader(url: str, seconds: float) -> sa.Engine:
    """Return a read-only engine whose connections stop a query after so many seconds.

    On SQLite the time is counted from when the connection was opened, and each is opened for one use.
    """
    if columns.names(url):
        return columns.reader(url, seconds, _ROWS)
    engine = database.reader(url, idle=_IDLE)
    report_ranks.prepare(engine)
    limit = _limit_sqlite if engine.dialect.name == "sqlite" else _limit_postgres
    sa.event.listen(engine, "connect", lambda raw, _: limit(raw, seconds))
    engine.dispose()  # of what was opened without a limit
    return engine


def has(connection: sa.Connection, table: sa.Table) -> bool:
    """Return whether a database has a table of ours: ClickHouse has requests and model calls alone."""
    return connection.dialect.name != "clickhouse" or table in tables.TABLES


def is_stopped(error: exc.DBAPIError) -> bool:
    """Return whether an error means that the limit of time was reached."""
    found = (getattr(error.orig, name, None) for name in ("sqlite_errorname", "sqlstate", "code"))
    return any(each in _STOPPED for each in found)


def is_too_much(error: exc.DBAPIError) -> bool:
    """Return whether an error means that a query would bring, or hold in memory, too many rows."""
    return getattr(error.orig, "code", None) in TOO_MUCH


def _limit_sqlite(raw: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    raw.execute(f"PRAGMA busy_timeout={int(seconds * 1_000)}")
    raw.set_progress_handler(lambda: time.monotonic() > end, _OPCODES)


def _limit_postgres(raw: Any, seconds: float) -> None:
    raw.execute(f"SELECT set_config('statement_timeout', '{int(seconds * 1_000)}', false)")
    raw.commit()
