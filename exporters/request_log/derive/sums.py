"""Sums over a request's parts: its model calls, and the spans of its stages.

Parts may be added in any order and removed again. Amounts are whole numbers and decimals, so that a sum does not depend
on the order of addition. For each stage, for the whole request, and for each column that calls set on their request,
the value of the part that ended last is used (the span's id decides between parts that ended in the same nanosecond).
"""

from collections.abc import Mapping
from decimal import Decimal
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.derive import tries

if TYPE_CHECKING:
    from otel_telemetry.exporters.request_log.derive.facts import Fact

TOKENS: Final = ("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens")
COSTS: Final = ("cost_usd", "cost_input_usd", "cost_cached_usd", "cost_output_usd")
_FINAL: Final = "final"
#: The request as a whole, among its stages.
_ALL: Final = ""
_tokens: Final = attrgetter(*TOKENS)
_costs: Final = attrgetter(*COSTS)
_NOTHING: Final = Decimal(0)

#: When a part ended, its span's id, and what it says.
Latest = tuple[int, str, "Fact"]


class RequestSum:
    """The sum of a request's parts. A part is a span and, where a counted model call is its, that call's row."""

    __slots__ = (
        *("calls", "costs", "known_costs", "known_tokens", "last", "of_calls", "of_spans", "parts"),
        *("rate_limited", "resent", "sources", "callers", "tokens"),
    )

    def __init__(self) -> None:
        self.parts: dict[str, tuple[Fact, records.LlmCall | None]] = {}
        self.calls = 0
        self.rate_limited = 0
        self.tokens = [0] * len(TOKENS)
        self.known_tokens = [0] * len(TOKENS)
        self.costs = [_NOTHING] * len(COSTS)
        self.known_costs = 0
        self.sources: dict[str, int] = {}
        self.of_spans: dict[str, int] = {}
        self.of_calls: dict[str, int] = {}
        self.last: dict[str, Latest] = {}
        self.callers: dict[str, Latest] = {}
        self.resent: dict[str, Fact] = {}

    def put(self, fact: "Fact", row: records.LlmCall | None) -> None:
        """Add a part."""
        self.parts[fact.span_id] = (fact, row)
        latest_part = (fact.end_ns, fact.span_id, fact)
        if row is not None:
            self._count(row, 1)
            _keep_latest(self.last, _ALL, latest_part)
            if row.retries:
                self.resent[fact.span_id] = fact
        if fact.stage is not None:
            self._time(fact, row, 1)
            if row is not None:
                _keep_latest(self.last, fact.stage, latest_part)
        for column in fact.caller or ():
            _keep_latest(self.callers, column, latest_part)

    def take(self, fact: "Fact") -> None:
        """Take a part back."""
        _, row = self.parts.pop(fact.span_id)
        if row is not None:
            self._count(row, -1)
            self.resent.pop(fact.span_id, None)
        if fact.stage is not None:
            self._time(fact, row, -1)
        for latest in (self.last, self.callers):
            for slot in [slot for slot, latest_part in latest.items() if latest_part[2] is fact]:
                del latest[slot]
                self._find_latest(latest, slot)

    def _count(self, row: records.LlmCall, sign: int) -> None:
        self.calls += sign
        self.rate_limited += sign * row.rate_limited
        tokens, known_tokens, costs = self.tokens, self.known_tokens, self.costs
        for index, amount in enumerate(_tokens(row)):
            if amount is not None:
                tokens[index] += sign * amount
                known_tokens[index] += sign
        if row.cost_usd is not None:
            self.known_costs += sign
            for index, cost in enumerate(_costs(row)):
                if cost is not None:
                    costs[index] += cost if sign == 1 else sign * cost
        if row.cost_source is not None:
            version = f" {row.price_version}" if row.cost_source == "computed" else ""
            source = f"{row.cost_source}{version}"
            self.sources[source] = self.sources.get(source, 0) + sign
            if not self.sources[source]:
                del self.sources[source]

    def _time(self, fact: "Fact", row: records.LlmCall | None, sign: int) -> None:
        """Count the time of a stage: that of its own spans, or else of its calls."""
        lasted = fact.end_ns - fact.start_ns
        stages = self.of_spans if row is None else self.of_calls
        if lasted > 0 and fact.stage is not None:
            stages[fact.stage] = stages.get(fact.stage, 0) + sign * lasted
            if not stages[fact.stage]:
                del stages[fact.stage]

    def _find_latest(self, latest: dict[str, Latest], slot: str) -> None:
        for fact, row in self.parts.values():
            of_caller = slot in (fact.caller or ())
            if of_caller if latest is self.callers else row is not None and slot in (_ALL, fact.stage):
                _keep_latest(latest, slot, (fact.end_ns, fact.span_id, fact))

    @property
    def answer(self) -> records.LlmCall | None:
        """The call that answered the request: the last one of the stage of that name, else the last one."""
        latest_part = self.last.get(_FINAL) or self.last.get(_ALL)
        return self.parts[latest_part[1]][1] if latest_part is not None else None

    @property
    def models(self) -> dict[str, str]:
        """The model of the last call of each stage."""
        rows = {slot: self.parts[latest_part[1]][1] for slot, latest_part in self.last.items() if slot != _ALL}
        return {slot: row.model for slot, row in rows.items() if row is not None and row.model}

    @property
    def stages(self) -> dict[str, float]:
        """How long each stage took, in milliseconds."""
        return {stage: lasted / 1e6 for stage, lasted in {**self.of_calls, **self.of_spans}.items()}

    @property
    def retries(self) -> int:
        """How often a model call of the request was tried again."""
        return tries.count(self.resent.values()) if self.resent else 0

    def known(self) -> dict[str, int]:
        """Return the tokens of each kind of which some part knows the number."""
        counted = zip(TOKENS, self.tokens, self.known_tokens, strict=True)
        return {name: amount for name, amount, known in counted if known}

    def caller_fields(self) -> Mapping[str, str]:
        """Return the request fields that calls set: user, session and conversation."""
        return {column: (each[2].caller or {})[column] for column, each in self.callers.items()}


def _keep_latest(held: dict[str, Latest], slot: str, latest_part: Latest) -> None:
    before = held.get(slot)
    if before is None or latest_part[:2] > before[:2]:
        held[slot] = latest_part
