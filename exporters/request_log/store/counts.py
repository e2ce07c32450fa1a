"""Metrics of committed rows: requests, model calls, their durations, tokens, cost and calls without a price.

A row counts when the transaction that first writes it is committed, with the values that it has then: batches that come
twice write nothing, so they count nothing. A request is first written when its own span is there (it has the route, the
outcome, the degraded reason and the duration, none of which changes later); a request that exists only because of its
model calls, when the first of them is there too. A call is first written when its span or its log record is.

Later data may change a row: other spans make another model the one that answered, a log record brings a call's usage,
an outer span shows that a request or a call is part of another. The row is then subtracted under its old labels and
counted under its new ones. Counters never go down: the subtracted amount is a deficit, which the next rows of the same
labels make up. So counted = written + deficit, in any order of spans, and the deficit is small and short-lived. A
recorded duration stays; a row that makes up a deficit records none. A cost that an app sets on a whole request counts
as far as it exceeds that of its calls. Reprice, erasure and retention change rows, not counters. What a process counted
between the last scrape and its end is lost, as with all counters: the rows have it.

Labels come from outside, so their number is limited per store: values and sets of values beyond the limit are `other`.
An unknown value is empty; in the tables it is NULL.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final

from otel_telemetry.base import conventions, metrics, records
from otel_telemetry.base.label_bounds import MOST_SETS, OTHER, Label
from otel_telemetry.exporters.request_log.kpis import measures

_log = logging.getLogger("otel_telemetry.request_log")

_OUTCOME: Final = {True: "ok", False: "error"}
_TOKENS: Final = {
    "prompt_tokens": "prompt",
    "cached_tokens": "cached",
    "cache_write_tokens": "cache_write",
    "completion_tokens": "completion",
    "reasoning_tokens": "reasoning",
}
_tokens: Final = attrgetter(*_TOKENS)
_TYPES: Final = tuple(_TOKENS.values())
_USAGE: Final = ("service", "region", "provider", "model")

Values = tuple[str | None, ...]
Words = tuple[str, ...]
Amount = int | Decimal


@dataclass(slots=True)
class _Bucket:
    """Rows of one set of labels: how many more than before, of which so many are new, and what these took.

    Times are in seconds, each with the id of its trace.
    """

    rows: int = 0
    new: int = 0
    seconds: list[tuple[float, str]] = field(default_factory=list)
    first_byte: list[tuple[float, str]] = field(default_factory=list)

    def put(self, milliseconds: float | None, first_byte: float | None, trace_id: str) -> None:
        self.rows += 1
        self.new += 1
        if milliseconds is not None:
            self.seconds.append((milliseconds / 1e3, trace_id))
        if first_byte is not None:
            self.first_byte.append((first_byte / 1e3, trace_id))

    def merge(self, other: "_Bucket") -> None:
        self.rows += other.rows
        self.new += other.new
        self.seconds += other.seconds
        self.first_byte += other.first_byte


@dataclass(slots=True)
class _Usage:
    """What calls of one model used: tokens by type, dollars, and calls without a price by reason."""

    tokens: dict[str, int] = field(default_factory=dict)
    cost: Decimal = Decimal()
    unpriced: dict[str, int] = field(default_factory=dict)

    def merge(self, other: "_Usage") -> None:
        self.cost += other.cost
        for own, added in ((self.tokens, other.tokens), (self.unpriced, other.unpriced)):
            for name, amount in added.items():
                own[name] = own.get(name, 0) + amount


class CountDelta:
    """What one transaction does to the rows that are counted: what it puts there, and what it takes away."""

    def __init__(self) -> None:
        self.requests: dict[Values, _Bucket] = {}
        self.calls: dict[Values, _Bucket] = {}
        self.usage: dict[Values, _Usage] = {}
        #: Rows before and after, by source and key, where users' own figures are made of them.
        self.rows: dict[str, dict[tuple[str, str], list[Any]]] = {
            source: {} for source in ("requests", "calls") if measures.active.wants(source)
        }

    def put_request(self, row: records.Request, before: records.Request | None) -> None:
        """Note the row of a request that is written, new or instead of what it was."""
        self._follow("requests", row, before, row)
        if before is None:
            self._request(row, row.model).put(row.latency_ms, row.ttfb_ms, row.trace_id)
        elif before.model != row.model:
            self._request(row, before.model).rows -= 1
            self._request(row, row.model).put(row.latency_ms, row.ttfb_ms, row.trace_id)

    def take_request(self, before: records.Request) -> None:
        """Note that a stored span is no request any more; `before` is what it was."""
        self._follow("requests", before, before, None)
        self._request(before, before.model).rows -= 1

    def put_cost(self, row: records.Request, more: Decimal) -> None:
        """Add the cost that an app sets on a request beyond its model calls; a negative amount subtracts."""
        key = (row.service, row.region, row.provider, row.model)
        (self.usage.get(key) or self.usage.setdefault(key, _Usage())).cost += more

    def _request(self, row: records.Request, model: str | None) -> _Bucket:
        outcome = _OUTCOME[row.ok or row.degraded in conventions.SKIPS]
        key = (row.service, row.region, row.route, model, row.degraded, outcome)
        return self.requests.get(key) or self.requests.setdefault(key, _Bucket())

    def put_call(self, row: records.LlmCall) -> None:
        """Count a new call, or a call under its new `row`."""
        self._follow("calls", row, None, row)
        self._call(row).put(row.total_latency_ms, row.ttfb_ms, row.trace_id)
        self._use(row, 1)

    def take_call(self, row: records.LlmCall) -> None:
        """Subtract a call that is gone, or whose `row` changed."""
        self._follow("calls", row, row, None)
        self._call(row).rows -= 1
        self._use(row, -1)

    def _follow(self, source: str, row: Any, before: Any, after: Any) -> None:
        """Keep a row for users' own figures; of one that is written again, what it was first and is last."""
        rows = self.rows.get(source)
        if rows is not None:
            rows.setdefault((row.trace_id, row.span_id), [before, None])[1] = after

    def _call(self, row: records.LlmCall) -> _Bucket:
        key = (row.application, row.region, row.provider, row.model, _OUTCOME[row.ok])
        return self.calls.get(key) or self.calls.setdefault(key, _Bucket())

    def _use(self, row: records.LlmCall, sign: int) -> None:
        key = (row.application, row.region, row.provider, row.model)
        usage = self.usage.get(key) or self.usage.setdefault(key, _Usage())
        tokens = usage.tokens
        for kind, amount in zip(_TYPES, _tokens(row), strict=True):
            if amount:
                tokens[kind] = tokens.get(kind, 0) + sign * amount
        if row.cost_usd:
            usage.cost += sign * row.cost_usd
        elif row.cost_source == "unpriced":
            known = row.prompt_tokens is not None and row.completion_tokens is not None
            reason = "no_price" if known else "no_usage"
            usage.unpriced[reason] = usage.unpriced.get(reason, 0) + sign


class _Labels:
    """The sets of labels of a metric: the first that come, and sets of `other`.

    Where the outcome is one of them, a set comes with all its outcomes: those that have not happened begin at 0, so
    that Prometheus sees the first of them as an increase.
    """

    def __init__(self, names: Sequence[str], labels: Mapping[str, Label]) -> None:
        self._names = names
        self._labels = [labels[name] for name in names]
        self._known: set[Words] = set()
        self._begun: list[Words] = []

    def words(self, values: Values) -> Words:
        words = tuple(label.word(value) for label, value in zip(self._labels, values, strict=True))
        if words not in self._known:
            both = self._with_outcomes(words)
            if len(self._known) + len(both) > MOST_SETS:
                return tuple(
                    word if name == "outcome" else OTHER for name, word in zip(self._names, words, strict=True)
                )
            self._known.update(both)
            self._begun += both
        return words

    def begun(self) -> list[Words]:
        """Return the sets that are new since the last time."""
        begun, self._begun = self._begun, []
        return begun

    def _with_outcomes(self, words: Words) -> list[Words]:
        if self._names[-1] != "outcome":
            return [words]
        return [(*words[:-1], outcome) for outcome in _OUTCOME.values()]

    def named(self, words: Words) -> dict[str, str]:
        return dict(zip(self._names, words, strict=True))


class DeferredCounters:
    """In place of books, in a process that writes for another: what its transactions did, for the other's books.

    A row may be written by one process and changed by another. What is owed has to be paid where the next rows count.
    """

    def __init__(self) -> None:
        self._deltas: list[CountDelta] = []

    def add(self, delta: CountDelta) -> None:
        """Keep what was committed."""
        self._deltas.append(delta)

    def take(self) -> list[CountDelta]:
        """Return what was kept, and forget it."""
        taken, self._deltas = self._deltas, []
        return taken


class Counters:
    """What one store has counted since it was made, and what it owes. Used by one thread at a time.

    `budget` is what a day may cost in USD; it is shown beside the cost, for an alert to compare.
    """

    def __init__(self, budget: float | None = None) -> None:
        if budget is not None:
            metrics.cost_budget_per_day_usd.set(budget)
        requests, calls = metrics.request_duration.labels, metrics.llm_call_duration.labels
        labels = {name: Label() for name in (*requests, *calls)}
        self._requests = _Labels(requests, labels)
        self._calls = _Labels(calls, labels)
        self._usage = _Labels(_USAGE, labels)
        self.deficit: dict[Any, Amount] = {}

    def add(self, delta: CountDelta) -> None:
        """Count what was committed. Never raises: the rows are written, whatever becomes of this."""
        try:
            self._add(delta)
        except Exception:  # noqa: BLE001  # an instrument of the app's own SDK may fail in any way
            metrics.instrumentation_errors.add(1, {"component": "request_log"})
            _log.warning("rows were written, but not counted", exc_info=True)

    def _add(self, delta: CountDelta) -> None:
        instruments = metrics.requests, metrics.request_duration, metrics.request_ttfb
        self._add_buckets(self._requests, delta.requests, *instruments)
        instruments = metrics.llm_calls, metrics.llm_call_duration, metrics.llm_call_ttfb
        self._add_buckets(self._calls, delta.calls, *instruments)
        self._add_usage(delta.usage)
        for source, rows in delta.rows.items():
            measures.active.changed(source, [(before, after) for before, after in rows.values()])

    def _add_buckets(self, labels: _Labels, buckets: Mapping[Values, _Bucket], *instruments: Any) -> None:
        counter, duration, first_byte = instruments
        by_words: dict[Words, _Bucket] = {}
        for values, bucket in buckets.items():
            by_words.setdefault(labels.words(values), _Bucket()).merge(bucket)
        for words in labels.begun():
            counter.add(0, labels.named(words))
        for words, bucket in by_words.items():
            counted = self._after_deficit((counter, words), bucket.rows)
            if counted:
                counter.add(counted, labels.named(words))
                already_counted = bucket.new - int(counted)
                duration.record_all(bucket.seconds[already_counted:], words)
                first_byte.record_all(bucket.first_byte[already_counted:], words)

    def _add_usage(self, usage: Mapping[Values, _Usage]) -> None:
        by_words: dict[Words, _Usage] = {}
        for values, used in usage.items():
            by_words.setdefault(self._usage.words(values), _Usage()).merge(used)
        for words, used in by_words.items():
            named = self._usage.named(words)
            self._count(metrics.cost_usd, words, named, used.cost)
            for kind, amount in used.tokens.items():
                self._count(metrics.tokens, (*words, kind), {**named, "type": kind}, amount)
            for reason, amount in used.unpriced.items():
                self._count(metrics.unpriced_calls, (*words, reason), {**named, "reason": reason}, amount)

    def _count(self, counter: Any, words: Words, labels: dict[str, str], amount: Amount) -> None:
        counted = self._after_deficit((counter, words), amount)
        if counted:
            counter.add(float(counted) if isinstance(counted, Decimal) else counted, labels)

    def _after_deficit(self, key: Any, amount: Amount) -> Amount:
        """Return what is left of an amount once the debt is paid; what is missing is owed from now on."""
        left = amount - self.deficit.pop(key, 0)
        if left < 0:
            self.deficit[key] = -left
            return 0
        return left
