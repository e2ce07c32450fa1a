"""The series: what each hour had, by service, route and model, from the rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

import sqlalchemy as sa

from otel_telemetry.base import conventions
from otel_telemetry.exporters.request_log.anomalies.judge import Hour, Kind
from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.kpis.definitions import Kpi
from otel_telemetry.exporters.request_log.operate import report_kpis
from otel_telemetry.exporters.request_log.operate.report_groups import Period

Level = Literal["service", "route", "model"]
_HOUR: Final = timedelta(hours=1)
_SERVICE: Final = "service"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: As many of the largest names of a service are judged by themselves.
_MOST: Final = 20


class Key(NamedTuple):
    """What a series is of; `name` is the route or model."""

    service: str
    level: Level
    name: str


@dataclass(slots=True)
class Sums:
    """What an hour of one key had."""

    count: int = 0
    failed: int = 0
    hits: int = 0
    cost: float = 0.0
    tokens: float = 0.0
    latency: float = 0.0
    timed: int = 0
    own: dict[str, float] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a group of rows."""
        self.count += row["count"]
        self.failed += row["failed"]
        self.hits += row["hits"]
        self.cost += float(row["cost"] or 0)
        self.tokens += float(row["tokens"] or 0)
        self.latency += float(row["latency"] or 0)
        self.timed += row["timed"]


@dataclass(slots=True)
class Table:
    """The hours of all keys, numbered from `since` on; an hour without rows is an hour without requests."""

    since: datetime
    count: int
    of: dict[Key, dict[int, Sums]] = field(default_factory=dict)
    kpis: list[str] = field(default_factory=list)


class Measure(NamedTuple):
    """A way to look at hours. `words` is what it is called in a sentence."""

    words: str
    kind: Kind
    of: Callable[[Sums, float], Hour]
    models: bool


def _per(value: float, of: int) -> Hour:
    return Hour(value / of if of else 0.0, of)


#: The unit of cost is what a request costs on average, so that an hour's cost is about as sure as its count.
MEASURES: Final[Mapping[str, Measure]] = {
    "requests": Measure("traffic", "count", lambda one, _: Hour(one.count, one.count), True),
    "errors": Measure("error rate", "share", lambda one, _: Hour(one.failed, one.count), True),
    "latency": Measure("latency", "mean", lambda one, _: _per(one.latency, one.timed), True),
    "cost": Measure("cost", "count", lambda one, unit: Hour(one.cost / unit if unit else 0.0, one.count), True),
    "tokens": Measure("tokens per request", "mean", lambda one, _: _per(one.tokens, one.count), True),
    "cache": Measure("cache hit rate", "share", lambda one, _: Hour(one.hits, one.count), False),
}


def of_kpi(name: str) -> Measure:
    """Return the measure of a figure of one's own: how much of it each request has."""
    return Measure(f"{name} per request", "mean", lambda one, _: _per(one.own.get(name, 0.0), one.count), False)


def judged_kpis(kpis: Sequence[Kpi]) -> list[Kpi]:
    """Return the figures that can be checked: sums with a label for the service."""
    return [kpi for kpi in kpis if kpi.kind == "counter" and _SERVICE in dict(kpi.labels)]


def read(connection: sa.Connection, since: datetime, until: datetime, kpis: Sequence[Kpi] = ()) -> Table:
    """Return the hours of a period, from `since`, a full hour, to before `until`."""
    table = Table(since, int((until - since) / _HOUR))
    for key, at, row in (*_requests(connection, since, until), *_calls(connection, since, until)):
        for each in {key, key._replace(level="service", name="")} if key.level == "route" else {key}:
            table.of.setdefault(each, {}).setdefault(int((at - since) / _HOUR), Sums()).add(row)
    for kpi in judged_kpis(kpis):
        table.kpis.append(kpi.name)
        for row in report_kpis.kpis(connection, [kpi], ("hour", _SERVICE), Period(since, until)):
            hour = int((_moment(row["hour"][: len("2026-11-21 10")]) - since) / _HOUR)
            sums = table.of.get(Key(row[_SERVICE] or "", "service", ""), {}).get(hour)
            if sums is not None:
                sums.own[kpi.name] = row[kpi.name] or 0.0
    _leave_small(table)
    return table


def _leave_small(table: Table) -> None:
    """Leave out of each service and level what is beyond the largest."""
    sizes: dict[tuple[str, str], list[tuple[int, Key]]] = {}
    for key, hours in table.of.items():
        sizes.setdefault((key.service, key.level), []).append((sum(one.count for one in hours.values()), key))
    for found in sizes.values():
        for _, key in sorted(found, reverse=True)[_MOST:]:
            del table.of[key]


def _requests(
    connection: sa.Connection, since: datetime, until: datetime
) -> Iterator[tuple[Key, datetime, Mapping[str, Any]]]:
    row = schema.request_log.c
    fine = sa.or_(row.ok, row.degraded.in_(sorted(conventions.SKIPS)))
    hour = _hour(connection.dialect.name, row.ts)
    query = sa.select(
        hour.label("hour"), row.service.label("service"), row.route.label("name"),
        *_sums(row, fine, row.latency_ms, sa.func.count(sa.case((row.cache_hit, 1)))),
    ).where(row.ts >= since, row.ts < until).group_by(hour, row.service, row.route)  # fmt: skip
    for found in connection.execute(query).mappings():
        yield Key(found["service"] or "", "route", found["name"] or ""), _moment(found["hour"]), found  # type: ignore[misc]


def _calls(
    connection: sa.Connection, since: datetime, until: datetime
) -> Iterator[tuple[Key, datetime, Mapping[str, Any]]]:
    row = schema.llm_call.c
    hour = _hour(connection.dialect.name, row.ts)
    query = sa.select(
        hour.label("hour"), row.application.label("service"), row.model.label("name"),
        *_sums(row, row.ok, row.total_latency_ms, sa.literal(0)),
    ).where(row.ts >= since, row.ts < until).group_by(hour, row.application, row.model)  # fmt: skip
    for found in connection.execute(query).mappings():
        yield Key(found["service"] or "", "model", found["name"] or ""), _moment(found["hour"]), found  # type: ignore[misc]


def _sums(row: Any, fine: Any, latency: Any, hits: Any) -> list[Any]:
    tokens = sa.func.coalesce(row.prompt_tokens, 0) + sa.func.coalesce(row.completion_tokens, 0)
    return [
        sa.func.count().label("count"),
        sa.func.count(sa.case((sa.not_(fine), 1))).label("failed"),
        hits.label("hits"),
        sa.func.sum(row.cost_usd).label("cost"),
        sa.func.sum(tokens).label("tokens"),
        sa.func.sum(latency).label("latency"),
        sa.func.count(latency).label("timed"),
    ]


def _hour(dialect: str, ts: Any) -> Any:
    if dialect == "sqlite":  # a time is text in order
        return sa.func.substr(sa.type_coerce(ts, sa.Text), 1, len("2026-11-21 10"))
    return sa.func.date_trunc("hour", ts)


def _moment(hour: Any) -> datetime:
    if isinstance(hour, datetime):
        return hour.astimezone(UTC)
    return datetime.fromisoformat(f"{hour}:00").replace(tzinfo=UTC)


def hours(table: Table, key: Key, measure: Measure) -> list[Hour | None]:
    """Return the hours of one key as a measure sees them. Before its first request there is nothing."""
    own = table.of[key]
    count = sum(one.count for one in own.values())
    unit = sum(one.cost for one in own.values()) / count if count else 0.0
    first = min(own)
    empty = Sums()
    return [None if at < first else measure.of(own.get(at, empty), unit) for at in range(table.count)]
