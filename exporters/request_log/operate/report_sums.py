"""Sums of `report` from rollups, where these come to the same as the rows: report_groups.py defines the keys.

Counts, tokens and money do. Percentiles come from bins of 1.6 % (rollup/bins.py) where the caller takes that; and what
rollups do not know (users, endpoints), or what is few rows, is read as rows.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.operate import figures, report_groups, report_names
from otel_telemetry.exporters.request_log.operate.report_groups import BUCKETS, CALLS, Period, Row, Subject
from otel_telemetry.exporters.request_log.rollup import cells, reading
from otel_telemetry.exporters.request_log.rollup.cells import KINDS, Key

#: Kinds of rollups by what is summed up, the smaller ones first.
_OF: Final = {"requests": ("all", "route", "degraded", "request"), "llm_calls": ("model", "call")}
#: Too many cells to go through by quarters.
_LARGE: Final = "request"
_MOMENT: Final = timedelta(microseconds=1)


def groups(
    connection: sa.Connection, subject: Subject, by: Sequence[str], period: Period, *, exact: bool = True
) -> tuple[list[Row], bool]:
    """Return what `report_groups.groups` returns, and whether its percentiles are from bins: never where `exact`."""
    percentiles = len(by) == 1 and by[0] in subject.ordered
    others = [name for name in by if name not in BUCKETS]
    kinds = _OF[subject.count] if reading.are_kept(connection) else ()
    kind = next((one for one in kinds if set(others) <= set(KINDS[one])), None)
    plan = None if kind is None or (percentiles and exact) else _plan(connection, subject, period, kind, by)
    if kind is None or plan is None:
        return report_groups.groups(connection, subject, by, period), False
    times = reading.TIMES if percentiles else ()
    read = reading.read(connection, plan, kind, tallies={}, times=times)
    found = cells.merged((key, cell) for key, cell in _keyed(connection, subject, by, period, kind, read))
    every = sum(cell["rows"] for cell in found.values())
    rows = []
    for key, cell in found.items():
        row = figures.row_of(subject.count, cell, percentiles=percentiles)
        row |= {**dict(zip(by, key, strict=True)), "share": cell["rows"] / every}
        rows.append({name: row[name] for name in report_groups.columns(subject, by) if name in row})
    return sorted(rows, key=lambda row: report_groups.order(row, by, subject.count)), percentiles


def _plan(
    connection: sa.Connection, subject: Subject, period: Period, kind: str, by: Sequence[str]
) -> reading.Plan | None:
    """Return how the period is put together; None where rows are better."""
    if period.also is not None or ("hour" in by and kind == _LARGE):
        return None
    ts = subject.table.c.ts
    first, last = (
        connection.execute(sa.select(bound(ts)).where(period.of(ts))).scalar() for bound in (sa.func.min, sa.func.max)
    )
    if first is None or last is None or figures.is_small(connection, subject.table, period):
        return None
    since, until = period.since or first.astimezone(UTC), period.until or last.astimezone(UTC) + _MOMENT
    plan = reading.plan(connection, since, until, days="hour" not in by)
    return None if plan.row_count(connection, figures.FEW) > figures.FEW else plan


def _keyed(  # noqa: PLR0917 - what a report is of
    connection: sa.Connection,
    subject: Subject,
    by: Sequence[str],
    period: Period,
    kind: str,
    read: Iterator[reading.Sums],
) -> Iterator[tuple[Key, cells.Cell | cells.Stored]]:
    """Yield sums by what is asked for."""
    named: dict[str, str] = {}
    if subject is CALLS and "model" in by:
        named = report_names.answered(connection, period.of(subject.table.c.ts), filtered=False)
    places = {name: place for place, name in enumerate(KINDS[kind])}
    for start, key, cell in read:
        values = {name: key[place] for name, place in places.items()}
        if subject is CALLS:
            values["model"] = figures.model_of(values, named)
        at = datetime.fromtimestamp(start, UTC)
        values |= {"day": at.date().isoformat(), "hour": f"{at:%Y-%m-%d %H}:00"}
        yield tuple(values[name] for name in by), cell
