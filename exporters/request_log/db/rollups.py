"""The tables of rollups: sums of requests and calls over 15 minutes and over days, in UTC, computed from their rows.

`rollup_done` lists the periods whose rollups are valid. All code that changes rows of `request_log` or `llm_call` calls
`forget` in the same transaction: then the sums of that period are not used until they are computed again
(rollup/build.py). So rollups are exact even if data is late, repeated, repriced, erased or trimmed, and a write costs
only a look-up in a table that has no entry for the present.

Periods begin at whole multiples of their length since the epoch; `start` is in seconds, `minutes` is their length.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import schema

QUARTER: Final = 15
DAY: Final = 1_440
LEVELS: Final = (QUARTER, DAY)
KINDS: Final = ("request", "other", "all", "route", "degraded", "user", "call", "model")
_SECONDS: Final = 60
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: How many spans one statement names.
_CHUNK: Final = 400

#: Sums, all of whole numbers: of what is not known in each row, there is how often it is (`_known`).
SUMS: Final = (
    *("rows", "ok", "degraded_rows", "cache_hits", "llm_calls"),
    *("prompt_tokens", "prompt_known", "cached_tokens", "cached_known", "completion_tokens", "completion_known"),
    *("cost_usd", "cost_pico", "cost_known", "unpriced"),
    *("saved_nano", "saved_known", "saved_us", "saved_us_known"),
)

rollup = sa.Table(
    "rollup",
    schema.metadata,
    sa.Column("start", sa.BigInteger, nullable=False),
    sa.Column("minutes", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    *(
        sa.Column(name, sa.Text)
        for name in ("service", "environment", "route", "model", "provider", "model_requested", "degraded", "user_id")
    ),
    sa.Column("is_ok", sa.Boolean, nullable=False),
    sa.Column("is_hit", sa.Boolean, nullable=False),
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in SUMS),
    sa.Column("latency", sa.Text, nullable=False),
    sa.Column("ttfb", sa.Text, nullable=False),
    sa.Column("region", sa.Text),
    # What no row exceeds: by these, pages find the longest and the dearest requests.
    sa.Column("most_ms", sa.Double),
    sa.Column("most_usd", sa.Double),
    # With who had how many requests: the first of many users are found in it alone.
    sa.Index("ix_rollup_kind", "minutes", "kind", "start", "user_id", "rows"),
)

rollup_done = sa.Table(
    "rollup_done",
    schema.metadata,
    sa.Column("minutes", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
    # Empty once it is true; before, who is at it.
    sa.Column("token", sa.Text, nullable=False),
)


def start_of(ts: datetime, minutes: int = QUARTER) -> int:
    """Return when the span begins that a time lies in, in seconds since the epoch."""
    length = minutes * _SECONDS
    return int(ts.timestamp() // length) * length


def forget(connection: sa.Connection, times: Iterable[datetime]) -> None:
    """Forget what was summed up of the spans that these times lie in."""
    length = QUARTER * _SECONDS
    quarters: set[int] = set()
    since = until = _LONG_AGO  # of the quarter found last: in a row, times nearly always lie in one
    for ts in times:
        if not since <= ts < until:
            quarters.add(start := start_of(ts))
            since, until = datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(start + length, UTC)
    days = {start - start % (DAY * _SECONDS) for start in quarters}
    for minutes, starts in ((QUARTER, quarters), (DAY, days)):
        ordered = sorted(starts)
        for at in range(0, len(ordered), _CHUNK):
            _forget(connection, minutes, ordered[at : at + _CHUNK])


def _forget(connection: sa.Connection, minutes: int, starts: list[int]) -> None:
    own = rollup_done.c
    # Periods are locked in order: of several writers that forget the same ones, each waits for one at most.
    query = sa.select(own.start).where(own.minutes == minutes, own.start.in_(starts))
    known = connection.execute(query.order_by(own.start).with_for_update()).scalars().all()
    if not known:
        return
    named, kinds = ", ".join(map(str, known)), ", ".join(f"'{kind}'" for kind in KINDS)
    for table, more in ((rollup_done, ""), (rollup, f" AND kind IN ({kinds})")):
        connection.exec_driver_sql(f"DELETE FROM {table.name} WHERE minutes = {minutes} AND start IN ({named}){more}")  # noqa: S608 - numbers, and names of ours


def forget_before(connection: sa.Connection, before: datetime) -> None:
    """Forget what was summed up of all spans that begin before a time."""
    for table, more in ((rollup_done, ()), (rollup, (rollup.c.kind.in_(KINDS),))):
        for minutes in LEVELS:
            begun = table.c.start < int(before.timestamp()) + 1
            connection.execute(sa.delete(table).where(table.c.minutes == minutes, begun, *more))
