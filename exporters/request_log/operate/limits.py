"""Queries with a time limit: no query of a page occupies a database, or its reader, for longer."""

import time
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc

from otel_telemetry.exporters.request_log.db import database
from otel_telemetry.exporters.request_log.operate import report_ranks

_IDLE: Final = 2  # connections to PostgreSQL that stay open: opening one takes longer than most queries
_OPCODES: Final = 10_000  # of SQLite's machine, between two looks at the clock
_STOPPED: Final = ("SQLITE_INTERRUPT", "57014")


def reader(url: str, seconds: float) -> sa.Engine:
    """Return a read-only engine whose connections stop a query after so many seconds.

    On SQLite the time is counted from when the connection was opened, and each is opened for one use.
    """
    engine = database.reader(url, idle=_IDLE)
    report_ranks.prepare(engine)
    limit = _limit_sqlite if engine.dialect.name == "sqlite" else _limit_postgres
    sa.event.listen(engine, "connect", lambda raw, _: limit(raw, seconds))
    engine.dispose()  # of what was opened without a limit
    return engine


def is_stopped(error: exc.DBAPIError) -> bool:
    """Return whether an error means that the limit of time was reached."""
    found = getattr(error.orig, "sqlite_errorname", None) or getattr(error.orig, "sqlstate", None)
    return found in _STOPPED


def _limit_sqlite(raw: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    raw.execute(f"PRAGMA busy_timeout={int(seconds * 1_000)}")
    raw.set_progress_handler(lambda: time.monotonic() > end, _OPCODES)


def _limit_postgres(raw: Any, seconds: float) -> None:
    raw.execute(f"SELECT set_config('statement_timeout', '{int(seconds * 1_000)}', false)")
    raw.commit()
