"""Ids that apps give to requests: `request_claim` knows which requests claim them.

An id that an app gave to several requests goes to the first of them in order of trace and span id; the others have ids
of ours. So a request may lose its id to one that comes later, or gain it once another is no request any more.

Several writers may meet at one id, with traces that each of them has for itself. Therefore whoever changes anything
about an id has its row with `place` 0: it inserts that row, or locks it; only one of them can, until it commits. The
row stays when its request is none any more, with empty `trace_id` and `span_id`. Rows are locked, and inserted, in the
order of ids, so that two writers do not wait for each other.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import bulk
from otel_telemetry.exporters.request_log.db.given import GIVEN, ask
from otel_telemetry.exporters.request_log.db.schema import request_claim as table
from otel_telemetry.exporters.request_log.derive.calls import row_id
from otel_telemetry.exporters.request_log.derive.facts import Fact

#: A request: trace id, span id.
Key = tuple[str, str]
_KEY: Final = ("claimed_id", "place")
_NOBODY: Final[Key] = ("", "")
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


def claim_of(fact: Fact) -> str | None:
    """Return the id that the app gave to a request."""
    found: str | None = fact.request_fields.get("id") if fact.request_fields is not None else None
    return found


class _Queries:
    def __init__(self, given: sa.Subquery) -> None:
        joined = given.join(table, table.c.claimed_id == given.c.a)
        self.all = sa.select(table.c.claimed_id, table.c.place, table.c.trace_id, table.c.span_id).select_from(joined)
        first = sa.select(table.c.claimed_id).select_from(joined).where(table.c.place == 0)
        self.lock = first.order_by(table.c.claimed_id).with_for_update(of=table)


_QUERIES: Final = {dialect: _Queries(given) for dialect, given in GIVEN.items()}


class Claims:
    """The holders of the ids in a batch, before it and with it."""

    def __init__(self, connection: sa.Connection, ids: Collection[str]) -> None:
        self._connection = connection
        self._bulk = bulk.bulk(connection)
        self._queries = _QUERIES[connection.dialect.name]
        self._ids = ids
        self._before: dict[str, Key] = {}
        self._after: dict[str, Key] = {}

    def write(self, new: Iterable[Fact], gone: Iterable[Fact]) -> None:
        """Note which requests claim ids from now on, and which do not any more."""
        if not self._ids:
            return
        added: dict[str, dict[Key, datetime]] = {}
        for fact in new:
            if (claim := claim_of(fact)) is not None:
                added.setdefault(claim, {})[fact.trace_id, fact.span_id] = fact.ts
        removed = {(claim, (fact.trace_id, fact.span_id)) for fact in gone if (claim := claim_of(fact)) is not None}
        self._be_alone(added)
        claims: dict[str, dict[Key, int]] = {each: {} for each in self._ids}
        for claim, place, trace_id, span_id in self._ask(self._queries.all, self._ids):
            claims[claim][trace_id, span_id] = place
        for claim, places in claims.items():
            mine = added.get(claim, {})
            self._before |= _first(claim, places.keys() - mine.keys())
            left = {key for key in {*places, *mine} if (claim, key) not in removed}
            self._after |= _first(claim, left)
        self._add(added, claims)
        self._remove(removed, claims)

    def _be_alone(self, added: Mapping[str, Mapping[Key, datetime]]) -> None:
        """Insert or lock the row with place 0 of each id, in the order of ids."""
        locked = self._lock(self._ids)
        while missing := sorted(set(self._ids) - locked):
            rows = []
            for claim in missing:
                key, ts = next(iter(added.get(claim, {}).items()), (_NOBODY, _LONG_AGO))
                rows.append((claim, 0, *key, ts))
            if self._bulk.insert_missing(table, rows) == len(rows):
                return
            locked |= self._lock(missing)  # somebody was faster

    def _lock(self, ids: Collection[str]) -> set[str]:
        return {claim for (claim,) in self._ask(self._queries.lock, ids)}

    def _ask(self, query: sa.Executable, ids: Collection[str]) -> Iterable[Any]:
        found: Iterable[Any] = ask(self._connection, query, [(each, None) for each in ids])
        return found

    def _add(self, added: Mapping[str, Mapping[Key, datetime]], claims: Mapping[str, Mapping[Key, int]]) -> None:
        rows = []
        for claim, mine in added.items():
            place = max(claims[claim].values())
            for key, ts in mine.items():
                if key not in claims[claim]:
                    place += 1
                    rows.append((claim, place, *key, ts))
        self._bulk.insert(table, rows)

    def _remove(self, removed: Iterable[tuple[str, Key]], claims: Mapping[str, Mapping[Key, int]]) -> None:
        rows = [(claim, claims[claim][key]) for claim, key in removed if key in claims[claim]]
        self._bulk.delete(table, _KEY, [row for row in rows if row[1]])
        self._bulk.update(table, _KEY, ("trace_id", "span_id"), [(*row, *_NOBODY) for row in rows if not row[1]])

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


def _first(claim: str, keys: Collection[Key]) -> dict[str, Key]:
    known = [key for key in keys if key != _NOBODY]
    return {claim: min(known)} if known else {}


def _name(fact: Fact, first: Mapping[str, Key]) -> str:
    if first:
        claim, key = claim_of(fact), (fact.trace_id, fact.span_id)
        if claim is not None and first.get(claim) == key:
            return claim
    return row_id(fact.trace_id, fact.span_id)
