"""Spans that say nothing wait in a table of their own until another span of their trace says something.

Most spans of most services have no part in any row: no span of their trace speaks of models, requests or stages. They
need few columns, one key and no derivation, so that they cost next to nothing. With the first span that says something
all of its trace joins the derivation (derive.py), and so does what comes later. So a trace is either here or in
`span_node`, whatever the order in which its spans came, and each span moves once at most.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final

import orjson
import sqlalchemy as sa

from otel_telemetry.exporters.request_log import bulk
from otel_telemetry.exporters.request_log.node import Node, Quiet
from otel_telemetry.exporters.request_log.schema import span_node
from otel_telemetry.exporters.request_log.schema import span_waiting as table


class _Queries:
    """The queries, over the trace ids of the parameter `traces`, a JSON array."""

    def __init__(self, trace_id: sa.ColumnElement[str]) -> None:
        given = sa.select(trace_id.label("trace_id")).subquery("given")
        is_there = sa.select(span_node.c.trace_id).where(span_node.c.trace_id == given.c.trace_id).exists()
        self.active = sa.select(given.c.trace_id).where(is_there)
        self.waiting = sa.select(table).select_from(given.join(table, table.c.trace_id == given.c.trace_id))
        self.forget = sa.delete(table).where(table.c.trace_id.in_(sa.select(given.c.trace_id)))


_TRACES: Final = sa.bindparam("traces", type_=sa.Text)
_QUERIES: Final = {
    "sqlite": _Queries(sa.func.json_each(_TRACES).table_valued("value").c.value),
    "postgresql": _Queries(sa.func.json_array_elements_text(sa.cast(_TRACES, sa.JSON)).column_valued("item")),
}


class Waiting:
    """The spans that wait. Valid for one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._queries = _QUERIES[connection.dialect.name]
        self.added = 0

    def join(self, nodes: Sequence[Node], quiet: Sequence[Quiet]) -> list[Node]:
        """Return the nodes that a batch is about: its own, and quiet spans, stored or new, of traces that are active.

        The other quiet spans are stored, unless they are already; `added` says how many were not.
        """
        active = {node.trace_id for node in nodes}
        released = self._release(active)
        active |= self._active({span.trace_id for span in quiet} - active)
        staying = [span for span in quiet if span.trace_id not in active]
        if staying:
            self.added = bulk.bulk(self._connection).insert_missing(table, staying)
        return [*released, *nodes, *(span.node() for span in quiet if span.trace_id in active)]

    def _active(self, traces: Collection[str]) -> set[str]:
        return {trace_id for (trace_id,) in self._ask(self._queries.active, traces)}

    def _release(self, traces: Collection[str]) -> list[Node]:
        """Take the spans of these traces out of the table."""
        found = [Quiet(*row).node() for row in self._ask(self._queries.waiting, traces)]
        if found:
            self._ask(self._queries.forget, {node.trace_id for node in found})
        return found

    def _ask(self, query: sa.Executable, traces: Collection[str]) -> Any:
        return self._connection.execute(query, {"traces": orjson.dumps(list(traces)).decode()}) if traces else ()
