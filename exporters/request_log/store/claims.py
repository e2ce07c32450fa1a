"""Ids that apps give to requests: `request_claim` knows which requests claim them.

An id that an app gave to several requests goes to the first of them in order of trace and span id; the others have ids
of ours. So a request may lose its id to one that comes later, or gain it once another is no request any more.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import bulk
from otel_telemetry.exporters.request_log.db.given import GIVEN, ask
from otel_telemetry.exporters.request_log.db.schema import request_claim as table
from otel_telemetry.exporters.request_log.derive.calls import row_id
from otel_telemetry.exporters.request_log.derive.facts import Fact

#: A request: trace id, span id.
Key = tuple[str, str]
_KEY: Final = ("claimed_id", "trace_id", "span_id")


def claim_of(fact: Fact) -> str | None:
    """Return the id that the app gave to a request."""
    found: str | None = fact.request_fields.get("id") if fact.request_fields is not None else None
    return found


class _Queries:
    def __init__(self, given: sa.Subquery) -> None:
        # Trace and span id in one text: a subquery has one column.
        first = (
            sa.select(table.c.trace_id + " " + table.c.span_id)
            .where(table.c.claimed_id == given.c.a)
            .order_by(table.c.trace_id, table.c.span_id)
            .limit(1)
            .scalar_subquery()
        )
        self.first = sa.select(given.c.a, first)


_QUERIES: Final = {dialect: _Queries(given) for dialect, given in GIVEN.items()}


class Claims:
    """The holders of the ids in a batch, before it and with it."""

    def __init__(self, connection: sa.Connection, ids: Collection[str]) -> None:
        self._connection = connection
        self._bulk = bulk.bulk(connection)
        self._ids = ids
        self._before = self._after = self._first()

    def _first(self) -> dict[str, Key]:
        query = _QUERIES[self._connection.dialect.name].first
        rows = ask(self._connection, query, [(each, None) for each in self._ids])
        return {claim: _key(first) for claim, first in rows if first is not None}

    def write(self, new: Iterable[Fact], gone: Iterable[Fact]) -> None:
        """Note which requests claim ids from now on, and which do not any more."""
        added = [(claim, fact.trace_id, fact.span_id, fact.ts) for fact in new if (claim := claim_of(fact)) is not None]
        removed = [(claim, fact.trace_id, fact.span_id) for fact in gone if (claim := claim_of(fact)) is not None]
        self._bulk.delete(table, _KEY, removed)
        self._bulk.insert(table, added)
        if added or removed:
            self._after = self._first()

    def before(self, fact: Fact) -> str:
        """Return the id that a request had before."""
        return _name(fact, self._before)

    def name(self, fact: Fact) -> str:
        """Return the id of a request."""
        return _name(fact, self._after)

    def renamed(self, known: Collection[Key]) -> list[tuple[Key, str, str]]:
        """Return the requests beyond those known here that lose or gain an id: key, old id, new id; losers first."""
        losers, gainers = [], []
        for claim in self._ids:
            old, new = self._before.get(claim), self._after.get(claim)
            if old != new and old is not None and old not in known:
                losers.append((old, claim, row_id(*old)))
            if old != new and new is not None and new not in known:
                gainers.append((new, row_id(*new), claim))
        return [*losers, *gainers]


def _name(fact: Fact, first: Mapping[str, Key]) -> str:
    if first:
        claim, key = claim_of(fact), (fact.trace_id, fact.span_id)
        if claim is not None and first.get(claim) == key:
            return claim
    return row_id(fact.trace_id, fact.span_id)


def _key(text: str) -> Key:
    trace_id, _, span_id = text.partition(" ")
    return trace_id, span_id
