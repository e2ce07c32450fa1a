"""The coverage check: canaries in every place that telemetry has, sent through the current redaction.

A place is *covered* if its canary is gone from everything that leaves, *kept* if the policy allows it to stay (safe
names, `keep`), and *leaked* otherwise. A canary that could not be inserted or never came out proves nothing, and is
reported as such.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from otel_telemetry.base import conventions
from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.otlp_values import to_message
from otel_telemetry.processors.detect.ruleset import Rule
from otel_telemetry.processors.log import RedactionLogProcessor
from otel_telemetry.processors.metric import MetricRedaction
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact import finding_counts
from otel_telemetry.processors.redact.insight import policy_of
from otel_telemetry.processors.redact.policy import HASHED_KEYS, IP, Policy, is_content, is_safe
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.span import RedactionSpanProcessor
from otel_telemetry.processors.verify.canaries import Canaries, Canary
from otel_telemetry.processors.verify.hard_canaries import HardCanaries
from otel_telemetry.processors.verify.planting_otlp import CLIENT, NUMBER_SHAPES, REQUESTS, Field, Slot, fields_of
from otel_telemetry.processors.verify.planting_sdk import LOGS, METRICS, SPANS, SdkProbe, holds, slots_of

COVERED: Final = "covered"
KEPT: Final = "kept"
LEAKED: Final = "leaked"
UNPROVED: Final = "unproved"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one canary."""

    slot: Slot
    type: str
    rule: str
    verdict: str
    found_in: str = ""
    """The column of a table that holds it, where it leaked into one."""


@dataclass(slots=True)
class CoverageReport:
    """Everything that a run found out."""

    rules: int
    engine: str
    outcomes: list[Outcome] = field(default_factory=list)
    content: list[Outcome] = field(default_factory=list)
    """What became of prompts and answers."""

    def count(self, verdict: str, outcomes: Sequence[Outcome] | None = None) -> int:
        """Return how many canaries met one fate."""
        return sum(outcome.verdict == verdict for outcome in (self.outcomes if outcomes is None else outcomes))

    def of(self, verdict: str) -> list[Outcome]:
        """Return the canaries that met one fate."""
        return [outcome for outcome in self.outcomes if outcome.verdict == verdict]

    @property
    def proved(self) -> bool:
        """True where no value leaked and every place was really tried."""
        return not self.of(LEAKED) and not self.of(UNPROVED)

    @property
    def content_proved(self) -> bool:
        """The same of prompts and answers."""
        return all(outcome.verdict in (COVERED, KEPT) for outcome in self.content)

    def by_type(self) -> dict[str, list[Outcome]]:
        """Return the outcomes by type of canary."""
        groups: dict[str, list[Outcome]] = {}
        for outcome in sorted(self.outcomes, key=lambda o: o.type):
            groups.setdefault(outcome.type, []).append(outcome)
        return groups


def verify(redactor: Redactor, rules: Sequence[Rule], service: str = finding_counts.SELF_TEST) -> CoverageReport:
    """Plant, send, and look at what leaves; `service` is whose overrides of the policy apply."""
    report = CoverageReport(len(rules), redactor.engine)
    own = redactor.for_service(service)
    canaries, hard = Canaries(rules), HardCanaries()
    for signal in REQUESTS:
        report.outcomes += _Otlp(signal, OtlpRedactor(redactor), policy_of(own), service).run(canaries, hard)
    probes: tuple[tuple[str, Any], ...] = (
        (SPANS, RedactionSpanProcessor(redactor)),
        (LOGS, RedactionLogProcessor(redactor)),
        (METRICS, MetricRedaction(redactor)),
    )
    for surface, processor in probes:
        report.outcomes += _sdk(surface, processor, policy_of(own), service, canaries=canaries, hard=hard)
    order = {field: n for n, field in enumerate(dict.fromkeys((o.slot.surface, o.slot.path) for o in report.outcomes))}
    report.outcomes.sort(key=lambda o: order[o.slot.surface, o.slot.path])
    return report


def kept_on_purpose(policy: Policy, slot: Slot, canary: Canary) -> bool:
    """Return whether the policy lets a value of that type stand in that place."""
    type_ = canary.type
    if slot.key:
        action = policy.of_key(slot.key) if slot.shape != "named in map" else None
        if action is not None:
            return action == "keep"
        if is_safe(slot.key) or (policy.content == "keep" and is_content(slot.key)):
            return True
        if any(action == "keep" for _, action in policy.paths_of(slot.key)):
            return True
    if slot.key in HASHED_KEYS and slot.shape != "named in map":
        return policy.types.get(type_, "hash") == "keep"
    return policy.of(type_, str(canary.value)) == "keep"


def _planted(slots: Sequence[Slot], canaries: Canaries, type_: str) -> Iterator[tuple[Slot, Canary]]:
    """Pair each place that can hold text of a type with its canary."""
    for slot in slots:
        if not slot.by_name and not slot.is_hard and (slot.shape != CLIENT or type_ == IP):
            yield slot, canaries.of(type_)


def _named(slots: Sequence[Slot], canaries: Canaries) -> Iterator[tuple[Slot, Canary]]:
    """Pair each place that only its name gives away with a word or number."""
    for slot in slots:
        if slot.shape in NUMBER_SHAPES:
            yield slot, canaries.number(slot.key, floating=slot.shape == "named float")
        elif slot.by_name:
            yield slot, canaries.named(slot.key)


def _hard(slots: Sequence[Slot], canaries: HardCanaries) -> Iterator[tuple[Slot, Canary]]:
    """Pair each place for a form that rules made of examples miss with its canary."""
    for slot in slots:
        if slot.is_hard:
            yield slot, canaries.of(slot.shape)


class _Otlp:
    """One signal of OTLP, as the gateway treats it."""

    def __init__(self, signal: Signal, otlp: OtlpRedactor, policy: Policy, service: str) -> None:
        self._signal: Signal = signal
        self._otlp = otlp
        self._policy = policy
        self._service = service
        self._fields: dict[Slot, Field] = {slot: field for field in fields_of(signal) for slot in field.slots()}

    def run(self, canaries: Canaries, hard: HardCanaries) -> Iterator[Outcome]:
        slots = list(self._fields)
        for pairs in (
            *(list(_planted(slots, canaries, type_)) for type_ in canaries.types),
            list(_named(slots, canaries)),
            list(_hard(slots, hard)),
        ):
            yield from self._send([pair for pair in pairs if pair[1].unique and not self._fields[pair[0]].own_id])
            for pair in pairs:
                if not pair[1].unique or self._fields[pair[0]].own_id:
                    yield from self._send([pair])

    def _send(self, pairs: Sequence[tuple[Slot, Canary]]) -> Iterator[Outcome]:
        """Send all of them in one request."""
        request: Any = REQUESTS[self._signal]()
        for slot, canary in pairs:
            self._fields[slot].plant(request, slot, canary.text)
        for group in getattr(request, f"resource_{_plural(self._signal)}"):
            group.resource.attributes.add(key=conventions.SERVICE_NAME, value=to_message(self._service))
        body = request.SerializeToString()
        clean = self._otlp.redact(self._signal, body)
        refused = clean.rejected and not all(self._fields[slot].own_id for slot, _ in pairs)
        for slot, canary in pairs:
            verdict = _verdict(self._policy, slot, canary, body, None if refused else clean.body)
            yield Outcome(slot, canary.type, canary.rule, verdict)


def _plural(signal: Signal) -> str:
    return "spans" if signal == "traces" else signal


def _sdk(
    surface: str, processor: Any, policy: Policy, service: str, *, canaries: Canaries, hard: HardCanaries
) -> Iterator[Outcome]:
    """One signal of the SDK, with our processor between two exporters."""
    slots = list(slots_of(surface))
    clean, raw = SdkProbe(processor, service), SdkProbe(None, service)
    planted = (_planted(slots, canaries, type_) for type_ in canaries.types)
    for pairs in (*planted, _named(slots, canaries), _hard(slots, hard)):
        for slot, canary in pairs:
            if holds(slot, canary.text):
                given = raw.leaves(slot, canary.text) or b""
                verdict = _verdict(policy, slot, canary, given, clean.leaves(slot, canary.text))
                yield Outcome(slot, canary.type, canary.rule, verdict)


def _verdict(policy: Policy, slot: Slot, canary: Canary, given: bytes, left: bytes | None) -> str:
    """Judge by what went in and what came out (None: nothing came out)."""
    if left is None or not canary.found_in(given):
        return UNPROVED
    if not canary.found_in(left):
        return COVERED
    return KEPT if kept_on_purpose(policy, slot, canary) else LEAKED
