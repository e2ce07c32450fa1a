"""Rows of `request_log` and `llm_call` as they are summed up: by columns, not as records, over spans of time."""

import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from otel_telemetry.exporters.request_log.db import column_types, rollups, schema
from otel_telemetry.exporters.request_log.rollup.cells import Tally

Column = sa.ColumnElement[Any]
#: From when on, and until when, in seconds since the epoch.
Span = tuple[float, float]

_log: Final = schema.request_log.c
_call: Final = schema.llm_call.c
_TO_MINUTES: Final = len("2026-11-29 10:11")
_PAGE: Final = 1_000
_SECONDS: Final = rollups.QUARTER * 60
_DECIMALS: Final[Column] = sa.literal_column("30")
#: A request begins no longer than this before its calls.
LONGEST: Final = timedelta(hours=1)


def in_meta(dialect: str, key: str) -> Column:
    """Return a number in a request's `meta`; what is no number there is NULL."""
    if dialect == "sqlite":
        meta = sa.type_coerce(_log.meta, sa.Text)
        number = sa.func.json_type(meta, f"$.{key}").in_(("integer", "real"))
        return sa.case((number, sa.func.json_extract(meta, f"$.{key}", type_=sa.Double)))
    if dialect == "clickhouse":
        meta = sa.type_coerce(_log.meta, sa.Text)
        is_number = sa.func.JSONType(meta, key).in_(("Int64", "UInt64", "Double"))
        exact = sa.func.toDecimal256OrNull(sa.func.JSONExtractRaw(meta, key), _DECIMALS)
        return sa.case((is_number, exact))
    value = sa.type_coerce(_log.meta, postgresql.JSONB)[key]
    return sa.case((sa.func.jsonb_typeof(value) == "number", sa.cast(value.astext, sa.Numeric)))


class TooMany(Exception):
    """More rows than somebody wants to wait for."""


def tally(
    connection: sa.Connection,
    spans: Iterable[Span],
    kind: str,
    *,
    also: Column | None = None,
    most: float = math.inf,
) -> Tally:
    """Return the rows of spans of time that `also` lets through, summed up by quarters: `request`, `other` or `call`.

    Raises TooMany where there are more than `most`.
    """
    found, count = Tally(), 0
    for span in joined(spans):
        query = _QUERIES[kind](connection.dialect.name, span).where(*(() if also is None else (also,)))
        count += _add(found, connection, query, kind, most - count)
    return found


def _add(found: Tally, connection: sa.Connection, query: sa.Select[Any], kind: str, most: float) -> int:
    """Add the rows of a query, and return how many there were."""
    add, number = found.call if kind == "call" else found.request, 0
    starts: dict[str, int] = {}
    with connection.execute(query, execution_options={"yield_per": _PAGE}) as result:
        for row in result:
            number += 1
            if number > most:
                raise TooMany
            at, *values = row
            if isinstance(at, str):
                minute = at[:_TO_MINUTES]
                start = starts.get(minute)
                if start is None:
                    moment = datetime.fromisoformat(minute).replace(tzinfo=UTC)
                    start = starts[minute] = rollups.start_of(moment)
            else:
                start = int(at.timestamp() // _SECONDS) * _SECONDS
            add(start, tuple(values))
    return number


def joined(spans: Iterable[Span]) -> list[Span]:
    """Return spans in order, those that touch as one."""
    found: list[Span] = []
    for since, until in sorted(spans):
        if found and found[-1][1] >= since:
            found[-1] = (found[-1][0], max(found[-1][1], until))
        else:
            found.append((since, until))
    return found


def within(ts: Column, span: Span, later: timedelta = timedelta(0)) -> Column:
    """Return the condition of lying in a span, or so much later."""
    since, until = (datetime.fromtimestamp(each, UTC) for each in span)
    return sa.and_(ts >= since, ts < until + later)


def _requests(dialect: str, span: Span) -> sa.Select[Any]:
    return sa.select(*_of_request(dialect, _log.model)).where(within(_log.ts, span))


def _others(dialect: str, span: Span) -> sa.Select[Any]:
    """Return requests under each model that is their calls' and not their own."""
    pairs = (
        sa.select(_call.request_id, _call.model)
        .where(within(_call.ts, span, LONGEST), _call.request_id.is_not(None), _call.model.is_not(None))
        .distinct()
        .subquery("called")
    )
    return (
        sa.select(*_of_request(dialect, pairs.c.model))
        .select_from(pairs.join(schema.request_log, _log.id == pairs.c.request_id))
        .where(within(_log.ts, span), _log.model.is_distinct_from(pairs.c.model))
    )


def _of_request(dialect: str, model: Column) -> list[Column]:
    hit = [sa.case((_log.cache_hit, in_meta(dialect, f"cache_saved_{unit}"))) for unit in ("usd", "ms")]
    return [
        _plain(dialect, _log.ts),
        *(_log[name] for name in ("service", "environment", "region", "route")),
        model,
        *(_log[name] for name in ("degraded", "ok", "cache_hit")),
        *(_log[name] for name in ("user_id", "llm_calls", "prompt_tokens", "cached_tokens", "completion_tokens")),
        _plain(dialect, _log.cost_usd),
        _log.cost_source == "unpriced",
        *(_log.latency_ms, _log.ttfb_ms, *hit),
    ]


def _calls(dialect: str, span: Span) -> sa.Select[Any]:
    return sa.select(
        _plain(dialect, _call.ts),
        *(_call[name] for name in ("application", "environment", "region", "provider", "model", "model_requested")),
        _call.ok,
        *(_call[name] for name in ("prompt_tokens", "cached_tokens", "completion_tokens")),
        _plain(dialect, _call.cost_usd),
        _call.cost_source == "unpriced",
        *(_call.total_latency_ms, _call.ttfb_ms),
    ).where(within(_call.ts, span))


_QUERIES: Final[dict[str, Callable[[str, Span], sa.Select[Any]]]] = {
    "request": _requests,
    "other": _others,
    "call": _calls,
}


def _plain(dialect: str, column: Column) -> Column:
    """Return a column as its driver gives it."""
    if dialect != "sqlite":
        return column
    return sa.type_coerce(column, sa.Text if isinstance(column.type, column_types.UtcTime) else sa.Double)
