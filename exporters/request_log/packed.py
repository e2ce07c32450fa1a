"""Traces that came whole: one row for all that `span_node` and `span_waiting` would hold of them.

Most traces arrive with one batch and are never heard of again. What is known of their spans is kept for the case that
they are: in one row each of `span_packed`. Ids are random, so that every index by an id touches a page of its own for
each trace, which costs more the larger the database is: as rows of one span each they would touch five. This table
grows at its end, and its one index of that kind holds small numbers. Once another span of the trace comes, its rows are
unpacked.

What can be derived from the rest is left out: the sum over the parts of a request, and its id where the app gave none.
A trace in which an app gave an id, or texts, is not packed: both are looked up by columns of `span_node`. What a span
says is read by its place in a list, so that rows of earlier versions stay readable: what is added goes to the end.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from operator import attrgetter
from typing import Any, Final

import orjson
import sqlalchemy as sa

from otel_telemetry.exporters.request_log import bulk, coerce, graph, requests, schema
from otel_telemetry.exporters.request_log.node import Key, Node, Quiet
from otel_telemetry.exporters.request_log.rollup import Rollup
from otel_telemetry.exporters.request_log.schema import span_packed as table

#: Spans that one row may hold: unpacking them is quick.
MOST_SPANS: Final = 128
#: Rows that are read at a time by who goes through all: each stands for many.
PAGE: Final = 100
_SAME: Final = ("span_id", "parent_span_id", "service", "ts", "response_id", "facts")
_FLAGS: Final = ("local_root", "carrier", "call", "of_log", "call_below", "carrier_below", "is_request")
_LABELS: Final = ("calls_above", "direct_calls")
_SPANS: Final = ("top", "root", "owner", "request_span_id")
_same_of: Final = attrgetter(*_SAME)
_flags_of: Final = attrgetter(*_FLAGS)
_labels_of: Final = attrgetter(*_LABELS)
_spans_of: Final = attrgetter(*_SPANS)


@dataclass(slots=True)
class Pack:
    """The spans of one trace, and the `id` of their row once it has one."""

    trace_id: str
    nodes: list[Node] = field(default_factory=list)
    quiet: list[Quiet] = field(default_factory=list)
    id: int | None = None

    def keys(self) -> set[Key]:
        """Return the identities of its spans."""
        return {*(node.key for node in self.nodes), *(span[:2] for span in self.quiet)}

    def rows(self) -> Iterator[tuple[sa.Table, dict[str, Any]]]:
        """Yield the rows of `span_node` and `span_waiting` that it stands for, each with its table."""
        for node in self.nodes:
            yield schema.span_node, dict(zip(schema.span_node.c.keys(), graph.row(node), strict=True))
        for span in self.quiet:
            yield schema.span_waiting, dict(zip(schema.span_waiting.c.keys(), span, strict=True))

    def row(self) -> tuple[int | None, int, datetime, str]:
        """Return it as a row of the table."""
        times = [node.ts for node in self.nodes]
        if self.quiet:
            times.append(coerce.moment(1_000 * max(span.at_us for span in self.quiet)))
        places = {node.span_id: place for place, node in enumerate(self.nodes)}
        nodes = [_packed(node, places) for node in self.nodes]
        packed = [self.trace_id, nodes, [span[1:] for span in self.quiet]]
        return self.id, trace_key(self.trace_id), max(times), schema.encode(packed)


def is_packable(node: Node) -> bool:
    """Tell whether nothing that the node says is looked up by a column of its own."""
    return node.claimed_id is None and not requests.has_text(node.facts)


def trace_key(trace_id: str) -> int:
    """Return a number of 64 bits for a trace id: parts of ids need not be random."""
    digest = blake2b(trace_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


class Packed:
    """The table, through one connection."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._bulk = bulk.bulk(connection)
        self._given = graph.GIVEN[connection.dialect.name]

    def of(self, traces: Collection[str]) -> list[Pack]:
        """Return what is packed of these traces."""
        if not traces:
            return []
        key = sa.cast(self._given.c.a, sa.BigInteger)
        query = sa.select(table.c.id, table.c.body).select_from(self._given.join(table, table.c.trace_key == key))
        pairs = orjson.dumps([(str(trace_key(trace_id)), None) for trace_id in traces]).decode()
        packs = (unpacked(*row) for row in self._connection.execute(query, {"pairs": pairs}))
        return [pack for pack in packs if pack.trace_id in traces]  # several may have one number

    def insert(self, packs: Iterable[Pack]) -> None:
        """Add rows."""
        self._bulk.insert(table, (pack.row() for pack in packs))

    def update(self, packs: Iterable[Pack]) -> None:
        """Write rows anew that are there."""
        self._bulk.update(table, ("id",), ("body",), [(pack.id, pack.row()[-1]) for pack in packs])

    def unpack(self, packs: Sequence[Pack]) -> None:
        """Turn rows into rows of `span_node` and `span_waiting`."""
        if packs:
            self._bulk.delete(table, ("id",), [(pack.id,) for pack in packs])
            self._bulk.insert(schema.span_node, (graph.row(node) for pack in packs for node in pack.nodes))
            self._bulk.insert(schema.span_waiting, (span for pack in packs for span in pack.quiet))


def unpacked(number: int, body: str) -> Pack:
    """Return what a row of the table holds."""
    trace_id, nodes, quiet = json.loads(body)  # as the database reads it: orjson does not know numbers of any size
    ids = [node[0] for node in nodes]
    found = [_node(trace_id, ids, each) for each in nodes]
    for node in found:
        if node.part is not None and node.request_span_id is not None:
            request = found[ids.index(node.request_span_id)]
            request.rollup = request.rollup or Rollup()
            request.rollup.merge(node.part)
    for node in found:
        graph.settle(node)
    return Pack(trace_id, found, [Quiet(trace_id, *each) for each in quiet], number)


def _packed(node: Node, places: Mapping[str, int]) -> list[Any]:
    """Return a span as a list; other spans of the trace by their place among those that are packed, flags as bits."""
    part = node.part
    flags = sum([1 << bit for bit, is_set in enumerate(_flags_of(node)) if is_set])
    spans = [places[each] if each is not None else None for each in _spans_of(node)]
    said = None if part is None else [part.sums, part.last, part.told]
    return [*_same_of(node), flags, spans, said, *_labels_of(node)]


def _node(trace_id: str, ids: Sequence[str], packed: list[Any]) -> Node:
    values = dict(zip(_SAME, packed, strict=False))
    flags, spans, said, *labels = packed[len(_SAME) :]
    values["ts"] = datetime.fromisoformat(values["ts"]).astimezone(UTC)
    values |= {name: bool(flags & 1 << bit) for bit, name in enumerate(_FLAGS)}
    values |= {name: ids[place] if place is not None else None for name, place in zip(_SPANS, spans, strict=True)}
    values["part"] = None if said is None else Rollup(*said)
    node = Node(trace_id=trace_id, **values, **dict(zip(_LABELS, labels, strict=True)))
    node.log_id = node.own_id if node.is_request else None
    return node
