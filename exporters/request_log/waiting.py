"""Spans that say nothing wait in a table of their own until a span that says something stands below them.

Most spans of most services have no part in any row: no model, request or stage is spoken of in them, nor in a span
below them. They need few columns, one key and no derivation, so that they cost next to nothing. Only what lies above a
span that says something matters to it (derive.py): with such a span, those above it join the derivation, as far up as
they are known; and a span that comes later joins where a span of the derivation has it for parent. So with every span
in `span_node` its parent is there too, unless nobody has seen it yet, and whatever the order in which spans come, each
moves once at most.

Of traces that come whole no span has to wait: they are packed (packed.py), and unpacked here once more of them comes.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import orjson
import sqlalchemy as sa

from otel_telemetry.exporters.request_log import bulk
from otel_telemetry.exporters.request_log.graph import GIVEN, Graph
from otel_telemetry.exporters.request_log.node import Key, Node, Quiet
from otel_telemetry.exporters.request_log.packed import MOST_SPANS, Pack, Packed, is_packable
from otel_telemetry.exporters.request_log.schema import span_node
from otel_telemetry.exporters.request_log.schema import span_waiting as table

_KEY: Final = ("trace_id", "span_id")


class _Queries:
    """The queries, over rows (a, b) from the parameter `pairs`: trace ids, or keys of spans."""

    def __init__(self, given: sa.Subquery) -> None:
        of_trace = [each.c.trace_id == given.c.a for each in (span_node, table)]
        self.known = sa.select(given.c.a, *(sa.exists().where(same) for same in of_trace))
        self.waiting = self._keys_in(table, given, "span_id")
        self.derived = self._keys_in(span_node, given, "span_id")
        self.awaited = self._keys_in(span_node, given, "parent_span_id")
        self.chains = self._chains(given)

    def _keys_in(self, place: sa.Table, given: sa.Subquery, column: str) -> sa.Select[Any]:
        there = sa.exists().where(place.c.trace_id == given.c.a, place.c[column] == given.c.b)
        return sa.select(given.c.a, given.c.b).where(there)

    def _chains(self, given: sa.Subquery) -> sa.Select[Any]:
        """These spans, the spans above them and so on; UNION ends where parents go round in a circle."""
        same = sa.and_(table.c.trace_id == given.c.a, table.c.span_id == given.c.b)
        chain = sa.select(table.c.trace_id, table.c.span_id, table.c.parent_span_id).join_from(given, table, same)
        found = chain.cte("chain", recursive=True)
        above = sa.and_(table.c.trace_id == found.c.trace_id, table.c.span_id == found.c.parent_span_id)
        further = sa.select(table.c.trace_id, table.c.span_id, table.c.parent_span_id).join_from(found, table, above)
        found = found.union(further)
        itself = sa.and_(table.c.trace_id == found.c.trace_id, table.c.span_id == found.c.span_id)
        return sa.select(table).join_from(found, table, itself)


_QUERIES: Final = {dialect: _Queries(given) for dialect, given in GIVEN.items()}


class Waiting:
    """The spans that wait. Valid for one transaction.

    After `join`, `added` says how many more spans wait than before, `fresh` which traces had no row in `span_node`, and
    `whole` which of them are to be packed (packed.py): those of which nothing was known, and no span waits for another.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._bulk = bulk.bulk(connection)
        self._queries = _QUERIES[connection.dialect.name]
        self._waits: set[str] = set()
        self._derived: set[str] = set()
        self._packed = Packed(connection)
        self._kept: list[Quiet] = []
        self.fresh: set[str] = set()
        self.whole: set[str] = set()
        self.added = 0

    def join(self, nodes: Sequence[Node], quiet: Iterable[Quiet]) -> list[Node]:
        """Return what a batch is about: its own nodes, and the quiet spans, stored or new, that stand above nodes.

        The other quiet spans are stored, unless they are already. Of a key that comes again, the first stored counts.
        """
        here: dict[Key, Quiet] = {}
        for span in quiet:
            here.setdefault(span[:2], span)
        said: dict[Key, Node] = {}
        for node in nodes:
            said.setdefault(node.key, node)
            here.pop(node.key, None)
        traces = {trace_id for trace_id, _ in (*said, *here)}
        self._unpack(traces, said, here)
        self._look_up(traces)
        self.whole = self._whole(said, here)
        seen = self._find(self._queries.waiting, self._waits, (*said, *here))
        seen |= self._find(self._queries.derived, self._derived, here)
        for key in seen:
            said.pop(key, None)
            here.pop(key, None)
        awaited = self._find(self._queries.awaited, self._derived, here)
        joining = self._climb({node.above for node in said.values()} | awaited, here, said)
        self._kept = list(here.values())
        self.added += len(here)
        return [*(span.node() for span in joining), *said.values()]

    def _unpack(self, traces: set[str], said: dict[Key, Node], here: dict[Key, Quiet]) -> None:
        """Unpack the traces that more is known of now; what was packed of the others is taken out of the batch."""
        packs = self._packed.of(traces)
        if not packs:
            return
        coming: dict[str, set[Key]] = {pack.trace_id: set() for pack in packs}
        for key in (*said, *here):
            if key[0] in coming:
                coming[key[0]].add(key)
        self._packed.unpack([pack for pack in packs if not coming[pack.trace_id] <= pack.keys()])
        for pack in packs:
            if coming[pack.trace_id] <= pack.keys():
                traces.discard(pack.trace_id)
                for key in coming[pack.trace_id]:
                    said.pop(key, None)
                    here.pop(key, None)

    def _whole(self, said: Mapping[Key, Node], here: Mapping[Key, Quiet]) -> set[str]:
        """Return the traces that have come whole: each span with the one that it was called from, and not too many."""
        whole = self.fresh - self._waits
        sizes = Counter(trace_id for trace_id, _ in (*said, *here))
        whole.difference_update(trace_id for trace_id, spans in sizes.items() if spans > MOST_SPANS)
        for node in said.values():
            if node.trace_id in whole and not is_packable(node):
                whole.discard(node.trace_id)
        each: Iterator[Node | Quiet] = chain(said.values(), here.values())
        for span in each:
            if not span.local_root and span.above not in said and span.above not in here:
                whole.discard(span.trace_id)
        return whole

    def keep(self, graph: Graph) -> None:
        """Write the spans that wait, and pack the traces that are whole still."""
        packs = {trace_id: Pack(trace_id) for trace_id in graph.whole}
        for node in graph.nodes.values():
            if node.trace_id in packs:
                packs[node.trace_id].nodes.append(node)
        waiting = []
        for span in self._kept:
            if span.trace_id in packs:
                packs[span.trace_id].quiet.append(span)
            else:
                waiting.append(span)
        self._bulk.insert(table, waiting)
        self._packed.insert(packs.values())

    def _look_up(self, traces: set[str]) -> None:
        for trace_id, is_derived, waits in self._ask(self._queries.known, [(each, None) for each in traces]):
            if is_derived:
                self._derived.add(trace_id)
            if waits:
                self._waits.add(trace_id)
        self.fresh = traces - self._derived

    def _find(self, query: sa.Executable, traces: Collection[str], keys: Iterable[Key]) -> set[Key]:
        """Return which of these keys a query finds; others than those of `traces` it could not."""
        return {
            (row[0], row[1]) for row in self._ask(query, [key for key in keys if key[0] in traces] if traces else ())
        }

    def _climb(self, wanted: set[Key], here: dict[Key, Quiet], said: Collection[Key]) -> list[Quiet]:
        """Take the wanted spans, and all that are above them, out of what waits: here first, then in the table."""
        joining: list[Quiet] = []
        while wanted:
            away: set[Key] = set()
            for start in wanted:
                key = start
                while (span := here.pop(key, None)) is not None:
                    joining.append(span)
                    key = span.above
                if key[1] and key[0] in self._waits and key not in said:
                    away.add(key)
            chains = self._release(away)
            joining += chains
            wanted = {span.above for span in chains} & here.keys()
        return joining

    def _release(self, keys: Collection[Key]) -> list[Quiet]:
        """Take these spans, and those above them, out of the table."""
        found = [Quiet(*row) for row in self._ask(self._queries.chains, list(keys))]
        self._bulk.delete(table, _KEY, [span[:2] for span in found])
        self.added -= len(found)
        return found

    def _ask(self, query: sa.Executable, pairs: Sequence[Any]) -> Any:
        return self._connection.execute(query, {"pairs": orjson.dumps(pairs).decode()}) if pairs else ()
