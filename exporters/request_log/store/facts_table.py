"""Reads, adds and replaces the facts of traces: rows of `trace_facts`.

Rows are added, never changed: code that has to change the facts of a trace (erase.py, scan.py, reprice.py,
retention.py) replaces all its rows by one new row. So a trace is unchanged since it was read if the number of its rows
is the same and the newest row is the same one.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import bulk
from otel_telemetry.exporters.request_log.db.given import GIVEN, ask
from otel_telemetry.exporters.request_log.db.schema import trace_facts as table
from otel_telemetry.exporters.request_log.derive import chunks, requests
from otel_telemetry.exporters.request_log.derive.facts import Fact, IrrelevantSpan

#: Rows that are read at a time by who goes through all: each stands for many.
PAGE: Final = 100


class TraceVersion(NamedTuple):
    """By which a trace is known to be as it was: its newest row, and how many there are."""

    newest: int
    rows: int


class _Queries:
    def __init__(self, given: sa.Subquery) -> None:
        key = sa.cast(given.c.a, sa.BigInteger)
        joined = given.join(table, table.c.trace_key == key)
        self.rows = sa.select(table.c.id, table.c.body).select_from(joined).order_by(table.c.id)
        newest, count = sa.func.max(table.c.id), sa.func.count()
        self.marks = sa.select(table.c.trace_key, newest, count).select_from(joined).group_by(table.c.trace_key)


_QUERIES: Final = {dialect: _Queries(given) for dialect, given in GIVEN.items()}


class FactsTable:
    """The table, through one connection."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._bulk = bulk.bulk(connection)
        self._queries = _QUERIES[connection.dialect.name]

    def of(self, traces: Collection[str]) -> dict[str, list[Fact]]:
        """Return what is known of these traces, as far as something is: the first of each span counts."""
        found: dict[str, dict[str, Fact]] = {}
        for _, body in self._ask(self._queries.rows, traces):
            facts = chunks.load(body)
            if facts[0].trace_id in traces:  # several may have one number
                known = found.setdefault(facts[0].trace_id, {})
                for fact in facts:
                    known.setdefault(fact.span_id, fact)
        return {trace_id: list(known.values()) for trace_id, known in found.items()}

    def marks(self, traces: Collection[str]) -> dict[str, TraceVersion]:
        """Return by what these traces are known to be as they were."""
        by_key = {chunks.trace_key(trace_id): trace_id for trace_id in traces}
        rows = self._ask(self._queries.marks, traces)
        return {by_key[key]: TraceVersion(newest, count) for key, newest, count in rows}

    def _ask(self, query: sa.Executable, traces: Collection[str]) -> Any:
        return ask(self._connection, query, [(str(chunks.trace_key(trace_id)), None) for trace_id in traces])

    def insert(self, facts: Iterable[Sequence[Fact | IrrelevantSpan]]) -> None:
        """Add a row with the new facts of each trace."""
        self._bulk.insert(table, map(chunks.row, facts))

    def replace(self, traces: Collection[str], facts: Iterable[Sequence[Fact]]) -> None:
        """Replace all facts of these traces by the given ones; traces without any lose theirs."""
        rows = self._ask(self._queries.rows, traces)
        old = [(number,) for number, body in rows if chunks.load(body)[0].trace_id in traces]
        self._bulk.delete(table, ("id",), old)
        self.insert(facts)

    def clear_texts(self, before: datetime) -> int:
        """Remove the texts of a page of rows that are older; return how many rows that were."""
        old = sa.select(table.c.id, table.c.body).where(table.c.ts < before, table.c.has_text)
        rows = self._connection.execute(old.order_by(table.c.ts).limit(PAGE)).all()
        self._bulk.delete(table, ("id",), [(number,) for number, _ in rows])
        self.insert([[_without_texts(fact) for fact in chunks.load(body)] for _, body in rows])
        return len(rows)


def _without_texts(fact: Fact) -> Fact:
    if fact.request_fields is not None:
        fact.request_fields = {
            name: value for name, value in fact.request_fields.items() if name not in requests.TEXT_COLUMNS
        } or None
    if fact.call is not None:
        fact.call.chat_request = fact.call.chat_response = None
    return fact
