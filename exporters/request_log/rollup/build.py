"""Computes rollups from rows, beside the writers: one day at a time, for today a quarter of an hour at a time.

No writer has to wait. First a period is claimed; then its rows are read in their own snapshot; then the sums are
written if the claim is still there. A transaction that changes rows of that period removes the claim (db/rollups.py),
and all writers write one after the other. So a written sum is right, or it is not written.
"""

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, Self

import sqlalchemy as sa

from otel_telemetry.base import metrics
from otel_telemetry.exporters.request_log.db import bulk, database, rollups, schema
from otel_telemetry.exporters.request_log.db.rollups import DAY, QUARTER, rollup, rollup_done
from otel_telemetry.exporters.request_log.rollup import cells, rows
from otel_telemetry.exporters.request_log.rollup.cells import ADDED, Cells, Tally

_DAY_SECONDS: Final = DAY * 60
_QUARTER_SECONDS: Final = QUARTER * 60
#: Rows come that long after their time, as a rule: a quarter is summed up once it is over for so long.
_LATE_SECONDS: Final = 60
_TABLES: Final = (schema.request_log, schema.llm_call)

_log = logging.getLogger("otel_telemetry.request_log")


class Builder:
    """Makes what is missing in one database."""

    def __init__(self, url: str, now: Callable[[], float] = time.time) -> None:
        self._reader = database.reader(url)  # first: a database that is not there is not made
        self._writer = database.connect(url)
        self._now = now

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.dispose()
        self._writer.dispose()

    def steps(self) -> Iterator[datetime]:
        """Make what is missing, the newest first; yields the beginning of each span that was looked at."""
        today = int(self._now() // _DAY_SECONDS) * _DAY_SECONDS
        for start in self._missing_quarters(today):
            self._try(start, QUARTER)
            yield datetime.fromtimestamp(start, UTC)
        done = self._done(DAY, 0)
        day = self._day_before(today)
        while day is not None:
            if day not in done:
                self._try(day, DAY)
            yield datetime.fromtimestamp(day, UTC)
            day = self._day_before(day)

    def days(self) -> int:
        """Return how many days there are between the first row and now."""
        first = min(self._first(), default=None)
        return 0 if first is None else int((self._now() - first.timestamp()) // _DAY_SECONDS) + 2

    def _first(self, since: datetime | None = None) -> list[datetime]:
        """Return when the first row of each table is, from a time on, as far as there is one."""
        queries = [sa.select(sa.func.min(table.c.ts)) for table in _TABLES]
        if since is not None:
            queries = [query.where(table.c.ts >= since) for query, table in zip(queries, _TABLES, strict=True)]
        with self._reader.connect() as connection:
            found = [connection.execute(query).scalar() for query in queries]
        return [ts for ts in found if ts is not None]

    def _done(self, minutes: int, since: int) -> set[int]:
        own = rollup_done.c
        query = sa.select(own.start).where(own.minutes == minutes, own.start >= since, own.token == "")
        with self._reader.connect() as connection:
            return set(connection.execute(query).scalars())

    def _missing_quarters(self, today: int) -> Iterator[int]:
        """Yield today's quarters that are over and not summed up, from the first with rows on, the newest first."""
        until = int((self._now() - _LATE_SECONDS) // _QUARTER_SECONDS) * _QUARTER_SECONDS
        first = min(self._first(datetime.fromtimestamp(today, UTC)), default=None)
        if first is None or first.timestamp() >= until:
            return
        done = self._done(QUARTER, today)
        missing = [start for start in range(rollups.start_of(first), until, _QUARTER_SECONDS) if start not in done]
        yield from reversed(missing)

    def _day_before(self, start: int) -> int | None:
        """Return the newest day with rows that ends by then."""
        bound = datetime.fromtimestamp(start, UTC)
        with self._reader.connect() as connection:
            found = [
                connection.execute(sa.select(sa.func.max(table.c.ts)).where(table.c.ts < bound)).scalar()
                for table in _TABLES
            ]
        known = [rollups.start_of(ts, DAY) for ts in found if ts is not None]
        return max(known) if known else None

    def _try(self, start: int, minutes: int) -> None:
        """Sum one span up. Where its sums cannot be written, because they are too large, pages read its rows."""
        try:
            self._build(start, minutes)
        except Exception as error:
            if database.unavailable(error):
                raise
            metrics.instrumentation_errors.add(1, {"component": "request_log"})
            _log.warning("no rollups of %s: %s", datetime.fromtimestamp(start, UTC), error)

    def _build(self, start: int, minutes: int) -> bool:
        """Sum one span up; False where its rows changed meanwhile."""
        token = secrets.token_hex(8)
        with self._writer.begin() as connection:
            _mark(connection, minutes, [start], token)
        with self._reader.connect() as connection:
            rows = list(summed(connection, start, minutes))
        with self._writer.begin() as connection:
            own = rollup_done.c
            query = sa.select(own.token).where(own.minutes == minutes, own.start == start)
            if connection.execute(query).scalar() != token:
                return False
            quarters = range(start, start + minutes * 60, _QUARTER_SECONDS)
            connection.execute(
                sa.delete(rollup).where(
                    rollup.c.kind.in_(rollups.KINDS),
                    sa.or_(
                        sa.and_(rollup.c.minutes == minutes, rollup.c.start == start),
                        sa.and_(rollup.c.minutes == QUARTER, rollup.c.start.in_(quarters)),
                    ),
                )
            )
            bulk.bulk(connection).insert(rollup, rows)
            _mark(connection, QUARTER, quarters, "")
            _mark(connection, minutes, [start], "")
        return True


def _mark(connection: sa.Connection, minutes: int, starts: Any, token: str) -> None:
    own = rollup_done.c
    connection.execute(sa.delete(rollup_done).where(own.minutes == minutes, own.start.in_(starts)))
    connection.execute(
        sa.insert(rollup_done), [{"minutes": minutes, "start": start, "token": token} for start in starts]
    )


def summed(connection: sa.Connection, start: int, minutes: int) -> Iterator[list[Any]]:
    """Yield what the rows of a span come to: of a day, also its quarters."""
    span = [(float(start), float(start + minutes * 60))]
    tallies = {kind: rows.tally(connection, span, kind) for kind in ("request", "other", "call")}
    for kind, found in tallies.items():
        for quarter, of_quarter in found.cells.items():
            yield from _with_added(kind, quarter, QUARTER, of_quarter)
        if minutes == DAY:
            yield from _with_added(kind, start, DAY, _together(found))
    if minutes == DAY:
        yield from cells.stored("user", start, DAY, tallies["request"].users)


def _together(found: Tally) -> Cells:
    return cells.merged(pair for each in found.cells.values() for pair in each.items())


def _with_added(kind: str, start: int, minutes: int, found: Cells) -> Iterator[list[Any]]:
    yield from cells.stored(kind, start, minutes, found)
    for name, own in ADDED.items():
        if own == kind:
            yield from cells.stored(name, start, minutes, cells.added(name, found.items()))


def wrong(connection: sa.Connection) -> Iterator[tuple[int, int]]:
    """Yield each period that is marked as summed up, and whose rows have different sums."""
    own = rollup_done.c
    done: dict[int, list[tuple[int, int]]] = {}
    for minutes, start in connection.execute(sa.select(own.minutes, own.start).where(own.token == "").order_by(*own)):
        done.setdefault(start - start % _DAY_SECONDS, []).append((start, minutes))
    for day, spans in done.items():
        within = rollup.c.start >= day, rollup.c.start < day + _DAY_SECONDS
        stored = _by_span(list(row) for row in connection.execute(sa.select(rollup).where(*within)))
        made = _by_span(summed(connection, day, DAY))
        yield from (span for span in spans if stored.get(span) != made.get(span))


def _by_span(rows: Iterable[list[Any]]) -> dict[tuple[int, int], list[str]]:
    found: dict[tuple[int, int], list[str]] = {}
    for row in rows:
        found.setdefault((row[0], row[1]), []).append(repr(row))
    return {span: sorted(rows_of) for span, rows_of in found.items()}
