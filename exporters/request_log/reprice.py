"""Repricing: what stored model calls cost by the present price table, and with them their requests' sums.

Each chunk of calls is one transaction: the calls' rows, what they add to their requests (`span_node`; what is packed
stays so, packed.py) and the requests' rows change together, so that a run may break off anywhere and be repeated; calls
that are right already are left alone, and late spans are added to what then holds. What becomes of a call depends on
its row:

- computed or unpriced: its cost is computed anew. Where the table knows no price any more, the old one stays.
- given by its producer: that stays; what the table says is kept beside it (`meta["computed_cost_usd"]`).
- refused by the provider (no `cost_source`): it cost nothing.

Prices are those of the day of the call. Calls whose span is forgotten (retention.py) stay as they are.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Final, Self, cast

import sqlalchemy as sa

from otel_telemetry.exporters.request_log import bulk, charge, cost, database, requests, schema
from otel_telemetry.exporters.request_log.graph import Graph
from otel_telemetry.exporters.request_log.node import Key, Node
from otel_telemetry.exporters.request_log.packed import Pack, Packed
from otel_telemetry.exporters.request_log.report_groups import Period
from otel_telemetry.exporters.request_log.rollup import Rollup

_CHUNK: Final = 1_000
_COSTS: Final = ("cost_usd", "cost_input_usd", "cost_cached_usd", "cost_output_usd")
_CHARGE: Final = (*_COSTS, "cost_source", "price_version", "meta")
_ROW: Final = ("id", "ts")
_call: Final = schema.llm_call.c
_READ: Final = [
    _call[name]
    for name in (
        *(*_ROW, "trace_id", "span_id", "provider", "model", "operation", "prompt_tokens", "cached_tokens"),
        *("cache_write_tokens", "completion_tokens", "reasoning_tokens", *_CHARGE),
    )
]


@dataclass(slots=True)
class Tally:
    """What repricing does to the calls of one model; `before` and `after` sum the costs that are known, in USD."""

    calls: int = 0
    changed: int = 0
    newly_priced: int = 0
    without_price: int = 0
    before: Decimal = Decimal(0)
    after: Decimal = Decimal(0)


@dataclass(slots=True)
class Outcome:
    """What a run did, by model; `requests` are those whose row was changed, `forgotten` calls without their span."""

    models: dict[str, Tally] = field(default_factory=dict)
    requests: int = 0
    forgotten: int = 0


class Repricing:
    """Reprices the calls of a period in one database. With `dry_run` it only computes, on a connection that reads."""

    def __init__(self, url: str, period: Period, *, dry_run: bool) -> None:
        self.outcome = Outcome()
        self._period = period
        self._dry_run = dry_run
        self._changed: set[int] = set()
        self._engine = database.reader(url)  # first: a database that is not there is not made
        if not dry_run:
            self._engine.dispose()
            self._engine = database.connect(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.dispose()

    def size(self) -> int:
        """Return how many calls there are to look at."""
        query = sa.select(sa.func.count()).select_from(schema.llm_call).where(self._period.of(_call.ts))
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def steps(self) -> Iterator[int]:
        """Reprice a chunk at a time, going up in time; yields how many calls were looked at."""
        after: tuple[datetime, str] | None = None
        while True:
            opened = self._engine.connect() if self._dry_run else self._engine.begin()
            with opened as connection:
                rows = list(self._chunk(connection, after))
                self._reprice(connection, rows)
            if not rows:
                return
            yield len(rows)
            after = rows[-1]["ts"], rows[-1]["id"]

    def _chunk(self, connection: sa.Connection, after: tuple[datetime, str] | None) -> Iterator[dict[str, Any]]:
        later = sa.true() if after is None else sa.tuple_(_call.ts, _call.id) > sa.tuple_(*after, types=_TYPES)
        query = sa.select(*_READ).where(self._period.of(_call.ts), later).order_by(_call.ts, _call.id).limit(_CHUNK)
        for row in connection.execute(query).mappings():
            yield dict(row)

    def _reprice(self, connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
        new = {(row["trace_id"], row["span_id"]): {**row, **charge} for row in rows if (charge := recharge(row))}
        graph = Graph(connection)
        graph.load(new)
        packed = Packed(connection)
        packs = _load_packed(graph, packed, new)
        known = {key: row for key, row in new.items() if key in graph.nodes}
        self.outcome.forgotten += len(new) - len(known)
        for row in rows:
            self._count(row, known.get((row["trace_id"], row["span_id"]), row))
        changed = _move(graph, known)
        self._changed |= {hash(node.key) for node in changed}
        self.outcome.requests = len(self._changed)
        if not self._dry_run:
            _write_rows(connection, graph, known, changed)
            packed.update(_settled(packs))
            graph.flush()

    def _count(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        tally = self.outcome.models.setdefault(old["model"] or "", Tally())
        tally.calls += 1
        tally.changed += old is not new
        tally.newly_priced += old["cost_usd"] is None and new["cost_usd"] is not None
        tally.without_price += new["cost_source"] == "unpriced"
        tally.before += old["cost_usd"] or 0
        tally.after += new["cost_usd"] or 0


def recharge(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the columns of a call's cost by the present price table; None where they are what they were."""
    meta = row["meta"] or {}
    found = charge.computed(cast("charge.Counted", SimpleNamespace(**row)), meta.get("problems") or {})
    if found is None or row["cost_source"] is None:
        return None
    given = row["cost_source"] == "given"
    anew = {name: row[name] for name in _CHARGE} | {"price_version": cost.price_version()}
    anew["meta"] = {**meta, **charge.meta(found, given=given)}
    if not given:
        amounts = (found.total, found.input, found.cached, found.output)
        anew |= {**dict(zip(_COSTS, amounts, strict=True)), "cost_source": "computed"}
    return anew if any(anew[name] != row[name] for name in _CHARGE) else None


def _load_packed(graph: Graph, packed: Packed, calls: Collection[Key]) -> list[Pack]:
    """Read the traces of these calls that are packed, and take their spans into the graph."""
    packs = packed.of({key[0] for key in calls if key not in graph.nodes})
    graph.nodes.update((node.key, node) for pack in packs for node in pack.nodes)
    return packs


def _settled(packs: Iterable[Pack]) -> list[Pack]:
    """Return the packs that have to be written; their spans are no rows that `Graph.flush` could write."""
    changed = [pack for pack in packs if any(node.dirty for node in pack.nodes)]
    for pack in changed:
        for node in pack.nodes:
            node.dirty = False
    return changed


def _write_rows(
    connection: sa.Connection, graph: Graph, calls: Mapping[Key, Mapping[str, Any]], changed: Sequence[Node]
) -> None:
    """Write what these calls cost, and with them their requests."""
    writer = bulk.bulk(connection)
    values = [[row[name] for name in _ROW] + [bulk.sendable(row[name]) for name in _CHARGE] for row in calls.values()]
    writer.update(schema.llm_call, _ROW, _CHARGE, values)
    graph.load_facts(changed)
    writer.update(schema.request_log, _ROW, (*_COSTS, "cost_source"), list(map(_request_costs, changed)))


def _move(graph: Graph, calls: Mapping[Key, Mapping[str, Any]]) -> list[Node]:
    """Put what calls cost now into what they add to their requests; return the requests whose sums changed."""
    nodes = [graph.nodes[key] for key in calls]
    owners = {(node.trace_id, node.request_span_id) for node in nodes if node.request_span_id}
    graph.load(owners)
    for node in nodes:
        if node.part is None or node.part.sums.get("llm_calls") is None:
            continue  # a call that is told of elsewhere adds no cost
        old, node.part = node.part, _with_cost(node.part, calls[node.key])
        node.dirty = True
        owner = graph.nodes.get((node.trace_id, node.request_span_id or ""))
        if owner is not None and owner.rollup is not None:
            for part, sign in ((old, -1), (node.part, 1)):
                for name, amount in part.sums.items():
                    owner.rollup.add(name, sign * amount)
            owner.dirty = True
    return [graph.nodes[key] for key in owners if key in graph.nodes and graph.nodes[key].is_request]


def _with_cost(part: Rollup, row: Mapping[str, Any]) -> Rollup:
    """Return the part of a call with the cost of its row (calls.py, `contribution`)."""
    names = {*_COSTS, *(f"#{name}" for name in _COSTS)}
    sums = {name: n for name, n in part.sums.items() if name not in names and not name.startswith("source:")}
    new = Rollup(sums, part.last, part.told)
    for name in _COSTS:
        amount: Decimal | None = row[name]
        new.measure(name, None if amount is None else int(amount.scaleb(schema.PICO)))
    version = f" {row['price_version']}" if row["cost_source"] == "computed" else ""
    new.add(f"source:{row['cost_source']}{version}", 1)
    return new


def _request_costs(node: Node) -> list[Any]:
    """Return a request's key and the columns of its cost."""
    row = requests.render(node.log_id or node.own_id, node.key, node.ts, node.facts or {}, node.rollup or Rollup())
    return [row.id, row.ts, *(bulk.sendable(getattr(row, name)) for name in _COSTS), row.cost_source]


_TYPES: Final = (_call.ts.type, _call.id.type)
