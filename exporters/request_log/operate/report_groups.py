"""Sums and percentiles over requests, or over model calls, by whatever the caller names.

A row is a map: what it was grouped by, then `requests` or `llm_calls`, `share` of all (0 to 1), `ok`, tokens,
`cost_usd` (sums of what is known, None where nothing is), `unpriced` (how many costs are not); of requests also
`degraded_requests` and `cache_hits`. By one thing alone along which an index runs (time, route; model), there are
`latency_p50_ms` to `ttfb_p99_ms`; else the rows would have to be sorted first, which takes longer than all the rest.

Along time each bucket is a query of its own over the index by time: nothing is sorted but the values of one bucket.
ClickHouse, which has no such index, reads columns once for all buckets.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import sqlalchemy as sa

from otel_telemetry.base import conventions
from otel_telemetry.exporters.request_log.db import coerce, schema
from otel_telemetry.exporters.request_log.operate import report_names
from otel_telemetry.exporters.request_log.operate.report_ranks import PERCENTS, named, ranks

Row = dict[str, Any]
Column = sa.ColumnElement[Any]

_NO_INDEX: Final = frozenset({"clickhouse"})
#: Time is cut into these.
BUCKETS: Final[Mapping[str, timedelta]] = {"day": timedelta(days=1), "hour": timedelta(hours=1)}
_DAY: Final = len("2026-11-21")
_HOUR: Final = len("2026-11-21 10")
_TOKENS: Final = ("prompt_tokens", "cached_tokens", "completion_tokens")


@dataclass(frozen=True, slots=True)
class Period:
    """From when on, and until when, in UTC; None is without end. `also` is what else holds of the rows."""

    since: datetime | None = None
    until: datetime | None = None
    also: Column | None = None

    def of(self, ts: Column) -> Column:
        """Return the condition of lying in it."""
        bounds = []
        if self.since is not None:
            bounds.append(ts >= self.since.astimezone(UTC))
        if self.until is not None:
            bounds.append(ts < self.until.astimezone(UTC))
        if self.also is not None:
            bounds.append(self.also)
        return sa.and_(sa.true(), *bounds)

    def within(self, start: datetime, end: datetime) -> "Period":
        """Return what of it lies between two moments."""
        since = start if self.since is None else max(start, self.since)
        return Period(since, end if self.until is None else min(end, self.until), self.also)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is summed up: `dimensions` by which it can be, `ordered` those along which an index runs."""

    count: str
    table: sa.Table
    dimensions: Mapping[str, str]
    ordered: frozenset[str]
    flags: tuple[str, ...]
    sums: tuple[str, ...]
    latency: str


REQUESTS: Final = Subject(
    "requests",
    schema.request_log,
    {
        "route": "route",
        "endpoint": "meta",
        "service": "service",
        "region": "region",
        "user": "user_id",
        "degraded": "degraded",
    },
    frozenset({"day", "hour", "route"}),
    ("ok", "degraded", "cache_hit"),
    ("llm_calls", *_TOKENS),
    "latency_ms",
)
CALLS: Final = Subject(
    "llm_calls",
    schema.llm_call,
    {"model": "model", "provider": "provider", "service": "application", "region": "region"},
    frozenset({"model"}),
    ("ok",),
    _TOKENS,
    "total_latency_ms",
)
#: What the counts of flags are called where not as the column.
_FLAG_NAMES: Final = {"cache_hit": "cache_hits", "degraded": "degraded_requests"}
#: What percentiles are of.
_TIMES: Final = ("latency", "ttfb")
_END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)


def groups(connection: sa.Connection, subject: Subject, by: Sequence[str], period: Period) -> list[Row]:
    """Return a row for each group: along time in order, else the largest first."""
    dialect = connection.dialect.name
    percentiles = _ranks(dialect, subject) if len(by) == 1 and by[0] in subject.ordered else []
    along = by[0] in BUCKETS and by[0] in subject.ordered and dialect not in _NO_INDEX
    query = _through_time if along else _at_once
    own = _own(connection, subject, by, period)
    found = list(query(connection, subject, by, period, percentiles, own))
    every = sum(row[subject.count] for row in found)
    rows = [_finished(row, subject, by, every) for row in found]
    return sorted(rows, key=lambda row: order(row, by, subject.count))


def total(connection: sa.Connection, subject: Subject, period: Period) -> Row:
    """Return the sums and percentiles of a whole period, with its count under the subject's name."""
    query = sa.select(*_sums(subject), *_ranks(connection.dialect.name, subject))
    return _valued(connection.execute(query.where(period.of(subject.table.c.ts))).mappings().one(), subject)


def series(connection: sa.Connection, subject: Subject, period: Period, step: timedelta) -> dict[int, Row]:
    """Return sums and percentiles by steps of time from `period.since` on, numbered from 0; empty ones are left out."""
    dialect, ts = connection.dialect.name, subject.table.c.ts
    if period.since is None:
        raise ValueError("steps of time need a beginning")
    begin = period.since.timestamp()
    number = _step_of(dialect, ts, begin, step).label("step")
    query = sa.select(number, *_sums(subject), *_ranks(dialect, subject)).where(period.of(ts)).group_by(number)
    return {int(row["step"]): _valued(row, subject) for row in connection.execute(query).mappings()}


def _step_of(dialect: str, ts: Column, begin: float, step: timedelta) -> Column:
    """Return in which step of time a row lies."""
    if dialect == "sqlite":
        seconds = sa.cast(sa.func.strftime("%s", sa.type_coerce(ts, sa.Text)), sa.BigInteger)
        return (seconds - int(begin)) // int(step.total_seconds())
    if dialect == "clickhouse":
        return sa.func.intDiv(sa.func.toUnixTimestamp(ts) - int(begin), int(step.total_seconds()))
    elapsed = sa.func.extract("epoch", ts) - int(begin)
    return sa.cast(sa.func.floor(elapsed / int(step.total_seconds())), sa.BigInteger)


def _valued(row: sa.RowMapping, subject: Subject) -> Row:
    names = [subject.count, *(_FLAG_NAMES.get(name, name) for name in subject.flags), *subject.sums, "unpriced"]
    sums = {name: None if row[name] is None else int(row[name]) for name in names}
    return {**sums, "cost_usd": dollars(row["cost_usd"]), **named({**row}, _TIMES)}


def _own(connection: sa.Connection, subject: Subject, by: Sequence[str], period: Period) -> dict[str, Column]:
    """Return the expressions of what is no time."""
    columns = subject.table.c
    own: dict[str, Column] = {name: columns[column] for name, column in subject.dimensions.items()}
    if "endpoint" in by:
        own["endpoint"] = report_names.endpoint(connection.dialect.name)
    if "model" in by:
        own["model"] = report_names.model(connection, period.of(columns.ts), filtered=period.also is not None)
    return own


def columns(subject: Subject, by: Sequence[str]) -> Iterator[str]:
    """Yield the names in a row of `groups`, in the order in which they are shown."""
    yield from (*by, subject.count, "share", *(_FLAG_NAMES.get(name, name) for name in subject.flags), *subject.sums)
    yield from ("cost_usd", "unpriced", *(f"{name}_p{percent}_ms" for name in _TIMES for percent in PERCENTS))


def order(row: Row, by: Sequence[str], count: str) -> tuple[Any, ...]:
    """Return the sort key of a row: time first, then the largest, then by name."""
    moments = [row[name] for name in by if name in BUCKETS]
    return (*moments, -row[count], *(str(row[name] or "") for name in by))


def dimension(dialect: str, name: str, ts: Column, columns: Mapping[str, Column]) -> Column:
    """Return the expression of a dimension. Days and hours are of UTC, which sessions are set to."""
    if name not in BUCKETS:
        return columns[name].label(name)
    if dialect == "sqlite":  # a time is text in order, `2026-11-21 10:11:12.123456`
        return sa.func.substr(sa.type_coerce(ts, sa.Text), 1, _DAY if name == "day" else _HOUR).label(name)
    if dialect == "clickhouse":
        return (sa.func.toDate(ts) if name == "day" else sa.func.toStartOfHour(ts)).label(name)
    return (sa.func.date(ts) if name == "day" else sa.func.date_trunc("hour", ts)).label(name)


def shown(name: str, value: Any) -> Any:
    """Return a day as 2026-11-21 and an hour as 2026-11-21 10:00, whatever database they come from."""
    if name == "hour" and value is not None:
        text = value.astimezone(UTC).strftime("%Y-%m-%d %H") if isinstance(value, datetime) else str(value)
        return f"{text}:00"
    return value.isoformat() if isinstance(value, date) else value


def dollars(amount: Any) -> Decimal | None:
    """Return a sum of money, rounded to what is kept of it: sums on SQLite are those of floats."""
    return None if amount is None else Decimal(amount).quantize(coerce.SMALLEST_AMOUNT)


def _at_once(  # noqa: PLR0917 - what a report is of
    connection: sa.Connection,
    subject: Subject,
    by: Sequence[str],
    period: Period,
    percentiles: list[Column],
    own: Mapping[str, Column],
) -> Iterator[Row]:
    """One query for all groups; on PostgreSQL a second one for percentiles: so the first needs no sorting."""
    dialect, columns = connection.dialect.name, subject.table.c
    keys = [dimension(dialect, name, columns.ts, own) for name in by]
    parts = [_sums(subject), percentiles] if dialect == "postgresql" else [[*_sums(subject), *percentiles]]
    found: dict[tuple[Any, ...], Row] = {}
    for part in filter(None, parts):
        query = sa.select(*keys, *part).where(period.of(columns.ts)).group_by(*keys)
        for row in connection.execute(query).mappings():
            found.setdefault(tuple(row[name] for name in by), {}).update(row)
    yield from found.values()


def _through_time(  # noqa: PLR0917 - the same
    connection: sa.Connection,
    subject: Subject,
    by: Sequence[str],
    period: Period,
    percentiles: list[Column],
    own: Mapping[str, Column],
) -> Iterator[Row]:
    """One query a bucket, from the first that has rows to the last: there is little to sort in each."""
    ts, (bucket, *others) = subject.table.c.ts, by
    step = BUCKETS[bucket]
    while (first := connection.execute(sa.select(sa.func.min(ts)).where(period.of(ts))).scalar()) is not None:
        begin = first.replace(minute=0, second=0, microsecond=0)
        begin = begin.replace(hour=0) if bucket == "day" else begin
        within = period.within(begin, begin + step)
        if others:
            rows = _at_once(connection, subject, others, within, percentiles, own)
        else:
            query = sa.select(*_sums(subject), *percentiles).where(within.of(ts))
            rows = iter([dict(connection.execute(query).mappings().one())])
        yield from ({bucket: begin.date() if bucket == "day" else begin, **row} for row in rows)
        period = period.within(begin + step, _END_OF_TIME)


def _sums(subject: Subject) -> list[Column]:
    columns = subject.table.c
    flags = [
        sa.func.count(sa.case((_flag(columns, name), 1))).label(_FLAG_NAMES.get(name, name)) for name in subject.flags
    ]
    sums = [sa.func.sum(columns[name]).label(name) for name in (*subject.sums, "cost_usd")]
    unpriced = sa.func.count(sa.case((columns.cost_source == "unpriced", 1))).label("unpriced")
    return [sa.func.count().label(subject.count), *flags, *sums, unpriced]


def _flag(columns: Any, name: str) -> sa.ColumnElement[bool]:
    """Return the condition of a flag. A request that was declined on purpose is no error."""
    found = _is_set(columns[name])
    is_request = name == "ok" and "degraded" in columns
    return sa.or_(found, columns["degraded"].in_(sorted(conventions.SKIPS))) if is_request else found


def _is_set(column: Column) -> Column:
    return column if isinstance(column.type, sa.Boolean) else column.is_not(None)


def _ranks(dialect: str, subject: Subject) -> list[Column]:
    columns = subject.table.c
    return ranks(dialect, dict(zip(_TIMES, (columns[subject.latency], columns.ttfb_ms), strict=True)))


def _finished(row: Row, subject: Subject, by: Sequence[str], every: int) -> Row:
    """Return a row with what follows from it, in the order in which it is shown."""
    count = row[subject.count]
    flags = (_FLAG_NAMES.get(name, name) for name in subject.flags)
    return {
        **{name: shown(name, row[name]) for name in by},
        subject.count: count,
        "share": count / every,
        **{name: row[name] for name in flags},
        **{name: None if row[name] is None else int(row[name]) for name in subject.sums},
        "cost_usd": dollars(row["cost_usd"]),
        "unpriced": row["unpriced"],
        **named(row, _TIMES),
    }
