"""One request out of all: by its id, the beginning of its id, its trace, or one of its model calls."""

from typing import Any, Final

import sqlalchemy as sa

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.operate.narrowed import narrowed

_log: Final = schema.request_log.c
_call: Final = schema.llm_call.c
#: As many are found by what several share.
MOST: Final = 20
_SHORTEST: Final = 6  # characters of the beginning of an id


def find(connection: sa.Connection, wanted: str) -> list[records.Request]:
    """Return the requests that a text names, oldest first; the first way that finds any decides."""
    of_call = sa.select(_call.request_id).where(_call.id == wanted)
    begins = _log.id.startswith(wanted, autoescape=True, escape="\\")
    ways = [_log.id == wanted, _log.trace_id == wanted, _log.id.in_(of_call)]
    ways += [begins] if len(wanted) >= _SHORTEST else []
    for condition in ways:
        query = sa.select(schema.request_log).where(condition).order_by(_log.ts, _log.id).limit(MOST)
        found: list[Any] = list(connection.execute(narrowed(connection, schema.request_log, query)).mappings())
        if found:
            return [records.Request(**row) for row in found]
    return []


def calls_of(connection: sa.Connection, request_id: str) -> list[records.LlmCall]:
    """Return the model calls of a request, in order of time."""
    query = sa.select(schema.llm_call).where(_call.request_id == request_id).order_by(_call.ts, _call.id)
    found = connection.execute(narrowed(connection, schema.llm_call, query)).mappings()
    return [records.LlmCall(**row) for row in found]
