"""What was committed, as metrics: requests, model calls, how long they took, tokens, cost and calls without a price.

A row counts in the transaction that writes it first, once that is committed, as what it is then: batches that come
twice write nothing, so they count nothing. A request is first written when its own span is there (it names the route,
the outcome, the degraded reason and the duration, none of which changes later); a request that only its model calls
make one, when the first of them is there too. A call is first written when its span or its log record is.

A row may become something else by what comes later: other spans make another model the one that answered, a log record
brings a call's usage, an outer span shows that a request or a call is part of another. It is then taken from what it
counted as and counted as what it is. Counters never go down: what is taken is owed, and the next rows of the same
labels pay for it. So counted = written + owed, in any order of spans, where little is owed and never for long. A
duration that was recorded stays; who pays a debt is not recorded.

Reprice, erasure and retention change rows, not what was counted. What a process counted between the last scrape and
its end is lost, as all counters are: the rows know it.

Labels come from outside, so their number is bounded per store: values and sets of values beyond that are `other`. What
is not known is empty, as in the tables it is NULL.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final

from otel_telemetry import metrics, records
from otel_telemetry.exporters.request_log.node import Node

_log = logging.getLogger("otel_telemetry.request_log")

OTHER: Final = "other"
#: As many values of one label are told apart, and as many sets of values of one metric.
MOST_VALUES: Final = 100
MOST_SETS: Final = 500

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
_USAGE: Final = ("service", "provider", "model")

Values = tuple[str | None, ...]
Words = tuple[str, ...]
Amount = int | Decimal


@dataclass(slots=True)
class _Lot:
    """Rows of one set of labels: how many more than before, of which so many are new, and what these took."""

    rows: int = 0
    new: int = 0
    seconds: list[float] = field(default_factory=list)
    first_byte: list[float] = field(default_factory=list)

    def put(self, milliseconds: float | None, first_byte: float | None) -> None:
        self.rows += 1
        self.new += 1
        if milliseconds is not None:
            self.seconds.append(milliseconds / 1e3)
        if first_byte is not None:
            self.first_byte.append(first_byte / 1e3)

    def merge(self, other: "_Lot") -> None:
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


class Ledger:
    """What one transaction does to the rows that are counted: what it puts there, and what it takes away."""

    def __init__(self) -> None:
        self.requests: dict[Values, _Lot] = {}
        self.calls: dict[Values, _Lot] = {}
        self.usage: dict[Values, _Usage] = {}

    def write_requests(self, nodes: Iterable[Node], rows: Iterable[records.Request]) -> None:
        """Note the rows of requests that are written, new or instead of what they were."""
        for node, row in zip(nodes, rows, strict=True):
            if node.stored_as is None:
                self._request(row, row.model).put(row.latency_ms, row.ttfb_ms)
            elif (before := _model_before(node)) != row.model:
                self._request(row, before).rows -= 1
                self._request(row, row.model).put(row.latency_ms, row.ttfb_ms)

    def withdraw_requests(self, nodes: Iterable[Node], rows: Iterable[records.Request]) -> None:
        """Note that stored spans are no requests any more; `rows` are what these were."""
        for node, row in zip(nodes, rows, strict=True):
            self._request(row, _model_before(node)).rows -= 1

    def _request(self, row: records.Request, model: str | None) -> _Lot:
        key = (row.service, row.route, model, row.degraded, _OUTCOME[row.ok])
        return self.requests.get(key) or self.requests.setdefault(key, _Lot())

    def put_call(self, row: records.LlmCall) -> None:
        """Note a call that is there now, or is as `row` says now."""
        self._call(row).put(row.total_latency_ms, row.ttfb_ms)
        self._use(row, 1)

    def take_call(self, row: records.LlmCall) -> None:
        """Note a call that is there no more, or no more as `row` says."""
        self._call(row).rows -= 1
        self._use(row, -1)

    def _call(self, row: records.LlmCall) -> _Lot:
        key = (row.application, row.provider, row.model, _OUTCOME[row.ok])
        return self.calls.get(key) or self.calls.setdefault(key, _Lot())

    def _use(self, row: records.LlmCall, sign: int) -> None:
        key = (row.application, row.provider, row.model)
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


def _model_before(node: Node) -> str | None:
    """Return which model the stored row of a request says that it answered."""
    model: str | None = (node.facts or {}).get("model", node.answered)
    return model


class _Label:
    """The values of one label: the first that come, and `other`."""

    def __init__(self) -> None:
        self._known: dict[str | None, str] = {None: ""}

    def word(self, value: str | None) -> str:
        found = self._known.get(value)
        if found is None:
            if len(self._known) > MOST_VALUES:
                return OTHER
            found = self._known[value] = value or ""
        return found


class _Labels:
    """The sets of labels of a metric: the first that come, and sets of `other`."""

    def __init__(self, names: Sequence[str], labels: Mapping[str, _Label]) -> None:
        self._names = names
        self._labels = [labels[name] for name in names]
        self._known: set[Words] = set()

    def words(self, values: Values) -> Words:
        words = tuple(label.word(value) for label, value in zip(self._labels, values, strict=True))
        if words not in self._known:
            if len(self._known) >= MOST_SETS:
                return tuple(
                    word if name == "outcome" else OTHER for name, word in zip(self._names, words, strict=True)
                )
            self._known.add(words)
        return words

    def named(self, words: Words) -> dict[str, str]:
        return dict(zip(self._names, words, strict=True))


class Kept:
    """In place of books, in a process that writes for another: what its transactions did, for the other's books.

    A row may be written by one process and changed by another. What is owed has to be paid where the next rows count.
    """

    def __init__(self) -> None:
        self._ledgers: list[Ledger] = []

    def add(self, ledger: Ledger) -> None:
        """Keep what was committed."""
        self._ledgers.append(ledger)

    def take(self) -> list[Ledger]:
        """Return what was kept, and forget it."""
        taken, self._ledgers = self._ledgers, []
        return taken


class Books:
    """What one store has counted since it was made, and what it owes. Used by one thread at a time.

    `budget` is what a day may cost in USD; it is shown beside the cost, for an alert to compare.
    """

    def __init__(self, budget: float | None = None) -> None:
        self._budget = budget
        requests, calls = metrics.request_duration.labels, metrics.llm_call_duration.labels
        labels = {name: _Label() for name in (*requests, *calls)}
        self._requests = _Labels(requests, labels)
        self._calls = _Labels(calls, labels)
        self._usage = _Labels(_USAGE, labels)
        self.owed: dict[Any, Amount] = {}

    def add(self, ledger: Ledger) -> None:
        """Count what was committed. Never raises: the rows are written, whatever becomes of this."""
        try:
            self._add(ledger)
        except Exception:  # noqa: BLE001  # an instrument of the app's own SDK may fail in any way
            metrics.instrumentation_errors.add(1, {"component": "request_log"})
            _log.warning("rows were written, but not counted", exc_info=True)

    def _add(self, ledger: Ledger) -> None:
        if self._budget is not None:
            metrics.cost_budget_per_day_usd.set(self._budget)
        told = metrics.requests, metrics.request_duration, metrics.request_ttfb
        self._add_lots(self._requests, ledger.requests, *told)
        told = metrics.llm_calls, metrics.llm_call_duration, metrics.llm_call_ttfb
        self._add_lots(self._calls, ledger.calls, *told)
        self._add_usage(ledger.usage)

    def _add_lots(self, labels: _Labels, lots: Mapping[Values, _Lot], *told: Any) -> None:
        counter, duration, first_byte = told
        by_words: dict[Words, _Lot] = {}
        for values, lot in lots.items():
            by_words.setdefault(labels.words(values), _Lot()).merge(lot)
        for words, lot in by_words.items():
            counted = self._paid((counter, words), lot.rows)
            if counted:
                counter.add(counted, labels.named(words))
                paying = lot.new - int(counted)
                duration.record_all(lot.seconds[paying:], words)
                first_byte.record_all(lot.first_byte[paying:], words)

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
        counted = self._paid((counter, words), amount)
        if counted:
            counter.add(float(counted) if isinstance(counted, Decimal) else counted, labels)

    def _paid(self, key: Any, amount: Amount) -> Amount:
        """Return what is left of an amount once the debt is paid; what is missing is owed from now on."""
        left = amount - self.owed.pop(key, 0)
        if left < 0:
            self.owed[key] = -left
            return 0
        return left
