"""Pages of requests and their count, found by rollups: only spans of time are read in which there are such requests.

A page begins behind the last row of the one before, by value and id: it costs the same however far back it lies, and
rows that arrive meanwhile neither hide nor repeat any.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.db.rollups import DAY, QUARTER, rollup
from otel_telemetry.exporters.request_log.operate import browse, figures
from otel_telemetry.exporters.request_log.operate.browse import COUNTED, Filters, Order, PageMark
from otel_telemetry.exporters.request_log.operate.report_groups import Period, Row
from otel_telemetry.exporters.request_log.rollup import reading
from otel_telemetry.exporters.request_log.rollup.rows import Span, joined, within

#: The largest values are looked for in so many quarters of an hour first; where these are too few, in all rows.
_QUARTERS: Final = (60, 240)
_AFTER: Final = timedelta(microseconds=1)
#: How long texts are looked through for one page, and how much at once.
_SEARCH_SECONDS: Final = 0.5
_STEP: Final = timedelta(hours=6)


def page(
    connection: sa.Connection, filters: Filters, period: Period, *, order: Order, after: PageMark | None, size: int
) -> list[Row]:
    """Return a page of requests, largest or newest first; where the order's value is not known, a row has no place."""
    if not _is_summed(connection, filters, period) or bool(filters) != (order == "time"):
        return browse.page(connection, filters, period, order=order, after=after, size=size)
    if order == "time":
        return _newest(connection, filters, period, after, size)
    return _largest(connection, period, order, after, size)


def search(
    connection: sa.Connection, filters: Filters, period: Period, *, after: PageMark | None, size: int
) -> tuple[list[Row], datetime | None]:
    """Return a page of requests whose texts contain something, newest first, and where it ends if the time is over.

    Then what is older has not been looked at yet. Texts are read one after another, some hours at a time.
    """
    if after is not None and isinstance(after.value, datetime) and period.until is not None:
        period = Period(period.since, min(period.until, after.value + _AFTER))
    if period.since is None or period.until is None:
        return browse.page(connection, filters, period, order="time", after=after, size=size), None
    rows: list[Row] = []
    until, end = period.until, time.monotonic() + _SEARCH_SECONDS
    while until > period.since and len(rows) < size:
        part = Period(max(period.since, until - _STEP), until)
        rows += browse.page(connection, filters, part, order="time", after=after, size=size - len(rows))
        until = max(period.since, until - _STEP)
        if len(rows) < size and until > period.since and time.monotonic() > end:
            return rows, until
    return rows, None


def count(connection: sa.Connection, filters: Filters, period: Period) -> int:
    """Return how many requests there are, no more than COUNTED + 1."""
    if not _is_summed(connection, filters, period):
        return browse.count(connection, filters, period)
    found = 0
    places = _places(connection, filters, period)
    for _, number in places:
        found += number or 0
    for span, number in places:
        if number is None and found <= COUNTED:
            found += browse.count(connection, filters, _period(span))
    return min(found, COUNTED + 1)


def _is_summed(connection: sa.Connection, filters: Filters, period: Period) -> bool:
    """Return whether rollups tell where such requests are."""
    bounded = period.since is not None and period.until is not None
    return bounded and figures.knows(filters) and reading.are_kept(connection)


def _period(span: Span) -> Period:
    since, until = (datetime.fromtimestamp(each, UTC) for each in span)
    return Period(since, until)


def _places(connection: sa.Connection, filters: Filters, period: Period) -> list[tuple[Span, int | None]]:
    """Return spans of time that have such requests, with how many; None where that is not summed up."""
    assert period.since is not None  # noqa: S101 - `_is_summed` has seen to it
    assert period.until is not None  # noqa: S101
    plan = reading.plan(connection, period.since, period.until)
    found: list[tuple[Span, int | None]] = [(span, None) for span in plan.rows]
    for minutes, spans in ((DAY, plan.days), (QUARTER, plan.quarters)):
        for start, number in _numbers(connection, filters, minutes, spans):
            found.append(((start, start + minutes * 60.0), number))
    return found


def _numbers(
    connection: sa.Connection, filters: Filters, minutes: int, spans: Sequence[Span]
) -> Iterator[tuple[int, int]]:
    if not spans:
        return
    kinds = ["all"] if not filters else ["request"] if filters.model is None else ["request", "other"]
    own = rollup.c
    bounds = sa.or_(*(sa.and_(own.start >= int(a), own.start < int(b)) for a, b in spans))
    query = sa.select(own.start, sa.func.sum(own.rows)).where(own.minutes == minutes, own.kind.in_(kinds), bounds)
    if filters:
        query = query.where(figures.condition(filters))
    for start, number in connection.execute(query.group_by(own.start)):
        yield start, int(number)


def _newest(
    connection: sa.Connection, filters: Filters, period: Period, after: PageMark | None, size: int
) -> list[Row]:
    """Return a page by time: a day at a time, the newest first, as long as it takes."""
    if after is not None and isinstance(after.value, datetime) and period.until is not None:
        period = Period(period.since, min(period.until, after.value + _AFTER))
    if period.since is None or period.until is None or period.since >= period.until:
        return []
    places = [span for span, _ in _places(connection, filters, period)]
    days = [span for span in places if span[1] - span[0] == DAY * 60]
    rows: list[Row] = []
    for span in sorted([*days, *joined(set(places) - set(days))], reverse=True):
        rows += browse.page(connection, filters, _period(span), order="time", after=after, size=size - len(rows))
        if len(rows) == size:
            break
    return rows


def _largest(connection: sa.Connection, period: Period, order: Order, after: PageMark | None, size: int) -> list[Row]:
    """Return a page by size, out of the quarters of an hour that have the largest rows, if these are enough."""
    assert period.since is not None  # noqa: S101 - `_is_summed` has seen to it
    assert period.until is not None  # noqa: S101
    plan = reading.plan(connection, period.since, period.until, days=False)
    own, most = rollup.c, _MOST[order]
    bounds = sa.or_(sa.false(), *(sa.and_(own.start >= int(a), own.start < int(b)) for a, b in plan.quarters))
    query = sa.select(most, own.start).where(own.minutes == QUARTER, own.kind == "all", bounds, most.is_not(None))
    quarters = sorted(((value, start) for value, start in connection.execute(query)), reverse=True)
    for number in _QUARTERS:
        if number >= len(quarters):
            break
        least = quarters[number][0]  # rows that are larger are in the quarters before, and nowhere else
        spans = [*plan.rows, *((start, start + QUARTER * 60.0) for value, start in quarters if value >= least)]
        larger = sa.and_(browse.ORDERED[order] >= least, sa.or_(*(within(_log.ts, span) for span in joined(spans))))
        rows = browse.page(connection, Filters(), Period(also=larger), order=order, after=after, size=size)
        if len(rows) == size:
            return rows
    return browse.page(connection, Filters(), period, order=order, after=after, size=size)


_log: Final = schema.request_log.c
_MOST: Final = {"latency": rollup.c.most_ms, "cost": rollup.c.most_usd}


__all__ = ["count", "page"]
