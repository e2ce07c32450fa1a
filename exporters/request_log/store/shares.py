"""What is to be written, by bucket of traces: each transaction takes what nobody else is writing.

On PostgreSQL several processes write at a time. Where they meet, a large batch is written in several transactions, so
that others get their turn at its buckets. SQLite has one writer at a time, which takes everything at once.
"""

from collections.abc import Sequence
from typing import Any, Final, Generic, TypeVar

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import postgres
from otel_telemetry.exporters.request_log.derive.chunks import trace_key
from otel_telemetry.exporters.request_log.derive.facts import Fact, IrrelevantSpan

#: A transaction takes so much of what there is, and so many items at least.
_PART: Final = 4
_LEAST: Final = 1_000
_OF_TRACES: Final = (Fact, IrrelevantSpan)

Pair = TypeVar("Pair", bound=tuple[Any, Any])


class Shares(Generic[Pair]):
    """Pairs of what is to be written and what it was made of, as far as they are not written yet."""

    def __init__(self, pairs: Sequence[Pair], first: int, *, beside_others: bool) -> None:
        """Begin with the bucket `first`, where there are buckets: writers that begin with different ones meet less.

        Who has met others lately takes a part at a time.
        """
        self._pairs = pairs
        self._first = first
        self._buckets: dict[int, list[Pair]] | None = None
        self._enough = max(_LEAST, len(pairs) // _PART) if beside_others else max(1, len(pairs))
        #: Whether another writer had something of it.
        self.met = False

    def __bool__(self) -> bool:
        return bool(self._pairs if self._buckets is None else self._buckets)

    def take(self, connection: sa.Connection) -> Sequence[Pair]:
        """Return what this transaction is to write, locked until it ends. It is not returned again."""
        if connection.dialect.name != "postgresql":
            pairs, self._pairs = self._pairs, ()
            return pairs
        if self._buckets is None:
            self._buckets = self._by_bucket()
        sizes = {bucket: len(pairs) for bucket, pairs in self._buckets.items()}
        taken, met = postgres.take(connection, sizes, self._enough)
        self.met = self.met or met
        return [pair for bucket in taken for pair in self._buckets.pop(bucket)]

    def rest(self) -> Sequence[Pair]:
        """Return all that is left, which is not returned again."""
        left = self._pairs if self._buckets is None else [pair for of in self._buckets.values() for pair in of]
        self._pairs, self._buckets = (), None
        return left

    def _by_bucket(self) -> dict[int, list[Pair]]:
        found: dict[int, list[Pair]] = {}
        by_trace: dict[str | None, list[Pair]] = {}
        for pair in self._pairs:
            item = pair[0]
            trace_id = item.trace_id if isinstance(item, _OF_TRACES) else None
            of_bucket = by_trace.get(trace_id)
            if of_bucket is None:
                of_bucket = by_trace[trace_id] = found.setdefault(_bucket_of(trace_id), [])
            of_bucket.append(pair)
        return {bucket: found[bucket] for bucket in sorted(found, key=lambda each: (each < self._first, each))}


def _bucket_of(trace_id: str | None) -> int:
    return postgres.EVENTS if trace_id is None else trace_key(trace_id) % postgres.BUCKETS
