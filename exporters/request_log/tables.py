"""`request_log` and `llm_call` brought in line with what was derived."""

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any, Final

import sqlalchemy as sa

from otel_telemetry import records
from otel_telemetry.exporters.request_log import bulk, calls, counted, derive, postgres, requests, schema
from otel_telemetry.exporters.request_log.graph import Graph
from otel_telemetry.exporters.request_log.node import Node
from otel_telemetry.exporters.request_log.rollup import Rollup

_call_values: Final = attrgetter(*schema.llm_call.c.keys())
_COMPLETED: Final = (*calls.COMPLETED, "meta")
_completed_values: Final = attrgetter(*_COMPLETED)
_request_values: Final = attrgetter(*schema.request_log.c.keys())
_ROW: Final = ("id", "ts")  # the key of both tables on PostgreSQL, where time says in which partition a row is
_REQUEST_ID: Final = tuple(schema.llm_call.c.keys()).index("request_id")


class Tables:
    """Brings request_log and llm_call in line with what was derived."""

    def __init__(self, connection: sa.Connection, graph: Graph) -> None:
        self._connection = connection
        self._bulk = bulk.bulk(connection)
        self._graph = graph
        #: What is counted of this once it is committed.
        self.ledger = counted.Ledger()

    def follow(self, changes: derive.Changes) -> tuple[int, int]:
        """Write, move and delete rows; return how many requests and how many calls were written."""
        return self._requests(list(changes.requests.values())), self._calls(changes)

    def _requests(self, nodes: list[Node]) -> int:
        renamed = self._name(nodes)
        changed = list({node.key: node for node in (*nodes, *renamed)}.values())
        shown = [node for node in changed if node.is_request]
        gone = [node for node in changed if node.stored_as is not None and not node.is_request]
        self._graph.load_facts([*shown, *gone])
        old = [(node.stored_as, node.ts) for node in changed if node.stored_as is not None]
        self._bulk.delete(schema.request_log, _ROW, old)
        self._rename(changed)
        rows = [_request(node) for node in shown]
        self._bulk.insert(schema.request_log, map(_request_values, rows))
        self.ledger.write_requests(shown, rows)
        self.ledger.withdraw_requests(gone, map(_request, gone))
        postgres.announce(self._connection, (row.id for row in rows))
        return len(shown)

    def _name(self, nodes: list[Node]) -> list[Node]:
        """Find the id of each request; return requests beyond `nodes` that lose or gain an id with that.

        An id that the app gave to several requests goes to the first of them in order of trace and span id.
        """
        self._names = {node.key: node.own_id for node in nodes}
        others: dict[Any, Node] = {}
        claims = {node.claimed_id for node in nodes if node.claimed_id is not None}
        if claims:
            self._graph.flush()  # so that all who claim them are found
        first, holders = self._graph.first_claimants(claims), self._graph.holders(claims)
        self._graph.load((*first.values(), *holders.values()))
        for key in (*first.values(), *holders.values()):
            if key not in self._names:
                others[key] = self._graph.nodes[key]
                self._names[key] = others[key].own_id
        self._names.update((key, claim) for claim, key in first.items())
        return list(others.values())

    def _rename(self, nodes: list[Node]) -> None:
        moves: list[tuple[Any, ...]] = []
        for node in nodes:
            name = self._names[node.key] if node.is_request else None
            if node.stored_as not in (None, name) and name is not None:
                # Who loses an id that the app gave goes before who gains it: else both would be moved.
                moves.insert(0 if name == node.own_id else len(moves), (node.stored_as, node.trace_id, name))
            if node.log_id != name:
                node.log_id = name
                node.dirty = True
        self._bulk.update(schema.llm_call, ("request_id", "trace_id"), ("request_id",), moves)

    def _calls(self, changes: derive.Changes) -> int:
        new = [node for node in changes.new if node.row is not None and node.is_counted]
        stored = [node for node in changes.calls.values() if node.row is None]
        moved = [node for node in stored if node.is_counted]
        wrapping = [node for node in stored if not node.is_counted]
        pairs = [(node, log) for node, log in changes.completed if node.is_counted]
        told_of = [*wrapping, *(each for pair in pairs for each in pair if each.row is None)]
        rows = self._graph.load_calls(told_of)
        self._complete(pairs, rows)
        owners = {(n.trace_id, n.request_span_id) for n in (*new, *moved) if n.request_span_id}
        self._graph.load(owners)
        self._bulk.insert(schema.llm_call, map(self._call_row, new))
        moves = [(node.own_id, node.ts, self._request_id(node)) for node in moved]
        self._bulk.update(schema.llm_call, _ROW, ("request_id",), moves)
        self._bulk.delete(schema.llm_call, _ROW, [(node.own_id, node.ts) for node in wrapping])
        for node in new:
            if node.row is not None:
                self.ledger.put_call(node.row)
        for node in wrapping:
            if node.own_id in rows:
                self.ledger.take_call(rows[node.own_id])
        return len(new)

    def _complete(self, pairs: Iterable[tuple[Node, Node]], stored: Mapping[str, records.LlmCall]) -> None:
        """Let log records fill in what spans do not know of their calls, while both rows are there."""
        changed = {}
        for node, log in pairs:
            call, told = node.row or stored.get(node.own_id), log.row or stored.get(log.own_id)
            if call is not None and told is not None:
                if node.row is None:
                    self.ledger.take_call(call)
                calls.complete(call, told)
                if node.row is None:
                    self.ledger.put_call(call)
                    changed[node.own_id] = [call.id, call.ts, *map(bulk.sendable, _completed_values(call))]
        self._bulk.update(schema.llm_call, _ROW, _COMPLETED, list(changed.values()))

    def _request_id(self, node: Node) -> str | None:
        owner = self._graph.nodes.get((node.trace_id, node.request_span_id or ""))
        return owner.log_id if owner is not None else None

    def _call_row(self, node: Node) -> list[Any]:
        values = list(_call_values(node.row))
        values[_REQUEST_ID] = self._request_id(node)
        return values


def _request(node: Node) -> records.Request:
    return requests.render(node.log_id or node.own_id, node.key, node.ts, node.facts or {}, node.rollup or Rollup())
