"""Reading and writing `span_node` a set at a time: what the derivation knows of a trace while it absorbs a batch.

Every query takes its keys as one parameter, so that it is compiled once and costs one round trip for any batch. The one
thing that differs by database is how such a list becomes rows.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from otel_telemetry import records
from otel_telemetry.exporters.request_log import bulk, calls, requests
from otel_telemetry.exporters.request_log.node import Group, Key, Node
from otel_telemetry.exporters.request_log.rollup import Rollup
from otel_telemetry.exporters.request_log.schema import llm_call, request_log
from otel_telemetry.exporters.request_log.schema import span_node as table

_FACTS: Final = (
    *("trace_id", "span_id", "parent_span_id", "service", "ts", "local_root", "carrier"),
    *("call", "of_log", "response_id"),
)
_LABELS: Final = (
    *("call_below", "carrier_below", "calls_above", "top", "root", "owner", "request_span_id"),
    *("direct_calls",),
)
_KEY: Final = ("trace_id", "span_id")
_DERIVED: Final = ("part", *_LABELS, "is_request", "log_id", "rollup")
_LOADED: Final = tuple(table.c[name] for name in (*_FACTS, "claimed_id", *_DERIVED))


def _sqlite_pairs() -> sa.Subquery:
    item = sa.func.json_each(sa.bindparam("pairs")).table_valued("value").c.value
    pair = sa.func.json_extract(item, "$[0]").label("a"), sa.func.json_extract(item, "$[1]").label("b")
    return sa.select(*pair).subquery("given")


def _postgres_pairs() -> sa.Subquery:
    array = sa.cast(sa.bindparam("pairs", type_=sa.Text), postgresql.JSONB)
    item = sa.func.jsonb_array_elements(array).column_valued("item")
    text = sa.type_coerce(item, postgresql.JSONB)
    return sa.select(text[0].astext.label("a"), text[1].astext.label("b")).subquery("given")


class _Queries:
    """The queries, over rows (a, b) from the parameter `pairs`: a JSON array of two-item arrays."""

    def __init__(self, given: sa.Subquery) -> None:
        self.given = given
        self.by_span = self._matching(table.c.span_id)
        self.by_parent = self._matching(table.c.parent_span_id)
        self.by_request = self._matching(table.c.request_span_id, table.c.part.is_not(None))
        self.loose = self._matching(table.c.service, table.c.part.is_not(None), table.c.owner.is_(None))
        ends = self._request_of_group(sa.func.min), self._request_of_group(sa.func.max)
        self.requests = sa.select(given.c.a, given.c.b, *ends)
        self.facts = self._matching(table.c.span_id).with_only_columns(table.c.trace_id, table.c.span_id, table.c.facts)
        self.calls = sa.select(llm_call).select_from(given.join(llm_call, llm_call.c.id == given.c.a))
        self.first_claimants = sa.select(given.c.a, self._first_claimant())
        self.holders = sa.select(given.c.a, request_log.c.trace_id, request_log.c.span_id).select_from(
            given.join(request_log, request_log.c.id == given.c.a)
        )

    def _matching(self, column: sa.Column[Any], *conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
        same = sa.and_(table.c.trace_id == self.given.c.a, column == self.given.c.b)
        return sa.select(*_LOADED).select_from(self.given.join(table, same)).where(*conditions)

    def _request_of_group(self, end: Any) -> sa.ScalarSelect[Any]:
        of_group = table.c.trace_id == self.given.c.a, table.c.service == self.given.c.b
        return sa.select(end(table.c.span_id)).where(*of_group, table.c.is_request).scalar_subquery()

    def _first_claimant(self) -> sa.ScalarSelect[Any]:
        """Trace and span id of the first request that claims an id, in one text: a subquery has one column."""
        return (
            sa.select(table.c.trace_id + " " + table.c.span_id)
            .where(table.c.claimed_id == self.given.c.a, table.c.claimed_id.is_not(None), table.c.is_request)
            .order_by(table.c.trace_id, table.c.span_id)
            .limit(1)
            .scalar_subquery()
        )


#: Rows (a, b) from the parameter `pairs`, by database.
GIVEN: Final = {"sqlite": _sqlite_pairs(), "postgresql": _postgres_pairs()}
_QUERIES: Final = {dialect: _Queries(given) for dialect, given in GIVEN.items()}


def forget(dialect: str, before: datetime) -> sa.Delete:
    """Return the statement that deletes the traces of `pairs` (trace id, anything) whose spans are all that old."""
    given = GIVEN[dialect]
    newer = table.alias()
    recent = sa.select(newer.c.trace_id).where(newer.c.trace_id == given.c.a, newer.c.ts >= before).exists()
    return sa.delete(table).where(table.c.trace_id.in_(sa.select(given.c.a).where(~recent)))


class Graph:
    """The nodes that a batch is about, each once. Valid for one transaction.

    `fresh` are the traces of which there were no rows before it: all that is known of them is here already, so that
    nothing has to be asked of the database. Those of them that are `whole` are not written here, but packed.
    """

    def __init__(
        self, connection: sa.Connection, fresh: Collection[str] = frozenset(), whole: set[str] | None = None
    ) -> None:
        self._connection = connection
        self._fresh = fresh
        self.whole = whole if whole is not None else set()
        self._queries = _QUERIES[connection.dialect.name]
        self._bulk = bulk.bulk(connection)
        self.nodes: dict[Key, Node] = {}
        self._absent: set[Key] = set()

    def load(self, keys: Iterable[Key]) -> None:
        """Read the nodes of these keys, as far as they exist."""
        wanted = {
            key for key in keys if key[0] not in self._fresh and key not in self.nodes and key not in self._absent
        }
        self._read(self._queries.by_span, wanted)
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
        return self._read(self._queries.by_parent, self._of_stored(keys))

    def loose(self, groups: Iterable[Group]) -> list[Node]:
        """Return the stored parts that no request owns by ancestry."""
        return [node for node in self._read(self._queries.loose, self._of_stored(groups)) if node.owner is None]

    def parts_of(self, requests: Iterable[Key]) -> list[Node]:
        """Return the stored parts that count towards these requests."""
        return self._read(self._queries.by_request, set(requests))

    def only_requests(self, groups: Iterable[Group]) -> dict[Group, str | None]:
        """Return the only request of each group that was stored, or None where it has none or several: flush first."""
        rows = self._ask(self._queries.requests, list(self._of_stored(groups)))
        return {(trace_id, service): first if first == last else None for trace_id, service, first, last in rows}

    def only_fresh_requests(self) -> dict[Group, str | None]:
        """Return the same of fresh traces, stored or not."""
        found: dict[Group, str | None] = {}
        for node in self.nodes.values():
            if node.is_request and node.trace_id in self._fresh:
                found[node.group] = None if node.group in found else node.span_id
        return found

    def _of_stored(self, pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        return {pair for pair in pairs if pair[0] not in self._fresh}

    def first_claimants(self, claims: Collection[str]) -> dict[str, Key]:
        """Return which request gets the id that apps gave to several: the first in order of trace and span id."""
        rows = self._ask(self._queries.first_claimants, [(claim, None) for claim in claims])
        return {claim: _key(first) for claim, first in rows if first is not None}

    def holders(self, log_ids: Collection[str]) -> dict[str, Key]:
        """Return the spans whose requests have these ids now."""
        rows = self._ask(self._queries.holders, [(log_id, None) for log_id in log_ids])
        return {log_id: (trace_id, span_id) for log_id, trace_id, span_id in rows}

    def _ask(self, query: sa.Select[Any], pairs: Sequence[Any]) -> Iterable[Any]:
        return self._connection.execute(query, {"pairs": orjson.dumps(pairs).decode()}) if pairs else ()

    def load_facts(self, nodes: Sequence[Node]) -> None:
        """Read what these spans say of their requests."""
        missing = [node.key for node in nodes if node.facts is None and not node.new]
        for trace_id, span_id, facts in self._ask(self._queries.facts, missing):
            self.nodes[trace_id, span_id].facts = facts

    def load_calls(self, nodes: Sequence[Node]) -> dict[str, records.LlmCall]:
        """Read the stored rows of these calls, by their ids."""
        found = self._ask(self._queries.calls, [(node.own_id, None) for node in nodes])
        return {each.id: records.LlmCall(**each._mapping) for each in found}  # noqa: SLF001  # SQLAlchemy's documented name

    def flush(self) -> None:
        """Write what is new or changed, except of whole traces."""
        new = [node for node in self.nodes.values() if node.new and node.trace_id not in self.whole]
        changed = [node for node in self.nodes.values() if node.dirty and not node.new]
        if new:
            self._bulk.insert(table, map(row, new))
        if changed:
            self._bulk.update(table, _KEY, _DERIVED, [(*node.key, *_derived(node)) for node in changed])
        for node in new:
            node.new = False
        for node in (*new, *changed):
            node.dirty = False

    def _read(self, query: sa.Select[Any], pairs: Collection[tuple[str, str | None]]) -> list[Node]:
        found = []
        for given in self._ask(query, list(pairs)):
            key = (given.trace_id, given.span_id)
            node = self.nodes.get(key)
            if node is None:
                node = self.nodes[key] = _node(given)
            found.append(node)
        return found


def _node(given: Any) -> Node:
    values = dict(given._mapping)  # noqa: SLF001  # SQLAlchemy's documented name
    values["part"] = Rollup.load(values["part"]) if values["part"] is not None else None
    values["rollup"] = Rollup.load(values["rollup"]) if values["rollup"] is not None else None
    node = Node(**values)
    settle(node)
    return node


def settle(node: Node) -> None:
    """Note what sums contain of a node as it is stored."""
    node.counted_in = node.request_span_id if node.part is not None else None
    node.counted_part = node.part
    node.stored_as = node.log_id
    node.answered = calls.answered(node.rollup) if node.rollup is not None else None
    node.counted_owner = node.owner if node.is_counted else None


def _key(text: str) -> Key:
    trace_id, _, span_id = text.partition(" ")
    return trace_id, span_id


def row(node: Node) -> list[Any]:
    """Return a node as a row of the table, in the order of its columns."""
    return [*_facts_of(node), *_derived(node), requests.has_text(node.facts)]


def _derived(node: Node) -> list[Any]:
    part = node.part.dump() if node.part is not None else None
    rollup = node.rollup.dump() if node.rollup else None
    return [part, *_labels_of(node), rollup]


_facts_of: Final = attrgetter(*_FACTS, "claimed_id", "facts")
_labels_of: Final = attrgetter(*_LABELS, "is_request", "log_id")
