"""Requests found by filters, of one span of time; listing.py chooses the spans, figures.py sums up.

Texts are never read here, but looked through if a filter asks for what they contain.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Literal

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.operate.narrowed import narrowed
from otel_telemetry.exporters.request_log.operate.report_groups import Column, Period, Row
from otel_telemetry.exporters.request_log.rollup.rows import LONGEST

_log: Final = schema.request_log.c
_call: Final = schema.llm_call.c

Order = Literal["time", "latency", "cost"]
_ORDERED_NAMES: Final[dict[str, str]] = {"time": "ts", "latency": "latency_ms", "cost": "cost_usd"}
ORDERED: Final[dict[str, Column]] = {order: _log[name] for order, name in _ORDERED_NAMES.items()}
#: Columns of a list: what is short.
LISTED: Final = (
    *(
        "id",
        "ts",
        "trace_id",
        "service",
        "environment",
        "region",
        "route",
        "model",
        "provider",
        "user_id",
        "session_id",
    ),
    *("conversation_id", "ok", "error", "degraded", "cache_hit", "rate_limited", "retries", "llm_calls"),
    *("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens"),
    *("cost_usd", "cost_source", "latency_ms", "ttfb_ms"),
)
_CUT: Final = 300  # characters of an error that a list shows
#: Columns for which a filter may ask that they are empty.
ABSENT: Final = (
    "service",
    "environment",
    "region",
    "route",
    "model",
    "user_id",
    "session_id",
    "cost_usd",
    "latency_ms",
)
#: Columns whose values are offered, and of how many of the newest rows.
OFFERED: Final = ("service", "environment", "region", "route", "model", "degraded")
_NEWEST: Final = 2_000
COUNTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Filters:
    """Conditions on requests; None matches anything."""

    service: str | None = None
    environment: str | None = None
    region: str | None = None
    route: str | None = None
    model: str | None = None
    user: str | None = None
    session: str | None = None
    degraded: str | None = None
    outcome: Literal["ok", "failed", "degraded", "cached", "limited", "unpriced"] | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    min_usd: Decimal | None = None
    max_usd: Decimal | None = None
    text: str | None = None
    absent: tuple[str, ...] = field(default=())

    def __bool__(self) -> bool:
        return any(getattr(self, one.name) not in {None, ()} for one in fields(self))

    def condition(self, period: Period) -> Column | None:
        """Return what holds of requests, or None; calls are looked up within the period."""
        found = [*self._equal(), *self._ranges(), *(_log[name].is_(None) for name in self.absent)]
        if self.outcome is not None:
            found.append(_OUTCOMES[self.outcome])
        if self.text is not None:
            columns = _log.query_text, _log.answer_text
            texts = (column.icontains(self.text, autoescape=True, escape="\\") for column in columns)
            # Of the index of rows that have texts: others are not looked at.
            found.append(sa.and_(sa.literal_column(f"({schema.REQUEST_TEXT})", sa.Boolean), sa.or_(*texts)))
        if self.model is not None:
            call = schema.llm_call.alias().c
            until = None if period.until is None else period.until + LONGEST
            asked = sa.select(call.request_id).where(call.model == self.model, Period(period.since, until).of(call.ts))
            found.append(sa.or_(_log.model == self.model, _log.id.in_(asked)))
        return sa.and_(*found) if found else None

    def _equal(self) -> list[Column]:
        pairs = (
            (_log.service, self.service),
            (_log.environment, self.environment),
            (_log.region, self.region),
            (_log.route, self.route),
            (_log.user_id, self.user),
            (_log.session_id, self.session),
            (_log.degraded, self.degraded),
        )
        return [column == value for column, value in pairs if value is not None]

    def _ranges(self) -> list[Column]:
        found = []
        if self.min_ms is not None:
            found.append(_log.latency_ms >= self.min_ms)
        if self.max_ms is not None:
            found.append(_log.latency_ms <= self.max_ms)
        if self.min_usd is not None:
            found.append(_log.cost_usd >= self.min_usd)
        if self.max_usd is not None:
            found.append(_log.cost_usd <= self.max_usd)
        return found


_OUTCOMES: Final[dict[str, Column]] = {
    "ok": _log.ok,
    "failed": sa.not_(_log.ok),
    "degraded": _log.degraded.is_not(None),
    "cached": _log.cache_hit,
    "limited": _log.rate_limited,
    "unpriced": _log.cost_source == "unpriced",
}
OUTCOMES: Final = tuple(_OUTCOMES)


@dataclass(frozen=True, slots=True)
class PageMark:
    """Where a page ended: the value by which it is ordered, and the id."""

    value: datetime | float | Decimal
    id: str


def of_requests(filters: Filters, period: Period) -> Period:
    """Return the period with the filters, for what is asked of requests."""
    both = [each for each in (period.also, filters.condition(period)) if each is not None]
    return Period(period.since, period.until, sa.and_(*both) if both else None)


def of_calls(filters: Filters, period: Period) -> Period:
    """Return the period with the filters, for what is asked of model calls: those of the requests they let through."""
    own = [] if filters.model is None else [_call.model == filters.model]
    condition = filters.condition(period)
    if condition is not None:
        since = None if period.since is None else period.since - LONGEST
        around = Period(since, period.until).of(_log.ts)
        own.append(_call.request_id.in_(sa.select(_log.id).where(around, condition)))
    return Period(period.since, period.until, sa.and_(*own) if own else None)


def page(
    connection: sa.Connection, filters: Filters, period: Period, *, order: Order, after: PageMark | None, size: int
) -> list[Row]:
    """Return a page of requests, largest or newest first; where the order's value is not known, a row has no place."""
    column = ORDERED[order]
    columns = [sa.func.substr(_log.error, 1, _CUT).label("error") if name == "error" else _log[name] for name in LISTED]
    query = sa.select(*columns).where(of_requests(filters, period).of(_log.ts), column.is_not(None))
    if after is not None:
        bound = sa.literal(after.value, column.type)
        # The first condition is implied by the second: by it PostgreSQL leaves out partitions.
        query = query.where(column <= bound, sa.tuple_(column, _log.id) < sa.tuple_(bound, sa.literal(after.id)))
    query = query.order_by(column.desc(), _log.id.desc()).limit(size)
    rows = connection.execute(narrowed(connection, schema.request_log, query)).mappings()
    return [dict(row) for row in rows]


def mark(row: Row, order: Order) -> PageMark:
    """Return where a page ended that ended with this row."""
    return PageMark(row[_ORDERED_NAMES[order]], row["id"])


def count(connection: sa.Connection, filters: Filters, period: Period) -> int:
    """Return how many requests there are, no more than COUNTED + 1."""
    some = (
        sa.select(sa.literal(1))
        .select_from(schema.request_log)
        .where(of_requests(filters, period).of(_log.ts))
        .limit(COUNTED + 1)
        .subquery()
    )
    return connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one()


def offered(connection: sa.Connection, period: Period) -> dict[str, Sequence[str]]:
    """Return the values that the newest requests of a period have, for filters to be chosen from."""
    query = sa.select(*(_log[name] for name in OFFERED)).where(period.of(_log.ts)).order_by(_log.ts.desc())
    newest = query.limit(_NEWEST).subquery()
    rows = connection.execute(sa.select(newest).distinct()).all()
    return {name: sorted({row[n] for row in rows if row[n]}) for n, name in enumerate(OFFERED)}


def newest(connection: sa.Connection) -> datetime | None:
    """Return when the newest request was; None where there is none."""
    found = connection.execute(sa.select(sa.func.max(_log.ts))).scalar()
    return None if found is None else found.astimezone(UTC)
