"""The check of `content: drop`: prompts and answers in every place that has attributes, and in messages.

They go through the gateway's redaction and through the SDK's, with the user's rules and policy, and with content
dropped. Attributes that the policy names under `keys` are treated as it says; those that it keeps may come out.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.base import conventions
from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.otlp_values import to_message
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.log import RedactionLogProcessor
from otel_telemetry.processors.metric import MetricRedaction
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.insight import policy_of
from otel_telemetry.processors.redact.policy import Policy
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.span import RedactionSpanProcessor
from otel_telemetry.processors.verify.canaries import Canary
from otel_telemetry.processors.verify.content_canaries import (
    BODIES,
    EVENTS,
    FORMS,
    MESSAGE,
    NAMED,
    NAMES,
    TYPE,
    ContentCanaries,
    words_in,
)
from otel_telemetry.processors.verify.coverage import COVERED, KEPT, LEAKED, UNPROVED, Outcome
from otel_telemetry.processors.verify.planting_otlp import KEY, PLAIN_KEY, REQUESTS, Field, Slot, fields_of
from otel_telemetry.processors.verify.planting_sdk import LOGS, METRICS, SPANS, SdkProbe, holds, slots_of

_EVENTS_PATH: Final = {SPANS: "events", "traces": "resource_spans.scope_spans.spans.events"}
_BODY_PATH: Final = {LOGS: "body", "logs": "resource_logs.scope_logs.log_records.body"}
_TRACE_ID, _SPAN_ID = b"\x01" * 16, b"\x02" * 8


def dropping(settings: RedactionSettings) -> Redactor:
    """Return a redactor with these rules and this policy that drops content."""
    return Redactor(settings.model_copy(update={"content": "drop"}))


def verify(redactor: Redactor, service: str) -> list[Outcome]:
    """Plant, send, and look at what leaves a redactor that drops content; `service` is whose policy applies."""
    policy, canaries = policy_of(redactor.for_service(service)), ContentCanaries()
    outcomes: list[Outcome] = []
    for signal in REQUESTS:
        outcomes += _Otlp(signal, redactor, policy, service).run(canaries)
    probes: tuple[tuple[str, Any], ...] = (
        (SPANS, RedactionSpanProcessor(redactor)),
        (LOGS, RedactionLogProcessor(redactor)),
        (METRICS, MetricRedaction(redactor)),
    )
    for surface, processor in probes:
        outcomes += _sdk(surface, SdkProbe(processor, service), SdkProbe(None, service), policy, canaries)
    return outcomes


def attribute_slots(surface: str, path: str) -> Iterator[Slot]:
    """Yield the places for content in a list of attributes."""
    yield from (Slot(surface, path, NAMED, name) for name in NAMES)
    yield from (Slot(surface, path, shape, PLAIN_KEY) for shape in FORMS)


def body_slots(surface: str) -> Iterator[Slot]:
    """Yield the places in bodies of log records: of any, and of messages."""
    path = _BODY_PATH[surface]
    yield from (Slot(surface, path, shape) for shape, form in FORMS.items() if form.is_sure)
    yield from (Slot(surface, path, MESSAGE, event) for event in BODIES)


def event_slots(surface: str) -> Iterator[Slot]:
    """Yield the messages that are events of spans."""
    yield from (Slot(surface, _EVENTS_PATH[surface], MESSAGE, event) for event in EVENTS)


class _Otlp:
    """One signal of OTLP, as the gateway treats it."""

    def __init__(self, signal: Signal, redactor: Redactor, policy: Policy, service: str) -> None:
        self._signal: Signal = signal
        self._otlp = OtlpRedactor(redactor)
        self._policy = policy
        self._service = service

    def run(self, canaries: ContentCanaries) -> Iterator[Outcome]:
        """Send the attributes of each field in one request, then a request for each message."""
        for field in fields_of(self._signal):
            if any(slot.shape == KEY for slot in field.slots()):
                pairs = [(slot, canaries.draw()) for slot in attribute_slots(self._signal, field.path)]
                yield from self._send(_attributes(self._signal, field, pairs), pairs)
        slots = {"traces": event_slots, "logs": body_slots}.get(self._signal)
        for slot in slots(self._signal) if slots is not None else ():
            pair = (slot, canaries.draw())
            yield from self._send(_message(*pair), [pair])

    def _send(self, request: Any, pairs: Sequence[tuple[Slot, Canary]]) -> Iterator[Outcome]:
        for group in getattr(request, "resource_spans" if self._signal == "traces" else f"resource_{self._signal}"):
            group.resource.attributes.add(key=conventions.SERVICE_NAME, value=to_message(self._service))
        body = request.SerializeToString()
        clean = self._otlp.redact(self._signal, body)
        given, left = words_in(body), None if clean.rejected else words_in(clean.body)
        for slot, canary in pairs:
            yield _outcome(self._policy, slot, canary, given, left)


def _attributes(signal: Signal, field: Field, pairs: Sequence[tuple[Slot, Canary]]) -> Any:
    request = REQUESTS[signal]()
    for slot, canary in pairs:
        field.plant(request, slot, canary.text)
    return request


def _message(slot: Slot, canary: Canary) -> Any:
    text = str(canary.text)
    if slot.surface == "traces":
        traces = ExportTraceServiceRequest()
        span = traces.resource_spans.add().scope_spans.add().spans.add(trace_id=_TRACE_ID, span_id=_SPAN_ID)
        event = span.events.add(name=slot.key)
        for key, value in EVENTS[slot.key](text).items():
            event.attributes.add(key=key, value=to_message(value))
        return traces
    logs = ExportLogsServiceRequest()
    body = BODIES[slot.key](text) if slot.shape == MESSAGE else FORMS[slot.shape].wrap(text)
    logs.resource_logs.add().scope_logs.add().log_records.add(event_name=slot.key, body=to_message(body))
    return logs


def _sdk(surface: str, clean: SdkProbe, raw: SdkProbe, policy: Policy, canaries: ContentCanaries) -> Iterator[Outcome]:
    """One signal of the SDK, with our processor between two exporters."""
    paths = dict.fromkeys(slot.path for slot in slots_of(surface) if slot.shape == KEY)
    slots = [slot for path in paths for slot in attribute_slots(surface, path)]
    slots += event_slots(surface) if surface == SPANS else body_slots(surface) if surface == LOGS else ()
    for slot in slots:
        canary = canaries.draw()
        if holds(slot, canary.text):
            left = clean.leaves(slot, canary.text)
            given = words_in(raw.leaves(slot, canary.text) or b"")
            yield _outcome(policy, slot, canary, given, None if left is None else words_in(left))


def _outcome(policy: Policy, slot: Slot, canary: Canary, given: set[str], left: set[str] | None) -> Outcome:
    """Judge by what went in and what came out (None: nothing came out)."""
    verdict = COVERED
    if left is None or canary.value not in given:
        verdict = UNPROVED
    elif canary.value in left:
        kept = slot.shape != MESSAGE and slot.key and policy.of_key(slot.key) == "keep"
        verdict = KEPT if kept else LEAKED
    return Outcome(slot, TYPE, "", verdict)


__all__ = ["attribute_slots", "body_slots", "dropping", "event_slots", "verify"]
