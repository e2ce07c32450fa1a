"""Rows of `request_log` and `llm_call` as they are summed up: by columns, not as records, over spans of time."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from otel_telemetry.exporters.request_log.db import rollups, schema
from otel_telemetry.exporters.request_log.rollup.cells import Tally

Column = sa.ColumnElement[Any]
#: From when on, and until when, in seconds since the epoch.
Span = tuple[float, float]

_log: Final = schema.request_log.c
_call: Final = schema.llm_call.c
_TO_MINUTES: Final = len("2026-11-29 10:11")
_PAGE: Final = 1_000
_SECONDS: Final = rollups.QUARTER * 60


def in_meta(dialect: str, key: str) -> Column:
    """Return a number in a request's `meta`; what is no number there is NULL."""
    if dialect == "sqlite":
        meta = sa.type_coerce(_log.meta, sa.Text)
        number = sa.func.json_type(meta, f"$.{key}").in_(("integer", "real"))
        return sa.case((number, sa.func.json_extract(meta, f"$.{key}", type_=sa.Double)))
    value = sa.type_coerce(_log.meta, postgresql.JSONB)[key]
    return sa.case((sa.func.jsonb_typeof(value) == "number", sa.cast(value.astext, sa.Numeric)))


def tally(connection: sa.Connection, spans: Sequence[Span], *, calls: bool, also: Column | None = None) -> Tally:
    """Return the rows of spans of time, of requests or of calls, that `also` lets through, summed up by quarters."""
    found = Tally()
    if not spans:
        return found
    dialect = connection.dialect.name
    query = _calls(dialect) if calls else _requests(dialect)
    ts = _call.ts if calls else _log.ts
    query = query.where(within(ts, spans), *(() if also is None else (also,)))
    count = found.call if calls else found.request
    starts: dict[str, int] = {}
    for row in _read(connection, query):
        at, *values = row
        if isinstance(at, str):
            minute = at[:_TO_MINUTES]
            start = starts.get(minute)
            if start is None:
                moment = datetime.fromisoformat(minute).replace(tzinfo=UTC)
                start = starts[minute] = rollups.start_of(moment)
        else:
            start = int(at.timestamp() // _SECONDS) * _SECONDS
        count(start, tuple(values))
    return found


def within(ts: Column, spans: Iterable[Span]) -> Column:
    """Return the condition of lying in one of these spans."""
    bounds = ((datetime.fromtimestamp(since, UTC), datetime.fromtimestamp(until, UTC)) for since, until in spans)
    return sa.or_(*(sa.and_(ts >= since, ts < until) for since, until in bounds))


def _read(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[Sequence[Any]]:
    result = connection.execution_options(yield_per=_PAGE).execute(query)
    yield from result


def _requests(dialect: str) -> sa.Select[Any]:
    hit = [sa.case((_log.cache_hit, in_meta(dialect, f"cache_saved_{unit}"))) for unit in ("usd", "ms")]
    return sa.select(
        _plain(dialect, _log.ts),
        *(_log[name] for name in ("service", "environment", "route", "model", "degraded", "ok", "cache_hit")),
        *(_log[name] for name in ("user_id", "llm_calls", "prompt_tokens", "cached_tokens", "completion_tokens")),
        _plain(dialect, _log.cost_usd),
        _log.cost_source == "unpriced",
        *(_log.latency_ms, _log.ttfb_ms, *hit),
    )


def _calls(dialect: str) -> sa.Select[Any]:
    return sa.select(
        _plain(dialect, _call.ts),
        *(_call[name] for name in ("application", "environment", "provider", "model", "model_requested", "ok")),
        *(_call[name] for name in ("prompt_tokens", "cached_tokens", "completion_tokens")),
        _plain(dialect, _call.cost_usd),
        _call.cost_source == "unpriced",
        *(_call.total_latency_ms, _call.ttfb_ms),
    )


def _plain(dialect: str, column: Column) -> Column:
    """Return a column as its driver gives it."""
    if dialect != "sqlite":
        return column
    return sa.type_coerce(column, sa.Text if isinstance(column.type, schema.UtcTime) else sa.Double)
