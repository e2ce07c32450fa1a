"""What the rows say: read-only queries that return typed rows, for whoever prints them.

Percentiles are nearest-rank: the smallest value that at least that share of the values does not exceed. Rows without a
value (no time to first byte known, cost unknown) are left out of its percentile or sum, and counted where that matters.
Every query takes `since`, a time in UTC, and reads from there on.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final, Self

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from otel_telemetry import records
from otel_telemetry.exporters.request_log import coerce, database, schema
from otel_telemetry.exporters.request_log.config import RequestLogSettings

_log: Final = schema.request_log.c
_CENT: Final = 100
_PERCENTS: Final = (50, 95)
#: {route: (p50, p95)}, in milliseconds.
Percentiles = dict[str | None, tuple[float, float]]


@dataclass(slots=True, frozen=True)
class RouteSummary:
    """Cost and latency of one route. Times in milliseconds; `cost_usd` sums the `requests - unpriced` known costs."""

    route: str | None
    requests: int
    ok: int
    llm_calls: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_usd: Decimal
    unpriced: int
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    ttfb_p50_ms: float | None
    ttfb_p95_ms: float | None

    @property
    def ok_share(self) -> float:
        """Share of the requests that went well, 0 to 1."""
        return self.ok / self.requests


@dataclass(slots=True, frozen=True)
class DaySummary:
    """Cost of one day, in UTC."""

    day: date
    requests: int
    llm_calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: Decimal
    unpriced: int


class Report:
    """Queries over one database. Use as a context manager, or `close` it."""

    def __init__(self, config: RequestLogSettings) -> None:
        self._engine = database.reader(config.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def latest(self, limit: int = 20) -> list[records.Request]:
        """Return the latest requests, newest first."""
        query = sa.select(schema.request_log).order_by(_log.ts.desc(), _log.id).limit(limit)
        with self._rows(query) as rows:
            return [records.Request(**row) for row in rows]

    def calls_of(self, request_id: str) -> list[records.LlmCall]:
        """Return the model calls of a request, in order of time."""
        table = schema.llm_call
        query = sa.select(table).where(table.c.request_id == request_id).order_by(table.c.ts, table.c.id)
        with self._rows(query) as rows:
            return [records.LlmCall(**row) for row in rows]

    def by_route(self, since: datetime | None = None) -> list[RouteSummary]:
        """Return cost and latency by route, the busiest first."""
        query = sa.select(_log.route, *_sums(), _log_count_ok()).where(_after(since)).group_by(_log.route)
        latency, ttfb = self._percentiles(since)
        with self._rows(query) as rows:
            found = [_route(row, latency, ttfb) for row in rows]
        return sorted(found, key=lambda each: (-each.requests, each.route or ""))

    def by_day(self, since: datetime | None = None) -> list[DaySummary]:
        """Return cost per day, in order."""
        day = sa.func.date(_log.ts).label("day")
        query = sa.select(day, *_sums()).where(_after(since)).group_by(day).order_by(day)
        names = {field.name for field in fields(DaySummary)}
        with self._rows(query) as rows:
            return [
                DaySummary(**{**_only(_known(row), names), "day": date.fromisoformat(str(row["day"]))}) for row in rows
            ]

    def _percentiles(self, since: datetime | None) -> tuple[Percentiles, Percentiles]:
        """Return {route: (p50, p95)} of latency and of time to first byte, over the rows that have a value."""
        with self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                return _sorted_there(connection, since)
            return _sorted_here(connection, since)

    @contextmanager
    def _rows(self, query: sa.Select[Any]) -> Iterator[Sequence[dict[str, Any]]]:
        with self._engine.connect() as connection:
            yield [dict(row) for row in connection.execute(query).mappings()]


def _after(since: datetime | None) -> sa.ColumnElement[bool]:
    return _log.ts >= since.astimezone(UTC) if since is not None else sa.true()


def _sorted_there(connection: sa.Connection, since: datetime | None) -> tuple[Percentiles, Percentiles]:
    """PostgreSQL's percentile_disc is the nearest rank, and knows nothing of NULL."""
    shares = sa.literal([percent / _CENT for percent in _PERCENTS], postgresql.ARRAY(sa.Double))
    values = [sa.func.percentile_disc(shares).within_group(column) for column in (_log.latency_ms, _log.ttfb_ms)]
    query = sa.select(_log.route, *values).where(_after(since)).group_by(_log.route)
    found = connection.execute(query).all()
    latency, ttfb = ({row[0]: (row[n][0], row[n][1]) for row in found if row[n] is not None} for n in (1, 2))
    return latency, ttfb


def _sorted_here(connection: sa.Connection, since: datetime | None) -> tuple[Percentiles, Percentiles]:
    """SQLite takes five times as long over ranks in a window as Python over sorting the values."""
    times: Percentiles = {}
    firsts: Percentiles = {}
    for route in connection.execute(sa.select(_log.route).distinct()).scalars().all():
        same = _log.route == route if route is not None else _log.route.is_(None)
        query = sa.select(_log.latency_ms, _log.ttfb_ms).where(same, _after(since))
        found = connection.execute(query).cursor.fetchall()
        for place, column in ((times, 0), (firsts, 1)):
            values = sorted([row[column] for row in found if row[column] is not None])
            if values:
                place[route] = _nearest_rank(values)
    return times, firsts


def _nearest_rank(values: list[float]) -> tuple[float, float]:
    middle, high = (values[-(-len(values) * percent // _CENT) - 1] for percent in _PERCENTS)
    return middle, high


def _sums() -> list[sa.ColumnElement[Any]]:
    def total(name: str) -> sa.ColumnElement[Any]:
        return sa.func.sum(_log[name]).label(name)

    tokens = [total(name) for name in ("llm_calls", "prompt_tokens", "cached_tokens", "completion_tokens")]
    unpriced = sa.func.count(sa.case((_log.cost_source == "unpriced", 1))).label("unpriced")
    return [sa.func.count().label("requests"), *tokens, total("cost_usd"), unpriced]


def _log_count_ok() -> sa.ColumnElement[Any]:
    return sa.func.count(sa.case((_log.ok, 1))).label("ok")


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of sums: nothing to add up is 0, money is rounded to what is kept of it (float sums on SQLite)."""
    found = {name: 0 if value is None else value for name, value in row.items() if name not in ("route", "cost_usd")}
    return {**found, "cost_usd": Decimal(row["cost_usd"] or 0).quantize(coerce.SMALLEST_AMOUNT)}


def _only(row: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name in names}


def _route(
    row: dict[str, Any],
    latency: Percentiles,
    ttfb: Percentiles,
) -> RouteSummary:
    route = row["route"]
    latency_p50, latency_p95 = latency.get(route, (None, None))
    ttfb_p50, ttfb_p95 = ttfb.get(route, (None, None))
    return RouteSummary(
        route=route,
        **_known(row),
        latency_p50_ms=latency_p50,
        latency_p95_ms=latency_p95,
        ttfb_p50_ms=ttfb_p50,
        ttfb_p95_ms=ttfb_p95,
    )
