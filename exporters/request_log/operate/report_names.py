"""Group keys that no column contains directly: the endpoint, and the model of a failed call.

A call that failed before its provider answered has only the requested model name (`gpt-4o`); successful calls have the
name in the answer (`gpt-4o-2024-08-06`). A failed call is counted under the model that last answered under its
requested name, among the newest calls of the period, so that failures and successes of a model are counted together.
"""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.derive import requests

Column = sa.ColumnElement[Any]

_log: Final = schema.request_log.c
_call: Final = schema.llm_call.c
#: As many of the newest calls are looked at for who answers under which name: without an index, a bounded time.
NEWEST: Final = 20_000


def endpoint(dialect: str) -> Column:
    """Return where a request came in: the route of its framework, its task, or its RPC method."""
    if dialect == "sqlite":
        meta = sa.type_coerce(_log.meta, sa.Text)
        named = [sa.func.json_extract(meta, f"$.{name}") for name in requests.ENDPOINTS]
    elif dialect == "clickhouse":
        meta = sa.type_coerce(_log.meta, sa.Text)
        named = [sa.func.JSONExtract(meta, name, "Nullable(String)") for name in requests.ENDPOINTS]
    else:
        named = [sa.type_coerce(_log.meta, postgresql.JSONB)[name].astext for name in requests.ENDPOINTS]
    return sa.func.coalesce(*named)


def model(connection: sa.Connection, in_period: Column, *, filtered: bool = False) -> Column:
    """Return the model of calls, with those that failed unanswered under the name of those that did not."""
    found = answered(connection, in_period, filtered=filtered)
    if not found:
        return _call.model
    unanswered = sa.and_(sa.not_(_call.ok), _call.model == _call.model_requested)
    return sa.case((unanswered, sa.case(found, value=_call.model, else_=_call.model)), else_=_call.model)


def answered(connection: sa.Connection, in_period: Column, *, filtered: bool) -> dict[str, str]:
    """Return by which model a name was answered last, for names that failed and are no answer's own."""
    columns = (_call.ts, _call.ok, _call.model, _call.model_requested)
    calls: Any = schema.llm_call
    if filtered:  # all of these first: else PostgreSQL looks through all calls from the newest on
        calls, in_period = sa.select(*columns).where(in_period).cte(), sa.true()
        for dialect in ("sqlite", "postgresql"):
            calls = calls.prefix_with("MATERIALIZED", dialect=dialect)
    newest = (
        sa.select(*(calls.c[column.name] for column in columns))
        .where(in_period)
        .order_by(calls.c.ts.desc())
        .limit(NEWEST)
        .subquery()
    )
    failed = sa.select(newest.c.model).where(sa.not_(newest.c.ok), newest.c.model == newest.c.model_requested)
    names = connection.execute(failed.distinct()).scalars().all()
    if not names:
        return {}
    found = (
        sa.select(newest.c.model_requested, newest.c.model, sa.func.max(newest.c.ts))
        .where(newest.c.ok, newest.c.model_requested.in_(names), newest.c.model.is_not(None))
        .group_by(newest.c.model_requested, newest.c.model)
    )
    last: dict[str, tuple[Any, str]] = {}
    for requested, answered, ts in connection.execute(found):
        last[requested] = max(last.get(requested, (ts, answered)), (ts, answered))
    return {requested: answered for requested, (_, answered) in last.items() if answered != requested}
