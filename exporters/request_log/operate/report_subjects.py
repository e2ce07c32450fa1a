"""Two questions of their own: what the cache saved, and what people thought of the answers."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.operate.report_groups import (
    Column,
    Period,
    Row,
    dimension,
    dollars,
    order,
    shown,
)
from otel_telemetry.exporters.request_log.rollup.rows import in_meta

_log: Final = schema.request_log.c
_feedback: Final = schema.feedback.c

#: By what the cache and feedback can be reported.
CACHE_BY: Final[Mapping[str, Column]] = {"route": _log.route, "service": _log.service}
FEEDBACK_BY: Final = ("day", "hour", "model", "route", "scope")


def cache(connection: sa.Connection, by: Sequence[str], period: Period) -> list[Row]:
    """Return `requests`, `cache_hits`, `hit_rate` (0 to 1) and what hits saved, as recorded on their rows.

    `saved_usd` and `saved_ms` are sums of known values; `unpriced` counts the requests whose saved USD are unknown.
    """
    dialect = connection.dialect.name
    keys = [dimension(dialect, name, _log.ts, CACHE_BY) for name in by]
    counts = sa.func.count().label("requests"), sa.func.count(sa.case((_log.cache_hit, 1))).label("cache_hits")
    saved = [in_meta(dialect, f"cache_saved_{unit}") for unit in ("usd", "ms")]
    sums = [
        sa.func.sum(saved[0]).label("saved_usd"),
        sa.func.sum(saved[1]).label("saved_ms"),
        (sa.func.count() - sa.func.count(saved[0])).label("unpriced"),
    ]
    found: dict[tuple[Any, ...], Row] = {}
    for values, condition in ((counts, sa.true()), (sums, _log.cache_hit)):
        query = sa.select(*keys, *values).where(condition, period.of(_log.ts)).group_by(*keys)
        for row in connection.execute(query).mappings():
            found.setdefault(tuple(row[name] for name in by), {}).update(row)
    rows = [_saved(row, by) for row in found.values()]
    return sorted(rows, key=lambda row: order(row, by, "requests"))


def _saved(row: Row, by: Sequence[str]) -> Row:
    saved_ms = row.get("saved_ms")
    return {
        **{name: shown(name, row[name]) for name in by},
        "requests": row["requests"],
        "cache_hits": row["cache_hits"],
        "hit_rate": row["cache_hits"] / row["requests"],
        "saved_usd": dollars(row.get("saved_usd")),
        "saved_ms": None if saved_ms is None else float(saved_ms),
        "unpriced": row.get("unpriced", 0),
    }


def feedback(connection: sa.Connection, by: Sequence[str], period: Period) -> list[Row]:
    """Return how often each verdict was given; `up_share` is 0 to 1.

    Where feedback does not name a model, it is that of its request.
    """
    request = schema.request_log.alias("request")
    own = {
        "route": sa.func.coalesce(request.c.route, _of_trace("route")),
        "model": sa.func.coalesce(_feedback.model, request.c.model, _of_trace("model")),
        "scope": _feedback.scope,
    }
    keys = [dimension(connection.dialect.name, name, _feedback.ts, own) for name in by]
    joined = schema.feedback.outerjoin(request, request.c.id == _feedback.request_id)
    given = sa.select(*keys, _feedback.verdict).select_from(joined).where(period.of(_feedback.ts)).subquery()
    counts = [sa.func.count(sa.case((given.c.verdict == word, 1))).label(word) for word in ("up", "down")]
    groups = [given.c[name] for name in by]
    query = sa.select(*groups, sa.func.count().label("feedback"), *counts).group_by(*groups)
    rows = [_judged(dict(row), by) for row in connection.execute(query).mappings()]
    return sorted(rows, key=lambda row: order(row, by, "feedback"))


def _of_trace(name: str) -> Column:
    """Return a column of the request that feedback is about, where it names no more than a trace."""
    request = schema.request_log.alias()
    same = request.c.trace_id == _feedback.trace_id, _feedback.request_id.is_(None)
    column = sa.select(request.c[name]).correlate(schema.feedback).where(*same).order_by(request.c.ts).limit(1)
    return column.scalar_subquery()


def _judged(row: Row, by: Sequence[str]) -> Row:
    judged = row["up"] + row["down"]
    return {
        **{name: shown(name, row[name]) for name in by},
        "feedback": row["feedback"],
        "up": row["up"],
        "down": row["down"],
        "up_share": row["up"] / judged if judged else None,
    }
