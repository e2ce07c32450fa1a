"""`request_log` and `llm_call` brought in line with what follows from the facts: the difference is written."""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Final

import sqlalchemy as sa

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.db import bulk, outbox, rollups, schema
from otel_telemetry.exporters.request_log.db.outbox import RowKey
from otel_telemetry.exporters.request_log.derive import requests
from otel_telemetry.exporters.request_log.derive.calls import row_id
from otel_telemetry.exporters.request_log.derive.facts import Fact
from otel_telemetry.exporters.request_log.derive.plain import PlainTrace
from otel_telemetry.exporters.request_log.derive.trace import Trace
from otel_telemetry.exporters.request_log.store import counts
from otel_telemetry.exporters.request_log.store.claims import Claims, claim_of

#: All columns of a call but the first two, its id and that of its request.
_other_call_values: Final = attrgetter(*schema.llm_call.c.keys()[2:])
_request_values: Final = attrgetter(*schema.request_log.c.keys())
_ROW: Final = ("id", "ts")  # the key of both tables on PostgreSQL, where time says in which partition a row is

Name = Callable[[Fact], str]
_NOTHING: Final = Decimal(0)


def mark_stored(traces: Iterable[Trace]) -> None:
    """Note that the tables hold what follows from these traces now."""
    for trace in traces:
        for fact in trace.requests.values():
            asked = fact.known()
            asked.stored = _request(fact, fact_id(fact)) if asked.is_request else None
            asked.stored_more = _more(fact, asked.stored)
        trace.mark_stored()


def fact_id(fact: Fact) -> str:
    """Return the key of a row that is this span's, where the app gave none."""
    return row_id(fact.trace_id, fact.span_id)


def _request(fact: Fact, name: str) -> records.Request:
    entry = fact.root.request_fields if fact.root is not None and fact.root is not fact else None
    return requests.render(
        name, (fact.trace_id, fact.span_id), fact.ts, fact.request_fields or {}, fact.known().sum, entry
    )


def _more(fact: Fact, row: records.Request | None) -> Decimal:
    """Return the part of the cost that the app gave for a request and that its calls do not account for."""
    if row is None or row.cost_usd is None or row.cost_source != "given":
        return _NOTHING
    return max(_NOTHING, row.cost_usd - fact.known().sum.costs[0])


class Tables:
    """Writes the difference that a batch makes to the traces it is about."""

    def __init__(self, connection: sa.Connection, *, to_outbox: bool = False) -> None:
        """With `to_outbox`, what is written is noted for who sends it on."""
        self._connection = connection
        self._to_outbox = to_outbox
        self._touched: tuple[list[RowKey], list[RowKey], list[str]] = ([], [], [])
        self._bulk = bulk.bulk(connection)
        #: What is counted of this once it is committed.
        self.delta = counts.CountDelta()
        #: The ids of the requests whose rows were written.
        self.ids: list[str] = []
        #: The spans of all requests whose rows were written, renamed or deleted.
        self.spans: set[tuple[str, str]] = set()
        self._times: list[datetime] = []

    def follow(self, traces: Collection[Trace | PlainTrace]) -> tuple[int, int]:
        """Write, move and delete rows; return how many requests and how many calls were written."""
        changed = [fact for trace in traces for fact in trace.requests.values()]
        claimants = [fact for trace in traces for fact in trace.claimants()]
        claims = Claims(self._connection, {claim for fact in claimants if (claim := claim_of(fact)) is not None})
        claims.write(
            [fact for fact in changed if fact.known().is_request and fact.known().stored is None],
            [fact for fact in changed if not fact.known().is_request and fact.known().stored is not None],
        )
        written = self._requests(changed, claimants, claims)
        calls = self._calls([fact for trace in traces for fact in trace.calls.values()], claims.name)
        rollups.forget(self._connection, self._times)
        if self._to_outbox:
            outbox.note(self._connection, *self._touched)
        return written, calls

    def _requests(self, changed: Sequence[Fact], claimants: Iterable[Fact], claims: Claims) -> int:
        moved = [fact for fact in claimants if fact.known().stored and claims.before(fact) != claims.name(fact)]
        affected = list({id(fact): fact for fact in (*changed, *moved)}.values()) if moved else changed
        shown, gone = [], []
        for fact in affected:
            asked = fact.known()
            before = asked.stored
            if before is not None and asked.stored_more:
                self.delta.put_cost(before, -asked.stored_more)
            if asked.is_request:
                row = _request(fact, claims.name(fact))
                if more := _more(fact, row):
                    self.delta.put_cost(row, more)
                if before is None or row.id != claims.before(fact) or not _is_same(row, before):
                    shown.append((fact, row))
                    self.delta.put_request(row, before)
            elif before is not None:
                gone.append(fact)
                self.delta.take_request(before)
        old = [(claims.before(fact), fact.ts) for fact in (*gone, *(f for f, _ in shown)) if fact.known().stored]
        self._bulk.delete(schema.request_log, _ROW, old)
        self._rename([fact for fact, _ in shown if fact.known().stored], claims)
        rows = [row for _, row in shown]
        self._times += [ts for _, ts in old]
        self._times += [row.ts for row in rows]
        self._bulk.insert(schema.request_log, map(_request_values, rows))
        self.ids = [row.id for row in rows]
        self.spans |= {(fact.trace_id, fact.span_id) for fact in (*gone, *(fact for fact, _ in shown))}
        if self._to_outbox:
            self._touched[0].extend((f.trace_id, f.span_id, f.ts) for f in (*gone, *(fact for fact, _ in shown)))
        return len(rows)

    def _rename(self, shown: Iterable[Fact], claims: Claims) -> None:
        """Give requests their other ids, in both tables. Who loses one goes before who gains it."""
        own, seen = [], set()
        for fact in shown:
            key, before, name = (fact.trace_id, fact.span_id), claims.before(fact), claims.name(fact)
            if before != name:
                own.append((key, before, name))
                seen.add(key)
        others = claims.renamed(seen | {(fact.trace_id, fact.span_id) for fact in shown})
        self.spans |= {key for key, _, _ in others}
        moves = sorted((*own, *others), key=lambda each: each[2] != row_id(*each[0]))
        self._bulk.update(
            schema.request_log,
            ("id", "trace_id"),
            ("id",),
            [(old, key[0], new) for key, old, new in moves if (key, old, new) in others],
        )
        self._touched[2].extend(new for _, _, new in moves)
        calls = [(old, key[0], new) for key, old, new in moves]
        self._bulk.update(schema.llm_call, ("request_id", "trace_id"), ("request_id",), calls)

    def _calls(self, changed: Iterable[Fact], name: Name) -> int:
        new: list[tuple[records.LlmCall, str | None]] = []
        moved, gone = [], []
        touched: list[records.LlmCall] = []
        for fact in changed:
            row, before = (fact.row if fact.is_counted else None), fact.stored
            asked = name(fact.asked_in) if row is not None and fact.asked_in is not None else None
            if row is not None and before is not None and (row is before or row == before):
                if fact.asked_in is not fact.stored_in:
                    moved.append((row.id, row.ts, asked))
                    touched.append(row)
                continue
            if before is not None:
                gone.append((before.id, before.ts))
                touched.append(before)
                self.delta.take_call(before)
            if row is not None:
                new.append((row, asked))
                touched.append(row)
                self.delta.put_call(row)
        self._times += [ts for _, ts in gone]
        self._times += [row.ts for row, _ in new]
        if self._to_outbox:
            self._touched[1].extend((row.trace_id, row.span_id, row.ts) for row in touched)
        self._bulk.delete(schema.llm_call, _ROW, gone)
        self._bulk.update(schema.llm_call, _ROW, ("request_id",), moved)
        self._bulk.insert(schema.llm_call, [(row.id, asked, *_other_call_values(row)) for row, asked in new])
        return len(new)


def _is_same(row: records.Request, before: records.Request) -> bool:
    return all(one == other for one, other in zip(_request_values(row)[1:], _request_values(before)[1:], strict=True))
