"""Figures of a period: from rollups if there are many rows, and from the rows themselves if there are few.

Percentiles of few rows are exact. Of many rows, they come from bins of 1.6 % (`approximate` is true then); counts,
tokens and money are exact in both. Of filters that rollups do not have (a range of cost or latency, an outcome that is
rare), the rows are read once, up to a limit; those of a person or a session are found by an index. ClickHouse sums up
any number of rows as they are.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final, Protocol, cast

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import rollups, schema
from otel_telemetry.exporters.request_log.operate import browse, report_groups, report_subjects
from otel_telemetry.exporters.request_log.operate.browse import Filters
from otel_telemetry.exporters.request_log.operate.report_groups import CALLS, REQUESTS, Period, Row
from otel_telemetry.exporters.request_log.operate.report_ranks import PERCENTS
from otel_telemetry.exporters.request_log.rollup import bins, cells, reading, rows
from otel_telemetry.exporters.request_log.rollup.cells import KINDS, Cell, Cells, Stored
from otel_telemetry.exporters.request_log.rollup.rows import Column, joined, within
from otel_telemetry.exporters.request_log.rollup.steps import Steps

#: Raised where more rows would have to be read than MOST.
TooMany = rows.TooMany
#: So many rows are read as they are.
FEW: Final = 5_000
#: So many rows are read for filters that rollups do not have.
MOST: Final = 100_000
_NAMES: Final = ("service", "environment", "region", "route", "model", "degraded")
_KNOWN: Final = {*_NAMES, "outcome", "absent"}
_INDEXED: Final = {"user", "session"}
_OUTCOMES: Final = {"ok", "failed", "degraded", "cached"}
_OF_CALLS: Final = {"service", "environment", "region"}
_AT: Final = {name: index for index, name in enumerate(KINDS["request"])}
_OF_CALL: Final = {name: index for index, name in enumerate(KINDS["model"])}
_QUARTER: Final = rollups.QUARTER * 60


class Figures(Protocol):
    """What can be asked of a period."""

    #: Whether percentiles come from bins.
    approximate: bool

    def total(self) -> Row:
        """Return all requests as one row, as `report_groups.total` does."""

    def by(self, name: str, most: int | None = None) -> list[Row]:
        """Return requests by service, route, degraded or user, the most first, no more rows than `most`."""

    def models(self) -> tuple[str, list[Row]]:
        """Return model calls by model, or requests by model where calls cannot be filtered; and which it was."""

    def series(self, step: timedelta) -> dict[int, Row]:
        """Return requests by steps of time, numbered from 0; of many rows, without times to first byte."""

    def cache(self) -> Row:
        """Return what the cache saved."""


def of(
    connection: sa.Connection, filters: Filters, period: Period, *, times: Collection[str] = reading.TIMES
) -> Figures:
    """Return what is best for a period; of many rows, groups have no more percentiles than those of `times`."""
    rows = FromRows(connection, filters, period)
    if period.since is None or period.until is None or not reading.are_kept(connection):
        return rows
    plan = reading.plan(connection, period.since, period.until)
    if not plan.has_more(connection, FEW):
        return rows
    asked = _asked(filters)
    if knows(filters):
        return rows if plan.row_count(connection, FEW) > FEW else FromRollups(connection, filters, period, plan, times)
    if asked & _INDEXED:
        return rows
    return FromRollups(connection, filters, period, reading.rows_alone(period.since, period.until))


def _asked(filters: Filters) -> set[str]:
    return {one.name for one in fields(filters) if getattr(filters, one.name) not in {None, ()}}


def knows(filters: Filters) -> bool:
    """Return whether rollups can tell the requests that are asked for from the others."""
    absent = set(filters.absent)
    named = filters.model is None or "model" not in absent
    return _asked(filters) <= _KNOWN and filters.outcome in {None, *_OUTCOMES} and absent <= set(_NAMES) and named


def is_small(connection: sa.Connection, table: sa.Table, period: Period) -> bool:
    """Return whether a table has few rows in a period."""
    some = sa.select(sa.literal(1)).select_from(table).where(period.of(table.c.ts)).limit(FEW + 1).subquery()
    return bool(connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one() <= FEW)


class FromRows:
    """Figures from the rows."""

    approximate = False

    def __init__(self, connection: sa.Connection, filters: Filters, period: Period) -> None:
        self._connection = connection
        self._filters = filters
        self._period = period
        self._requests = browse.of_requests(filters, period)

    def total(self) -> Row:
        """See Figures."""
        return report_groups.total(self._connection, REQUESTS, self._requests)

    def by(self, name: str, most: int | None = None) -> list[Row]:
        """See Figures."""
        return report_groups.groups(self._connection, REQUESTS, (name,), self._requests)[:most]

    def models(self) -> tuple[str, list[Row]]:
        """See Figures."""
        calls = browse.of_calls(self._filters, self._period)
        return "llm_calls", report_groups.groups(self._connection, CALLS, ("model",), calls)

    def series(self, step: timedelta) -> dict[int, Row]:
        """See Figures."""
        return report_groups.series(self._connection, REQUESTS, self._requests, step)

    def cache(self) -> Row:
        """See Figures."""
        rows = report_subjects.cache(self._connection, ("route",), self._requests)
        return {
            "hits": sum(row["cache_hits"] for row in rows),
            "saved_usd": _sum(row["saved_usd"] for row in rows),
            "saved_ms": _sum(row["saved_ms"] for row in rows),
            "unpriced": sum(row["unpriced"] for row in rows),
        }


def _sum(values: Iterable[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


@dataclass(slots=True)
class FromRollups:
    """Figures from rollups, and from the rows of spans that have none."""

    _connection: sa.Connection
    _filters: Filters
    _period: Period
    _plan: reading.Plan
    _times: Collection[str] = reading.TIMES
    approximate = True
    _known: dict[str, list[reading.Sums]] = field(default_factory=dict)
    _cells: dict[str, Cells] = field(default_factory=dict)
    _tallies: reading.Tallies = field(default_factory=dict)
    _called: reading.Tallies = field(default_factory=dict)

    def total(self) -> Row:
        """See Figures."""
        return row_of("requests", self._whole(), percentiles=True)

    def _whole(self) -> Cell:
        return cells.whole(self._by("all")).get((), Cell())

    def by(self, name: str, most: int | None = None) -> list[Row]:
        """See Figures."""
        if name == "user":
            return self._by_user(most)
        return _ranked("requests", name, self._by(name), percentiles=name == "route")[:most]

    def models(self) -> tuple[str, list[Row]]:
        """See Figures."""
        asked = _asked(self._filters)
        if not asked <= _OF_CALLS:
            return "requests", _ranked("requests", "model", self._by("model"), percentiles=True)
        own = rollups.rollup.c
        pairs = [(own[name], schema.llm_call.c[column], getattr(self._filters, name)) for name, column in _CALL_COLUMNS]
        where = sa.and_(sa.true(), *(one == value for one, _, value in pairs if value is not None))
        also = sa.and_(sa.true(), *(one == value for _, one, value in pairs if value is not None))
        kind = "call" if asked else "model"
        names = KINDS[kind]
        found = reading.read(
            self._connection,
            replace(self._plan, together=()),
            kind,
            where=where if asked else None,
            also=also if asked else None,
            tallies=self._called,
            times=self._times,
        )
        sums = [(start, tuple(key[names.index(name)] for name in KINDS["model"]), cell) for start, key, cell in found]
        named = _answered(sums)
        grouped = cells.merged(
            ((model_of(dict(zip(KINDS["model"], key, strict=True)), named),), cell) for _, key, cell in sums
        )
        return "llm_calls", _ranked("llm_calls", "model", grouped, percentiles=True)

    def series(self, step: timedelta) -> dict[int, Row]:
        """See Figures."""
        since, until = self._period.since, self._period.until
        assert since is not None  # noqa: S101  # `of` has seen to it
        assert until is not None  # noqa: S101
        begin, width = since.timestamp(), step.total_seconds()
        if begin % _QUARTER or width % _QUARTER:
            return FromRows(self._connection, self._filters, self._period).series(step)
        kind = "request" if self._filters else "all"
        steps = Steps(begin, width, self._plan)
        whole = self._known.get(kind) or self._read(kind, self._plan, times=("latency",))
        apart = self._read(kind, steps.quarters, times=("latency",)) if steps.quarters.quarters else ()
        found = steps.cells(whole, apart)
        return {step: row_of("requests", cell, percentiles=True) for step, cell in found.items()}

    def cache(self) -> Row:
        """See Figures."""
        whole = self._whole()
        usd, us = whole.known("saved_nano", "saved_known"), whole.known("saved_us", "saved_us_known")
        return {
            "hits": whole["cache_hits"],
            "saved_usd": None if usd is None else Decimal(usd).scaleb(-9),
            "saved_ms": None if us is None else us / 1e3,
            "unpriced": whole["cache_hits"] - whole["saved_known"],
        }

    def _by(self, name: str) -> Cells:
        """Return all requests by one thing, or by nothing (`all`); without filters there are few cells for that."""
        kind = name if not self._filters and name in KINDS and name != "model" else "request"
        if kind not in self._cells:
            self._cells[kind] = cells.merged((key, cell) for _, key, cell in self._of(kind))
        if kind != "request":
            return self._cells[kind]
        indexes = [] if name == "all" else [_AT[name]]
        return cells.merged((tuple(key[index] for index in indexes), cell) for key, cell in self._cells[kind].items())

    def _of(self, kind: str) -> list[reading.Sums]:
        if kind not in self._known:
            times = {"degraded": (), "route": self._times}.get(kind, reading.TIMES)
            plan = self._plan if kind in {"all", "request"} else replace(self._plan, together=())
            self._known[kind] = list(self._read(kind, plan, times=times))
        return self._known[kind]

    def _read(self, kind: str, plan: reading.Plan, *, times: Collection[str] = reading.TIMES) -> Iterator[reading.Sums]:
        """Yield the requests that the filters let through; with a model, also those whose calls have it."""
        model = self._filters.model
        if model is None or plan.is_rows_alone:
            yield from self._read_one(kind, plan, self._filters.condition(self._period), times=times)
            return
        others = replace(self._filters, model=None).condition(self._period)
        own = sa.and_(schema.request_log.c.model == model, *(() if others is None else (others,)))
        yield from self._read_one("request", plan, own, times=times)
        for start, key, cell in self._read_one("other", plan, others, times=times):
            if key[_AT["model"]] == model:
                yield start, key, cell

    def _read_one(
        self, kind: str, plan: reading.Plan, also: Column | None, *, times: Collection[str]
    ) -> Iterator[reading.Sums]:
        where = condition(self._filters) if self._filters and not plan.is_rows_alone else None
        most = MOST if plan.is_rows_alone else math.inf
        return reading.read(
            self._connection, plan, kind, where=where, also=also, tallies=self._tallies, times=times, most=most
        )

    def _by_user(self, most: int | None) -> list[Row]:
        """Return the sums of days by user, with those of the rows between them."""
        if self._plan.is_rows_alone:
            list(self._read("request", self._plan))
            found = cells.merged(pair for tally in self._tallies.values() for pair in tally.users.items())
            return _ranked("requests", "user", found, percentiles=False)[:most]
        return [] if self._filters else _users(self._connection, self._plan, most)


def _users(connection: sa.Connection, plan: reading.Plan, most: int | None) -> list[Row]:
    """Return sums by user, the most requests first: of days from rollups, of what lies between them from rows."""
    log, own = schema.request_log.c, rollups.rollup.c
    between = [within(log.ts, span) for span in joined((*plan.quarters, *plan.rows))]
    days = reading.of(rollups.DAY, "user", plan.days)
    wanted, every = None, 0
    if most is not None:  # who they are is counted by indexes alone
        queries = [
            sa.select(log.user_id, sa.func.count().label("n")).where(part).group_by(log.user_id) for part in between
        ]
        if plan.days:
            queries.append(sa.select(own.user_id, sa.func.sum(own.rows).label("n")).where(days).group_by(own.user_id))
        wanted, every = _most_often(connection, queries, most)
    stored = _stored(connection, plan, days, wanted) if plan.days else ()
    cell_of = cells.merged(((user,), Stored([int(value) for value in values], "", "")) for user, *values in stored)
    found = {user: {"user": user, **row_of("requests", cell, percentiles=False)} for (user,), cell in cell_of.items()}
    for part in between:
        # By an expression no index is of: the one by time holds all that is summed up, that by user nothing.
        period = Period(also=sa.and_(part, _among(log.user_id.concat(""), wanted)))
        for row in report_groups.groups(connection, REQUESTS, ("user",), period):
            found[row["user"]] = _added(found.get(row["user"]), row)
    every = every or sum(row["requests"] for row in found.values())
    rows = [{**row, "share": row["requests"] / every} for row in found.values()]
    return sorted(rows, key=lambda row: report_groups.order(row, ("user",), "requests"))


def _most_often(
    connection: sa.Connection, queries: Sequence[sa.Select[Any]], most: int
) -> tuple[list[str | None], int]:
    """Return who is counted most often in several queries of user and `n` together, and the sum of all counts."""
    counted = sa.union_all(*queries).subquery()
    number = sa.func.sum(counted.c.n)
    ranked = sa.select(counted.c.user_id, sa.func.sum(number).over()).group_by(counted.c.user_id)
    query = ranked.order_by(number.desc(), sa.func.coalesce(counted.c.user_id, "")).limit(most)
    found = connection.execute(query).all()
    return [user for user, _ in found], int(found[0][1]) if found else 0


def _stored(
    connection: sa.Connection, plan: reading.Plan, days: Column, wanted: Sequence[str | None] | None
) -> Iterator[Sequence[Any]]:
    """Yield users with their sums of days: all users, or those that are wanted."""
    own = rollups.rollup.c
    query = sa.select(own.user_id, *(sa.func.sum(own[name]) for name in rollups.SUMS)).group_by(own.user_id)
    if wanted is None:
        yield from connection.execute(query.where(days))
        return
    # Each day by name: between two days, PostgreSQL would read all of the index once for each user.
    starts = [start for a, b in plan.days for start in range(int(a), int(b), rollups.DAY * 60)]
    query = query.where(own.minutes == rollups.DAY, own.kind == "user", own.start.in_(starts))
    yield from connection.execute(query.where(own.user_id.in_([user for user in wanted if user is not None])))
    if None in wanted:
        yield from connection.execute(query.where(own.user_id.is_(None)))


def _among(column: Column, users: Sequence[str | None] | None) -> Column:
    """Return the condition of being one of these, None included; of being any where none are given."""
    if users is None:
        return sa.true()
    known = column.in_([user for user in users if user is not None])
    return sa.or_(known, column.is_(None)) if None in users else known


def condition(filters: Filters) -> Column:
    """Return filters that rollups know as a condition of rollups."""
    own = rollups.rollup.c
    found = [own[name] == getattr(filters, name) for name in _NAMES if getattr(filters, name) is not None]
    found += [own[name].is_(None) for name in filters.absent]
    if filters.outcome is not None:
        found.append(_CONDITIONS[filters.outcome](own))
    return sa.and_(sa.true(), *found)


_CALL_COLUMNS: Final = (("service", "application"), ("environment", "environment"), ("region", "region"))
_CONDITIONS: Final[dict[str, Callable[[Any], Column]]] = {
    "ok": lambda own: cast("Column", own.is_ok),
    "failed": lambda own: sa.not_(own.is_ok),
    "degraded": lambda own: cast("Column", own.degraded.is_not(None)),
    "cached": lambda own: cast("Column", own.is_hit),
}
_ADDED: Final = ("requests", "ok", "degraded_requests", "cache_hits", "unpriced")
_PERHAPS: Final = ("llm_calls", "prompt_tokens", "cached_tokens", "completion_tokens", "cost_usd")


def _added(one: Row | None, other: Row) -> Row:
    if one is None:
        return other
    found = {**one, **{name: one[name] + other[name] for name in _ADDED}}
    return found | {name: _sum((one[name], other[name])) for name in _PERHAPS}


def _answered(sums: Iterable[reading.Sums]) -> dict[str, str]:
    """Return by which model a name was answered last, for names that failed and are no answer's own."""
    failed: set[str] = set()
    last: dict[str, tuple[int, str]] = {}
    for start, key, _ in sums:
        model, asked, ok = key[_OF_CALL["model"]], key[_OF_CALL["model_requested"]], key[_OF_CALL["is_ok"]]
        if not ok and model == asked and model is not None:
            failed.add(model)
        elif ok and asked is not None and model is not None:
            last[asked] = max(last.get(asked, (start, model)), (start, model))
    return {asked: model for asked, (_, model) in last.items() if asked in failed and model != asked}


def model_of(values: Mapping[str, Any], named: Mapping[str, str]) -> str | None:
    """Return the model under which a call counts: of one that failed, who answers under its name."""
    model: str | None = values["model"]
    unanswered = not values["is_ok"] and model == values["model_requested"]
    return named.get(model, model) if unanswered and model is not None else model


def _ranked(count: str, name: str, found: Cells, *, percentiles: bool) -> list[Row]:
    every = sum(cell["rows"] for cell in found.values())
    rows = [
        {name: key[0], **row_of(count, cell, percentiles=percentiles), "share": cell["rows"] / every}
        for key, cell in found.items()
    ]
    return sorted(rows, key=lambda row: report_groups.order(row, (name,), count))


def row_of(count: str, cell: Cell, *, percentiles: bool) -> Row:
    """Return sums as a row of report_groups."""
    found: Row = {
        count: cell["rows"],
        "ok": cell["ok"],
        "prompt_tokens": cell.known("prompt_tokens", "prompt_known"),
        "cached_tokens": cell.known("cached_tokens", "cached_known"),
        "completion_tokens": cell.known("completion_tokens", "completion_known"),
        "cost_usd": report_groups.dollars(cell.cost),
        "unpriced": cell["unpriced"],
    }
    if count == "requests":
        found |= {"llm_calls": cell["llm_calls"] if cell["rows"] else None}
        found |= {"degraded_requests": cell["degraded_rows"], "cache_hits": cell["cache_hits"]}
    if percentiles:
        for name, own in (("latency", cell.latency), ("ttfb", cell.ttfb)):
            values = bins.percentiles(own, PERCENTS)
            found |= {f"{name}_p{percent}_ms": value for percent, value in zip(PERCENTS, values, strict=True)}
    return found


__all__ = ["FEW", "Figures", "FromRollups", "FromRows", "of"]
