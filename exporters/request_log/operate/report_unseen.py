"""Lists the hosts of unrecognised requests that look like model calls, from the newest requests."""

import json
from collections import Counter
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from otel_telemetry.exporters.request_log.db import schema

#: Where a request's `meta` has them: a map from host to how many (instrument/llm_http/unseen.py).
KEY: Final = "unseen_model_calls"
_NEWEST: Final = 20_000
_log: Final = schema.request_log.c


def unseen(connection: sa.Connection) -> dict[str, int]:
    """Return the hosts and how many calls each got, the most first, among the newest requests."""
    newest = sa.select(_log.meta).order_by(_log.ts.desc()).limit(_NEWEST).subquery()
    if connection.dialect.name == "sqlite":
        column: Any = sa.func.json_extract(sa.type_coerce(newest.c.meta, sa.Text), f"$.{KEY}")
    else:
        column = sa.type_coerce(newest.c.meta, postgresql.JSONB)[KEY].astext
    found: Counter[str] = Counter()
    for value in connection.execute(sa.select(column).where(column.is_not(None))).scalars():
        found.update(_counts(value))
    return dict(found.most_common())


def _counts(value: Any) -> dict[str, int]:
    try:
        known = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return {}
    counts = known.items() if isinstance(known, dict) else ()
    return {str(host): count for host, count in counts if type(count) is int and count > 0}
