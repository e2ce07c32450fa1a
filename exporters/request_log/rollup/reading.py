"""Reading rollups: which spans of a period have one, and what they and the rows between them come to."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import rollups, schema
from otel_telemetry.exporters.request_log.db.rollups import DAY, QUARTER, rollup, rollup_done
from otel_telemetry.exporters.request_log.rollup import cells, rows
from otel_telemetry.exporters.request_log.rollup.cells import ADDED, KINDS, Cell, Key, Stored, Tally
from otel_telemetry.exporters.request_log.rollup.rows import Column, Span

_DAY_SECONDS: Final = DAY * 60
_QUARTER_SECONDS: Final = QUARTER * 60

#: Columns of bins.
TIMES: Final = ("latency", "ttfb")

#: When a span begins, what its rows have in common, and their sums.
Sums = tuple[int, Key, Cell | Stored]
#: Rows that were read already: of which kind, and of which spans.
Tallies = dict[tuple[str, tuple[Span, ...]], Tally]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a period is put together: of days, of quarters, and of rows where neither is summed up.

    `together` says that sums may be added up over time: all, or those that are alike in these expressions.
    """

    days: Sequence[Span]
    quarters: Sequence[Span]
    rows: Sequence[Span]
    together: Sequence[Column] | None = None

    @property
    def is_rows_alone(self) -> bool:
        """Whether no rollup is part of it."""
        return not self.days and not self.quarters

    def row_count(self, connection: sa.Connection, most: int) -> int:
        """Return how many requests and calls are to be read as rows, no more than `most` + 1 of each."""
        return sum(_count(connection, table, self.rows, most) for table in (schema.request_log, schema.llm_call))

    def has_more(self, connection: sa.Connection, most: int) -> bool:
        """Return whether there are more than so many requests: from sums if these have as many, else also from rows."""
        number = 0
        for minutes, spans in ((DAY, self.days), (QUARTER, self.quarters)):
            if spans:
                query = sa.select(sa.func.sum(rollup.c.rows)).where(of(minutes, "all", spans))
                number += int(connection.execute(query).scalar() or 0)
        return number > most or number + _count(connection, schema.request_log, self.rows, most) > most


def are_kept(connection: sa.Connection) -> bool:
    """Return whether a database has rollups: ClickHouse has none, and needs none."""
    return connection.dialect.name != "clickhouse"


def rows_alone(since: datetime, until: datetime) -> Plan:
    """Return the plan that reads all rows."""
    return Plan((), (), ((since.timestamp(), until.timestamp()),))


def plan(connection: sa.Connection, since: datetime, until: datetime, *, days: bool = True) -> Plan:
    """Return how a period is put together; without `days`, of quarters at most."""
    begin, end = since.timestamp(), until.timestamp()
    whole = _joined(_done(connection, DAY, [(begin, end)]) if days else (), _DAY_SECONDS)
    apart = joined_quarters(_done(connection, QUARTER, _between(begin, end, whole)))
    return Plan(whole, apart, _between(begin, end, sorted([*whole, *apart])))


def _between(begin: float, end: float, spans: Iterable[Span]) -> list[Span]:
    """Return what is left of a period between spans of it, which are in order."""
    left, at = [], begin
    for start, stop in spans:
        if start > at:
            left.append((at, start))
        at = stop
    return [*left, (at, end)] if at < end else left


def _done(connection: sa.Connection, minutes: int, within: Sequence[Span]) -> list[int]:
    """Return when the periods of one length begin that are summed up, and lie within spans of time as a whole."""
    own = rollup_done.c
    bounds = (sa.and_(own.start >= begin, own.start <= end - minutes * 60) for begin, end in within)
    query = sa.select(own.start).where(own.minutes == minutes, own.token == "", sa.or_(sa.false(), *bounds))
    return list(connection.execute(query.order_by(own.start)).scalars())


def joined_quarters(starts: Iterable[int]) -> list[Span]:
    """Return quarters of an hour as spans, those that touch as one."""
    return _joined(starts, _QUARTER_SECONDS)


def _joined(starts: Iterable[int], length: int) -> list[Span]:
    """Return spans of one length, those that touch as one."""
    found: list[Span] = []
    for start in starts:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], float(start + length))
        else:
            found.append((float(start), float(start + length)))
    return found


def _count(connection: sa.Connection, table: sa.Table, spans: Sequence[Span], most: int) -> int:
    if not spans:
        return 0
    within = sa.or_(*(rows.within(table.c.ts, span) for span in rows.joined(spans)))
    some = sa.select(sa.literal(1)).select_from(table).where(within).limit(most + 1).subquery()
    return int(connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one())


def of(minutes: int, kind: str, spans: Iterable[Span]) -> Column:
    """Return the condition of being the sums of a kind over periods of one length, within spans of time."""
    own = rollup.c
    bounds = sa.or_(sa.false(), *(sa.and_(own.start >= int(a), own.start < int(b)) for a, b in spans))
    return sa.and_(own.minutes == minutes, own.kind == kind, bounds)


def read(
    connection: sa.Connection,
    plan: Plan,
    kind: str,
    *,
    where: Column | None = None,
    also: Column | None = None,
    tallies: Tallies,
    times: Collection[str] = TIMES,
    most: float = math.inf,
) -> Iterator[Sums]:
    """Yield what the parts of a plan come to; `where` holds of rollups, `also`, which means the same, of rows.

    `times` are the bins that are wanted of rollups. Rows are read once for all that asks with the same `tallies`, so
    these are for one `also` each. Raises TooMany where more than `most` rows are to be read.
    """
    names = KINDS[kind]
    columns = (rollup.c.start, *(rollup.c[name] for name in names), *(rollup.c[name] for name in rollups.SUMS))
    for minutes, spans in ((DAY, plan.days), (QUARTER, plan.quarters)):
        if not spans:
            continue
        conditions = [of(minutes, kind, spans), *(() if where is None else (where,))]
        # SQLite's sums end at 63 bits, and its rows cost little.
        if plan.together is not None and connection.dialect.name == "postgresql":
            yield from _added_up(connection, names, times, conditions, plan.together)
            continue
        own = [rollup.c[name] if name in times else sa.literal("").label(name) for name in TIMES]
        for row in connection.execute(sa.select(*columns, *own).where(*conditions)):
            start, *values, latency, ttfb = row  # of bins that nobody asks for, nothing
            yield start, tuple(values[: len(names)]), Stored(values[len(names) :], latency, ttfb)
    of_rows = ADDED.get(kind, kind)
    key = of_rows, tuple(plan.rows)
    if key not in tallies:
        tallies[key] = rows.tally(connection, plan.rows, of_rows, also=also, most=most)
    yield from _of_rows(tallies[key], kind)


def _added_up(
    connection: sa.Connection,
    names: Sequence[str],
    times: Collection[str],
    conditions: Sequence[Column],
    together: Sequence[Column],
) -> Iterator[Sums]:
    """Yield sums that PostgreSQL has added up, each with the beginning of its last period."""
    own = rollup.c
    sums = [sa.func.sum(own[name]) for name in rollups.SUMS]
    texts = [sa.func.nullif(sa.func.substr(own[name], 2, sa.func.length(own[name]) - 2), "") for name in TIMES]
    bins = [
        sa.func.string_agg(text, ",") if name in times else sa.null() for name, text in zip(TIMES, texts, strict=True)
    ]
    key = [own[name] for name in names]
    query = sa.select(sa.func.max(own.start), *key, *sums, *bins).where(*conditions).group_by(*key, *together)
    for start, *values, latency, ttfb in connection.execute(query):
        if start is not None:  # nothing at all, where there is no key
            numbers = [int(value) for value in values[len(names) :]]
            yield start, tuple(values[: len(names)]), Stored(numbers, f"[{latency or ''}]", f"[{ttfb or ''}]")


def _of_rows(found: Tally, kind: str) -> Iterator[Sums]:
    for start, of_start in found.cells.items():
        own = cells.added(kind, of_start.items()) if kind in ADDED else of_start
        for key, cell in own.items():
            yield start, key, cell
