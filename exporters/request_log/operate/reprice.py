"""Computes the costs of stored model calls again with the present price table, and then the sums of their requests.

Each chunk of calls is one transaction: the facts of their traces (`trace_facts`) are rewritten with the new costs, and
the rows that follow from them change. So a run may be interrupted anywhere and repeated. Calls with the right cost are
not changed, and late spans are added to the new state. The result depends on the row of a call:

- computed or unpriced: its cost is computed again. If the table has no price any more, the old one stays.
- given by its producer: it stays; the table's cost is stored beside it (`meta["computed_cost_usd"]`).
- refused by the provider (no `cost_source`): it cost nothing.

Prices are those of the day of the call. Calls whose span was deleted (retention.py) do not change.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Final, Self, cast

import sqlalchemy as sa

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.audit import trail
from otel_telemetry.exporters.request_log.db import database, outbox, schema
from otel_telemetry.exporters.request_log.derive.facts import Fact
from otel_telemetry.exporters.request_log.derive.trace import Trace
from otel_telemetry.exporters.request_log.operate.report_groups import Period
from otel_telemetry.exporters.request_log.price import charge, cost
from otel_telemetry.exporters.request_log.store import tables
from otel_telemetry.exporters.request_log.store.claims import Key
from otel_telemetry.exporters.request_log.store.facts_table import FactsTable

_CHUNK: Final = 1_000
_COSTS: Final = ("cost_usd", "cost_input_usd", "cost_cached_usd", "cost_output_usd")
_CHARGE: Final = (*_COSTS, "cost_source", "price_version", "meta")
_ROW: Final = ("id", "ts")
_call: Final = schema.llm_call.c
_READ: Final = [
    _call[name]
    for name in (
        *(*_ROW, "trace_id", "span_id", "provider", "model", "model_requested", "operation", "prompt_tokens"),
        *("cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens", *_CHARGE),
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
    """The result of a run, by model; `requests`: those whose row was changed, `forgotten`: calls without their span."""

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
        self._audited = False
        self._engine = database.reader(url)  # first: a database that is not there is not made
        if not dry_run:
            self._engine.dispose()
            self._engine = database.connect(url)
            with self._engine.connect() as connection:
                self._audited = trail.exists(connection)

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
                if not rows and self._audited:
                    changed = sum(tally.changed for tally in self.outcome.models.values())
                    trail.act(connection, "reprice", {"calls": changed, "requests": self.outcome.requests})
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
        known: set[Key] = set()
        traces: dict[str, Trace] = {}
        table = FactsTable(connection)
        for trace_id, facts in table.of({key[0] for key in new}).items():
            trace = Trace()
            trace.add(facts)
            tables.mark_stored([trace])
            calls = [fact for fact in facts if (trace_id, fact.span_id) in new and fact.is_counted]
            known |= {(trace_id, fact.span_id) for fact in calls}
            trace.revise(_recharged(report) for fact in calls for report in trace.reports(fact))
            traces[trace_id] = trace
        self.outcome.forgotten += len(new) - len(known)
        for row in rows:
            key = (row["trace_id"], row["span_id"])
            self._count(row, new[key] if key in known else row)
        self._changed |= {hash((f.trace_id, f.span_id)) for t in traces.values() for f in t.requests.values()}
        self.outcome.requests = len(self._changed)
        if not self._dry_run:
            following = tables.Tables(connection, to_outbox=outbox.is_wanted(connection))
            following.follow(traces.values())
            table.replace(traces, [list(trace.facts.values()) for trace in traces.values()])
            if self._audited:
                trail.follow(connection, following.spans)

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
    found, model = charge.computed(cast("charge.Counted", SimpleNamespace(**row)), meta.get("problems") or {})
    if isinstance(found, cost.NoPrice) or row["cost_source"] is None:
        return None
    given = row["cost_source"] == "given"
    anew = {name: row[name] for name in _CHARGE} | {"price_version": cost.price_version()}
    known = {key: value for key, value in meta.items() if key not in charge.PRICED_BY}
    anew["meta"] = {**known, **charge.meta(found, model, given=given)}
    if not given:
        amounts = (found.total, found.input, found.cached, found.output)
        anew |= {**dict(zip(_COSTS, amounts, strict=True)), "cost_source": "computed"}
    return anew if any(anew[name] != row[name] for name in _CHARGE) else None


def _recharged(report: Fact) -> tuple[Fact, records.LlmCall]:
    """Return a report of a call with the row that it has by the present price table."""
    call = copy.copy(report.call)
    assert call is not None  # noqa: S101  # only calls are reported
    row = {name: getattr(call, name) for name in records.LlmCall.__dataclass_fields__}
    for name, value in (recharge(row) or {}).items():
        setattr(call, name, value)
    return report, call


_TYPES: Final = (_call.ts.type, _call.id.type)
