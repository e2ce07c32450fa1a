"""The leak check: a sample of what leaves is redacted again, item by item; anything that still changes is a leak.

It shares the rules and the policy with the first pass, and nothing else: OTLP is parsed in full and walked by its
descriptors, without the scan of the bytes and the splicing that the first pass relies on. What redaction itself writes
(markers, masks, pseudonyms) and what the policy keeps stays as it is in a second pass, so it is no leak. The work is
bounded, and a check that fails is counted and otherwise without consequence.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_telemetry.base import conventions, metrics
from otel_telemetry.base.descriptors import is_repeated
from otel_telemetry.base.otlp_values import with_all_values
from otel_telemetry.base.redaction_counts import Key, counts
from otel_telemetry.processors.config import LEAK_CHECK_RATIO
from otel_telemetry.processors.redact import finding_counts
from otel_telemetry.processors.redact.redactor import Finding, Redactor

_MOST_ITEMS: Final = 32
"""Spans, log records or metrics that are looked at in one request; they are spread over it evenly."""
_UNNAMED: Final = Finding("ATTRIBUTE", "policy", 0)
"""What a leak is that the policy drops without naming a type."""


class LeakCheck:
    """Decides which records are looked at again, and counts what is found. Thread-safe."""

    def __init__(self, signal: str, ratio: float = LEAK_CHECK_RATIO) -> None:
        """`ratio` of all records are checked, the first one among them; 0 switches the check off."""
        self._signal = signal
        self._every = round(1 / ratio) if ratio > 0 else 0
        self._turns = itertools.count()  # next() on it is one step, whatever the threads

    def due(self) -> bool:
        """Return whether this record is to be checked."""
        return self._every > 0 and next(self._turns) % self._every == 0

    def record(self, redactor: Redactor, record: "Record") -> None:
        """Look at one record of the SDK, and count what is left in it."""
        try:
            found: list[Finding] = []
            for text in record.texts:
                _text(redactor, text, found)
            for value in record.values:
                _value(redactor, value, found)
            for attributes in record.attributes:
                _attributes(redactor, attributes.items(), found)
            self._tell(found)
        except Exception:  # noqa: BLE001  # the record is clean as far as we know: the check must not cost it
            finding_counts.unchecked()

    def request(self, redactor: Redactor, request: Message) -> None:
        """Look at a sample of the items of an OTLP request, and at what they share."""
        try:
            found: list[Finding] = []
            for group in _children(request):
                own = redactor.for_service(_service(group))
                _message(own, group, found)
            self._tell(found)
        except Exception:  # noqa: BLE001  # as above
            finding_counts.unchecked()

    def _tell(self, found: Sequence[Finding]) -> None:
        metrics.leak_checks.add(1, {"signal": self._signal})
        counts.add(Key("leak_check"))
        for type_, number in Counter(finding.type for finding in found).items():
            metrics.leaks.add(number, {"signal": self._signal, "type": type_})
            counts.add(Key("leak", type_), number)


class Record:
    """The strings, values and attributes of one record of the SDK."""

    __slots__ = ("attributes", "texts", "values")

    def __init__(self, texts: Iterable[str | None], attributes: Iterable[Any], values: Iterable[Any] = ()) -> None:
        self.texts = [text for text in texts if text]
        self.attributes = [each for each in attributes if each]
        self.values = list(values)


def _text(redactor: Redactor, text: str, found: list[Finding]) -> None:
    again: list[Finding] = []
    if redactor.string(text, findings=again) != text:
        found += again or [_UNNAMED]


def _value(redactor: Redactor, value: Any, found: list[Finding]) -> None:
    again: list[Finding] = []
    if redactor.value(value, findings=again) != value:
        found += again or [_UNNAMED]


def _attributes(redactor: Redactor, attributes: Iterable[tuple[str, Any]], found: list[Finding]) -> None:
    for key, value in attributes:
        again: list[Finding] = []
        if not finding_counts.is_summary(key, value) and redactor.item(key, value, again) != (key, value):
            found += again or [_UNNAMED]


def _message(redactor: Redactor, message: Message, found: list[Finding]) -> None:
    if isinstance(message, Span) and message.kind in (Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_PRODUCER):
        redactor = redactor.of_caller()
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_STRING:
            for text in value if is_repeated(field) else (value,):
                _text(redactor, text, found)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            _messages(redactor, list(value) if is_repeated(field) else [value], found)


def _messages(redactor: Redactor, messages: Sequence[Any], found: list[Finding]) -> None:
    if isinstance(messages[0], KeyValue):
        _attributes(redactor, ((pair.key, with_all_values(pair.value)) for pair in messages), found)
        return
    for message in messages[:: -(-len(messages) // _MOST_ITEMS)]:
        if isinstance(message, AnyValue):
            _value(redactor, with_all_values(message), found)
        else:
            _message(redactor, message, found)


def _children(request: Any) -> list[Any]:
    """Return a sample of the resources of a request, each with the items that belong to it."""
    groups = next((list(value) for field, value in request.ListFields() if is_repeated(field)), [])
    return groups[:: -(-len(groups) // _MOST_ITEMS)] if groups else []


def _service(group: Any) -> str:
    for attribute in group.resource.attributes:
        if attribute.key == conventions.SERVICE_NAME:
            return str(attribute.value.string_value)
    return conventions.UNKNOWN_SERVICE
