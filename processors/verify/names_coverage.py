"""Canaries for names: people and addresses in sentences, in the fields that are searched for names.

The sentences are plain ones, in which the small model of redaction.names finds all names: a leak here means that the
field was not searched. How much a model finds in real sentences is another question (`benchmarks/names.py`).
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from otel_telemetry.base import conventions
from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.otlp_values import pair, to_message
from otel_telemetry.processors.ner.spans import ADDRESS, PERSON
from otel_telemetry.processors.ner.text import NerRedactor
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.verify.coverage import COVERED, LEAKED, UNPROVED, Outcome
from otel_telemetry.processors.verify.planting_otlp import REQUESTS, Slot

_PEOPLE: Final = ("Eleanor Whitfield", "Gregory Halvorsen", "Francesca Moreau", "Harriet Thornton")
_HOMES: Final = ("4821 Maple Grove Avenue, Columbus, OH 43215", "17 Kingfisher Lane, Savannah, GA 31401")
#: Each sentence, what is in it, and its type.
_SENTENCES: Final = (
    *((f"My name is {person} and I need a tent.", person, PERSON) for person in _PEOPLE),
    *((f"Please send it to {home}, thank you.", home, ADDRESS) for home in _HOMES),
)
_MESSAGES: Final = "messages in JSON"
_SHAPES: Final = ("text", "map", "list", _MESSAGES)
_KEYS: Final = (
    *("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.prompt.0.content", "input.value", "app.prompt"),
    *("exception.message", "request_log.query_text", "request_log.note", "request_log.data"),
)
_TRACES: Final[Signal] = "traces"
_LOGS: Final[Signal] = "logs"
_TRACE_ID, _SPAN_ID = b"\x01" * 16, b"\x02" * 8
_SPAN: Final = "resource_spans.scope_spans.spans"
_RECORD: Final = "resource_logs.scope_logs.log_records"
_BODY: Final = f"{_RECORD}.body"


def verify(ner: NerRedactor, redactor: Redactor, service: str) -> Iterator[Outcome]:
    """Yield what became of each name and address that was planted; `service` is whose policy applies."""
    gateway = OtlpRedactor(redactor, ner=ner)
    for signal, slot in _slots(ner, ner.redactor_for(service)):
        for sentence, hidden, kind in _SENTENCES:
            body = _request(signal, slot, service, _shaped(slot.shape, sentence))
            clean = gateway.redact(signal, body)
            yield Outcome(slot, kind, f"ner.{kind.lower()}", _verdict(hidden, body, clean.body, clean.items))


def _slots(ner: NerRedactor, redactor: Redactor) -> Iterator[tuple[Signal, Slot]]:
    for shape in _SHAPES:
        for key in (key for key in _KEYS if ner.applies(key, redactor)):
            for surface, path in ((_TRACES, _SPAN), (_TRACES, f"{_SPAN}.events"), (_LOGS, _RECORD)):
                yield surface, Slot(surface, f"{path}.attributes.value", shape, key)
        if ner.bodies:
            yield _LOGS, Slot(_LOGS, _BODY, shape)


def _shaped(shape: str, sentence: str) -> Any:
    shapes: dict[str, Any] = {
        "text": sentence,
        "map": {"question": [sentence]},
        "list": [sentence, "second"],
        _MESSAGES: json.dumps([{"role": "user", "parts": [{"type": "text", "content": sentence}]}]),
    }
    return shapes[shape]


def _request(signal: Signal, slot: Slot, service: str, value: Any) -> bytes:
    request: Any = REQUESTS[signal]()
    groups, scopes, items = slot.path.split(".")[:3]
    group = getattr(request, groups).add()
    group.resource.attributes.append(pair(conventions.SERVICE_NAME, service))
    item = getattr(getattr(group, scopes).add(), items).add(trace_id=_TRACE_ID, span_id=_SPAN_ID)
    if slot.path == _BODY:
        item.body.CopyFrom(to_message(value))
    else:
        owner = item.events.add(name="asked") if ".events." in slot.path else item
        owner.attributes.append(pair(slot.key, value))
    sent: bytes = request.SerializeToString()
    return sent


def _verdict(hidden: str, given: bytes, left: bytes, items: int) -> str:
    if hidden.encode() not in given or not items:
        return UNPROVED
    words = [word.strip(",.").encode() for word in hidden.split() if len(word) > 3]  # noqa: PLR2004  # `OH`, `17`
    return LEAKED if any(word in left for word in words) else COVERED
