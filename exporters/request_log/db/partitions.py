"""Partitions of `request_log` and `llm_call` on PostgreSQL: one a month in UTC, made before its first row comes.

A month gets a partition while it is between thirteen months ago and the next one; rows of any other time go to
`<table>_default`, so that clocks that are far off do not make hundreds of tables. When a month of such rows comes into
that range, they move into its partition. Making one needs no lock that readers notice; where it has to wait for one, or
the right is missing, rows go to the default partition and it is tried again after a minute: nothing is lost by that.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy import exc

TABLES: Final = ("request_log", "llm_call")
_BACK: Final = 13
_AHEAD: Final = 1
_AGAIN_SECONDS: Final = 60.0
_MONTHS: Final = 12

_log = logging.getLogger("otel_telemetry.request_log")


class Partitions:
    """Knows which months have their partitions, and makes those that are missing. For one writer of one database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._there: set[int] = set()
        self._not_before = 0.0

    def prepare(self, times: Iterable[datetime]) -> None:
        """Make the partitions that rows of these times need, and those of this month and the next."""
        now = _month(datetime.now(UTC))
        wanted = {month for month in {_month(ts) for ts in times} if now - _BACK <= month <= now + _AHEAD}
        missing = {*wanted, now, now + _AHEAD} - self._there
        if not missing or time.monotonic() < self._not_before:
            return
        try:
            with self._engine.begin() as connection:
                connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
                for month in sorted(missing):
                    for table in TABLES:
                        _make(connection, table, month)
            self._there |= missing
        except exc.DBAPIError as error:
            if error.connection_invalidated:
                raise
            self._not_before = time.monotonic() + _AGAIN_SECONDS
            _log.warning("rows go to the default partition for now, no other could be made: %s", error.orig)


def _month(ts: datetime) -> int:
    ts = ts.astimezone(UTC)
    return ts.year * _MONTHS + ts.month - 1


def _start(month: int) -> str:
    return f"{month // _MONTHS:04}-{month % _MONTHS + 1:02}-01 00:00:00+00"


def _make(connection: sa.Connection, table: str, month: int) -> None:
    name = f"{table}_{month // _MONTHS:04}_{month % _MONTHS + 1:02}"
    if connection.exec_driver_sql("SELECT to_regclass(%s)", (name,)).scalar() is not None:
        return
    start, end = _start(month), _start(month + 1)
    within = f"ts >= '{start}' AND ts < '{end}'"
    connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL, CHECK ({within}))")
    connection.exec_driver_sql(
        f"WITH moved AS (DELETE FROM {table}_default WHERE {within} RETURNING *) "  # noqa: S608  # names and dates of ours
        f"INSERT INTO {name} SELECT * FROM moved"
    )
    connection.exec_driver_sql(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{start}') TO ('{end}')")
    connection.exec_driver_sql(f"ALTER TABLE {name} DROP CONSTRAINT {name}_ts_check")


def expired(connection: sa.Connection, table: str, before: datetime) -> Iterator[str]:
    """Yield the names of partitions all of whose rows are older than a time."""
    query = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(%s)"
    for name in connection.exec_driver_sql(query, (table,)).scalars().all():
        year, _, month = name.removeprefix(f"{table}_").partition("_")
        if year.isdigit() and month.isdigit() and int(year) * _MONTHS + int(month) <= _month(before):
            yield name
