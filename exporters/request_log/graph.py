"""Reading and writing `span_node` a set at a time: what the derivation knows of a trace while it absorbs a batch.

Every query takes its keys as one parameter, so that it is compiled once and costs one round trip for any batch. The one
thing that differs by database is how such a list becomes rows (`_pairs`).
"""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.node import Group, Key, Node
from otel_telemetry.exporters.request_log.rollup import Rollup
from otel_telemetry.exporters.request_log.schema import request_log
from otel_telemetry.exporters.request_log.schema import span_node as table

_FACTS: Final = ("trace_id", "span_id", "parent_span_id", "service", "ts", "local_root", "carrier", "call")
_LABELS: Final = ("call_below", "carrier_below", "top", "root", "owner", "request_span_id", "direct_calls")
_DERIVED: Final = ("part", *_LABELS, "is_request", "log_id", "rollup")
_LOADED: Final = tuple(table.c[name] for name in (*_FACTS, "claimed_id", *_DERIVED))


def _pairs() -> sa.Subquery:
    """Rows (a, b) from the parameter `pairs`, a JSON array of two-item arrays (SQLite's way)."""
    each = sa.func.json_each(sa.bindparam("pairs")).table_valued("value")
    item = each.c.value
    return sa.select(
        sa.func.json_extract(item, "$[0]").label("a"), sa.func.json_extract(item, "$[1]").label("b")
    ).subquery("given")


_given = _pairs()


def _matching(column: sa.Column[Any], *conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    joined = _given.join(table, sa.and_(table.c.trace_id == _given.c.a, column == _given.c.b))
    return sa.select(*_LOADED).select_from(joined).where(*conditions)


def _request_of_group(end: Any) -> sa.ScalarSelect[Any]:
    return (
        sa.select(end(table.c.span_id))
        .where(table.c.trace_id == _given.c.a, table.c.service == _given.c.b, table.c.is_request)
        .scalar_subquery()
    )


_BY_SPAN: Final = _matching(table.c.span_id)
_BY_PARENT: Final = _matching(table.c.parent_span_id)
_BY_REQUEST: Final = _matching(table.c.request_span_id, table.c.part.is_not(None))
_LOOSE: Final = _matching(table.c.service, table.c.part.is_not(None), table.c.owner.is_(None))
_REQUESTS: Final = sa.select(_given.c.a, _given.c.b, _request_of_group(sa.func.min), _request_of_group(sa.func.max))
_FACTS_OF: Final = sa.select(table.c.trace_id, table.c.span_id, table.c.facts).select_from(
    _given.join(table, sa.and_(table.c.trace_id == _given.c.a, table.c.span_id == _given.c.b))
)
_claim: Final[sa.BindParameter[str]] = sa.bindparam("claim")
_FIRST_CLAIMANT: Final = (
    sa.select(table.c.trace_id, table.c.span_id)
    .where(table.c.claimed_id == _claim, table.c.claimed_id.is_not(None), table.c.is_request)
    .order_by(table.c.trace_id, table.c.span_id)
    .limit(1)
)
_HOLDER: Final = sa.select(request_log.c.trace_id, request_log.c.span_id).where(request_log.c.id == _claim)
_INSERT: Final = sa.insert(table)
_UPDATE: Final = (
    sa.update(table)
    .where(table.c.trace_id == sa.bindparam("_trace_id"), table.c.span_id == sa.bindparam("_span_id"))
    .values({name: sa.bindparam(name) for name in _DERIVED})
)


class Graph:
    """The nodes that a batch is about, each once. Valid for one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self.nodes: dict[Key, Node] = {}
        self._absent: set[Key] = set()

    def load(self, keys: Iterable[Key]) -> None:
        """Read the nodes of these keys, as far as they exist."""
        wanted = {key for key in keys if key not in self.nodes and key not in self._absent}
        self._read(_BY_SPAN, wanted)
        self._absent |= wanted - self.nodes.keys()

    def admit(self, nodes: Iterable[Node]) -> list[Node]:
        """Take in nodes of a batch that are not stored yet, and read their parents. The first of each key counts."""
        fresh: dict[Key, Node] = {}
        for node in nodes:
            fresh.setdefault(node.key, node)
        parents = {(node.trace_id, node.parent_span_id) for node in fresh.values() if node.parent_span_id}
        self.load(fresh.keys() | parents)
        new = [node for key, node in fresh.items() if key not in self.nodes]
        self.nodes.update((node.key, node) for node in new)
        self._absent.difference_update(node.key for node in new)
        return new

    def changed_groups(self) -> set[Group]:
        """Return the groups in which something waits to be written."""
        return {node.group for node in self.nodes.values() if node.new or node.dirty}

    def parent(self, node: Node) -> Node | None:
        """Return the span's parent in the same service, as far as it is loaded."""
        above = self.nodes.get((node.trace_id, node.parent_span_id)) if node.parent_span_id else None
        return above if above is not None and above.service == node.service else None

    def parent_elsewhere(self, node: Node) -> bool:
        """Tell whether the span's parent is known to be of another service."""
        above = self.nodes.get((node.trace_id, node.parent_span_id)) if node.parent_span_id else None
        return above is not None and above.service != node.service

    def children(self, keys: Iterable[Key]) -> list[Node]:
        """Return the stored children of these spans."""
        return self._read(_BY_PARENT, set(keys))

    def loose(self, groups: Iterable[Group]) -> list[Node]:
        """Return the stored parts that no request owns by ancestry."""
        return [node for node in self._read(_LOOSE, set(groups)) if node.owner is None]

    def parts_of(self, requests: Iterable[Key]) -> list[Node]:
        """Return the stored parts that count towards these requests."""
        return self._read(_BY_REQUEST, set(requests))

    def only_requests(self, groups: Collection[Group]) -> dict[Group, str | None]:
        """Return each group's only request, or None where it has none or several. As stored: flush first."""
        rows = self._connection.execute(_REQUESTS, {"pairs": json.dumps(list(groups))}) if groups else ()
        return {(trace_id, service): first if first == last else None for trace_id, service, first, last in rows}

    def first_claimant(self, claim: str) -> Key | None:
        """Return the request that gets the id that the app gave: the first in order of trace and span id."""
        row = self._connection.execute(_FIRST_CLAIMANT, {"claim": claim}).first()
        return None if row is None else (row[0], row[1])

    def holder(self, log_id: str) -> Key | None:
        """Return the span whose request has this id now."""
        row = self._connection.execute(_HOLDER, {"claim": log_id}).first()
        return None if row is None else (row[0], row[1])

    def load_facts(self, nodes: Sequence[Node]) -> None:
        """Read what these spans say of their requests."""
        missing = [node.key for node in nodes if node.facts is None and not node.new]
        if missing:
            for trace_id, span_id, facts in self._connection.execute(_FACTS_OF, {"pairs": json.dumps(missing)}):
                self.nodes[trace_id, span_id].facts = facts

    def flush(self) -> None:
        """Write what is new or changed."""
        new = [node for node in self.nodes.values() if node.new]
        changed = [node for node in self.nodes.values() if node.dirty and not node.new]
        if new:
            self._connection.execute(_INSERT, [{**_facts(node), **_derived(node)} for node in new])
        if changed:
            keys = ({"_trace_id": node.trace_id, "_span_id": node.span_id} for node in changed)
            self._connection.execute(_UPDATE, [{**key, **_derived(n)} for key, n in zip(keys, changed, strict=True)])
        for node in new:
            node.new = False
        for node in (*new, *changed):
            node.dirty = False

    def _read(self, query: sa.Select[Any], pairs: Collection[tuple[str, str | None]]) -> list[Node]:
        if not pairs:
            return []
        found = []
        for row in self._connection.execute(query, {"pairs": json.dumps(list(pairs))}):
            key = (row.trace_id, row.span_id)
            node = self.nodes.get(key)
            if node is None:
                node = self.nodes[key] = _node(row)
            found.append(node)
        return found


def _node(row: Any) -> Node:
    values = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's documented name
    values["part"] = Rollup.load(values["part"]) if values["part"] is not None else None
    values["rollup"] = Rollup.load(values["rollup"]) if values["rollup"] is not None else None
    node = Node(**values)
    node.counted_in = node.request_span_id if node.part is not None else None
    node.counted_part = node.part
    node.stored_as = node.log_id
    node.counted_owner = node.owner if node.is_counted else None
    return node


def _facts(node: Node) -> dict[str, Any]:
    return {**{name: getattr(node, name) for name in _FACTS}, "claimed_id": node.claimed_id, "facts": node.facts}


def _derived(node: Node) -> dict[str, Any]:
    values = {name: getattr(node, name) for name in _DERIVED}
    values["part"] = node.part.dump() if node.part is not None else None
    values["rollup"] = node.rollup.dump() if node.rollup else None
    return values
