"""What is known of spans, however many rows of `trace_facts` hold it."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.derive import chunks
from otel_telemetry.exporters.request_log.derive.facts import Fact

FACTS = schema.trace_facts
_SAME = (
    *(
        "trace_id",
        "span_id",
        "parent",
        "service",
        "start_ns",
        "end_ns",
        "local_root",
        "has_request_fields",
        "request_fields",
        "call",
    ),
    *("of_log", "source", "stage", "caller", "matched_before"),
)


def facts(connection: sa.Connection) -> list[Fact]:
    """Return all facts, in order of trace and span."""
    bodies = connection.execute(sa.select(FACTS.c.body)).scalars()
    return sorted(
        (fact for body in bodies for fact in chunks.load(body)), key=lambda each: (each.trace_id, each.span_id)
    )


def known(connection: sa.Connection) -> list[dict[str, Any]]:
    """Return all facts as plain values, in order of trace and span."""
    return [{name: getattr(fact, name) for name in _SAME} for fact in facts(connection)]


def rows_of(engine: sa.Engine, tables: Iterable[sa.Table]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of tables in order of trace and span; of `trace_facts` the facts, of `request_claim` the claims.

    Which claim of an id has which number depends on which came first.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    with engine.connect() as connection:
        for table in tables:
            if table is FACTS:
                found[table.name] = known(connection)
                continue
            rows = connection.execute(sa.select(table).order_by(table.c.trace_id, table.c.span_id)).mappings()
            found[table.name] = [dict(row) for row in rows]
        claims = found.get("request_claim", [])
        found |= {"request_claim": [{**row, "place": None} for row in claims if row["trace_id"]]} if claims else {}
    return found
