"""Sessions in order of their newest request, and what was asked in one, first to last."""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.operate import browse
from otel_telemetry.exporters.request_log.operate.browse import Filters, PageMark
from otel_telemetry.exporters.request_log.operate.narrowed import narrowed
from otel_telemetry.exporters.request_log.operate.report_groups import Column, Period, Row

_log: Final = schema.request_log.c
_READ: Final = 500
_MOST_READS: Final = 8
#: Requests of one session that are shown.
MOST: Final = 200
#: Characters of a text in a conversation.
CUT: Final = 2_000
_SHOWN: Final = (
    *("id", "ts", "route", "model", "ok", "error", "degraded", "cache_hit", "user_id", "llm_calls", "cost_source"),
    *("prompt_tokens", "cached_tokens", "completion_tokens", "cost_usd", "latency_ms", "ttfb_ms"),
)


def sessions(
    connection: sa.Connection, filters: Filters, period: Period, *, after: PageMark | None, size: int
) -> tuple[list[Row], PageMark | None]:
    """Return sessions by their newest request in the period, newest first, and where the next page begins."""
    found: list[Row] = []
    for _ in range(_MOST_READS):
        newest = _newest(connection, filters, period, after)
        wanted = {row.session_id: row for row in reversed(newest)}
        sums = _sums(connection, filters, period, list(wanted))
        for row in newest:
            after = PageMark(row.ts, row.id)
            if wanted[row.session_id] is row and sums[row.session_id]["last"] == row.ts:
                found.append(sums[row.session_id])
                if len(found) == size:
                    return found, after
        if len(newest) < _READ:
            return found, None
    return found, after


def _newest(connection: sa.Connection, filters: Filters, period: Period, after: PageMark | None) -> Sequence[Any]:
    query = sa.select(_log.session_id, _log.ts, _log.id).where(
        browse.of_requests(filters, period).of(_log.ts), _log.session_id.is_not(None)
    )
    if after is not None:
        bound = sa.literal(after.value, _log.ts.type)
        query = query.where(_log.ts <= bound, sa.tuple_(_log.ts, _log.id) < sa.tuple_(bound, sa.literal(after.id)))
    return connection.execute(query.order_by(_log.ts.desc(), _log.id.desc()).limit(_READ)).all()


def _sums(connection: sa.Connection, filters: Filters, period: Period, ids: Sequence[str]) -> dict[str, Row]:
    if not ids:
        return {}
    query = (
        sa.select(
            _log.session_id,
            sa.func.min(_log.ts).label("first"),
            sa.func.max(_log.ts).label("last"),
            sa.func.count().label("requests"),
            sa.func.count(sa.case((_log.ok, 1))).label("ok"),
            sa.func.count(_log.user_id.distinct()).label("users"),
            sa.func.min(_log.user_id).label("user_id"),
            *(sa.func.sum(_log[name]).label(name) for name in ("llm_calls", "prompt_tokens", "completion_tokens")),
            sa.func.sum(_log.cost_usd).label("cost_usd"),
            sa.func.count(sa.case((_log.cost_source == "unpriced", 1))).label("unpriced"),
        )
        .where(_log.session_id.in_(ids), browse.of_requests(filters, period).of(_log.ts))
        .group_by(_log.session_id)
    )
    return {row["session_id"]: dict(row) for row in connection.execute(query).mappings()}


def conversation(connection: sa.Connection, session: str, *, texts: bool) -> list[Row]:
    """Return the requests of a session in order, no more than MOST + 1; texts cut, where they may be seen."""
    columns: list[Column] = [_log[name] for name in _SHOWN]
    if texts:
        columns += [sa.func.substr(_log[name], 1, CUT).label(name) for name in ("query_text", "answer_text")]
    query = sa.select(*columns).where(_log.session_id == session).order_by(_log.ts, _log.id).limit(MOST + 1)
    return [dict(row) for row in connection.execute(narrowed(connection, schema.request_log, query)).mappings()]
