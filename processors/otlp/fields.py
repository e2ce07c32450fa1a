"""The strings inside one OTLP message, found by its descriptor and cleaned where a hit falls into them."""

import contextlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue as AnyValueMessage
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_telemetry.base.descriptors import is_repeated
from otel_telemetry.base.otlp_values import repeats_keys, to_message, to_python
from otel_telemetry.processors.detect.names.client_names import PEER_KEYS
from otel_telemetry.processors.otlp import wire
from otel_telemetry.processors.redact import content_rules, finding_counts
from otel_telemetry.processors.redact.redactor import Finding, Located, Redactor
from otel_telemetry.processors.redact.rewrite import Findings

#: What is cleaned as a whole, as a name decides what becomes of its value.
_VALUES: Final[dict[str, Any]] = {kind.DESCRIPTOR.full_name: kind for kind in (KeyValue, AnyValueMessage)}
_PIECE: Final = 1 << 20  # bytes scanned at a time: a larger one gains nothing, a smaller one costs more calls
_DELIMITED: Final = (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
#: What has a name that can say that its attributes, or its body, are a prompt or an answer.
_EVENTS: Final[dict[str, Any]] = {kind.DESCRIPTOR.full_name: kind for kind in (Span.Event, LogRecord)}
_KIND: Final = Span.DESCRIPTOR.fields_by_name["kind"].number
_CALLING: Final = (Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_PRODUCER)
_NOTHING: Final[Located] = (), None
_NAME, _VALUE = 1, 2  # fields of a KeyValue, and of an entry of a map
_LONGEST_ID: Final = 16  # bytes: a trace's
_KEY_OFFSET: Final = 2  # of a KeyValue whose key has fewer than 128 bytes
_DROP: Final = object()
"""What a cleaned field is when the policy drops it."""


class Hits:
    """Where in a buffer a redaction rule may apply, as `scan` (Redactor.located) says.

    The buffer is scanned piece by piece, ahead of the fields that are asked about: what a scan returns is many times
    larger than what it found, so that of a large request there is only one piece's at a time.
    """

    __slots__ = ("_buffer", "_end", "_ends", "_places", "_scan", "_start")

    def __init__(self, scan: Callable[[bytes], Located], buffer: bytes) -> None:
        self._scan = scan
        self._buffer = buffer
        self._start = self._end = 0
        self._ends, self._places = _NOTHING

    def within(self, field: wire.Field) -> bool:
        """Return whether a hit ends in the field's payload."""
        _, _, _, start, end = field
        if start < self._start or end > self._end:
            self._look_ahead(field)
        ends = self._ends
        position = bisect_right(ends, start - self._start)
        return position < len(ends) and ends[position] <= end - self._start

    def touched(self, start: int, end: int) -> Iterator[wire.Field]:
        """Yield the fields of the message in `buffer[start:end]` in whose payload a hit ends."""
        if start < self._start or end > self._end:
            return filter(self.within, wire.fields(self._buffer, start, end))
        ends, base = self._ends, self._start
        marks = ends[bisect_right(ends, start - base) : bisect_right(ends, end - base)]
        if not marks:
            return iter(())
        return wire.fields(self._buffer, start, end, _moved(marks, base) if base else marks)

    def _look_ahead(self, field: wire.Field) -> None:
        """Scan a piece that begins with a field and holds at least all of it."""
        size = len(self._buffer)
        self._start = field.start if size > _PIECE else 0
        self._end = min(size, max(field.end, self._start + _PIECE))
        self._ends, self._places = self._scan(self._buffer[self._start : self._end])

    def of(self, redactor: Redactor, field: wire.Field, key: str, text: str) -> Findings | None:
        """Return findings, none yet, for an attribute of a text in a field; None where it has to be scanned by itself.

        That is where key and text do not stand where senders write them: at the beginning, and at the end.
        """
        name, data = key.encode(), text.encode()
        key_at, text_at = field.start + _KEY_OFFSET, field.end - len(data)
        if self._places is None or field.start < self._start or field.end > self._end:
            return None
        if not (self._buffer.startswith(name, key_at) and self._buffer.startswith(data, text_at)):
            return None
        key_at, text_at = key_at - self._start, text_at - self._start
        spans = {key: (key_at, key_at + len(name)), text: (text_at, text_at + len(data))}
        return redactor.placed(self._places, spans)


def _moved(marks: Sequence[int], base: int) -> Sequence[int]:
    """Return marks of a piece as places in the whole buffer; where every place is one, they stay a range."""
    if isinstance(marks, range):
        return range(marks.start + base, marks.stop + base)
    return [mark + base for mark in marks]


class Cleaner:
    """Cleans messages of one buffer for one service.

    `findings` collects the findings. `span` is the position of the span that is being cleaned, or None: its kind
    decides whether its addresses belong to clients or servers.
    """

    def __init__(self, redactor: Redactor, buffer: bytes, hits: Hits, findings: list[Finding]) -> None:
        self._redactor = redactor
        self._buffer = buffer
        self._hits = hits
        self.findings = findings
        self.span: tuple[int, int] | None = None
        self._asked_of: tuple[int, int] | None = None
        self._calls = False
        self._event = ""
        self._of_model = False

    def message(self, start: int, end: int, descriptor: Descriptor, *, only_unknown: bool = False) -> bytes | None:
        """Return the new bytes of the message in `buffer[start:end]`, or None where nothing in it changed.

        `only_unknown` passes over the strings that the descriptor knows (those of attributes are cleaned as a whole).
        """
        if self._redactor.drops_content and not only_unknown and descriptor.full_name in _EVENTS:
            return self._event_message(start, end, descriptor)
        splice = wire.Splice(self._buffer, start, end)
        for field in self._hits.touched(start, end):
            self.replace(field, descriptor, splice, only_unknown=only_unknown)
        return splice.result()

    def _event_message(self, start: int, end: int, descriptor: Descriptor) -> bytes | None:
        """Clean a span event or log record, whose name may say that it is content, which the policy drops."""
        self._event, self._of_model = _event_name(_EVENTS[descriptor.full_name].FromString(self._buffer[start:end]))
        whole = content_rules.is_message(self._event)
        splice = wire.Splice(self._buffer, start, end)
        for field in wire.fields(self._buffer, start, end):
            if whole or self._hits.within(field):
                self.replace(field, descriptor, splice)
        self._event, self._of_model = "", False
        return splice.result()

    def replace(
        self, field: wire.Field, descriptor: Descriptor, splice: wire.Splice, *, only_unknown: bool = False
    ) -> None:
        """Clean one field of a message and put the result in its place."""
        payload = self._payload(field, descriptor.fields_by_number.get(field.number), only_unknown=only_unknown)
        if payload is _DROP:
            splice.replace(field, None)
        elif payload is not None:
            splice.replace(field, payload)

    def _payload(self, field: wire.Field, known: FieldDescriptor | None, *, only_unknown: bool) -> Any:
        if known is None or field.wire_type != wire.LENGTH_DELIMITED or not _may_be_delimited(known):
            return self.unknown(field)
        if known.type == FieldDescriptor.TYPE_MESSAGE:
            inner: Any = known.message_type
            return self._inner_message(field, inner, only_unknown=only_unknown)
        if known.type == FieldDescriptor.TYPE_STRING:
            return None if only_unknown else self._string(field)
        return None if only_unknown else self._id(field)

    def _inner_message(self, field: wire.Field, descriptor: Descriptor, *, only_unknown: bool) -> Any:
        kind = None if only_unknown else _VALUES.get(descriptor.full_name)
        if kind is None:
            return self.message(field.start, field.end, descriptor, only_unknown=only_unknown)
        payload = self._buffer[field.start : field.end]
        parsed = kind.FromString(payload)
        changed = None
        if _lacks(parsed, len(payload)):
            changed = self.message(field.start, field.end, descriptor, only_unknown=True)
            parsed = kind.FromString(payload if changed is None else changed)
            changed = parsed.SerializeToString()  # without the values that a later one of the same field replaces
        whole = self._key_value(parsed, field) if kind is KeyValue else self._any_value(parsed)
        return changed if whole is None else whole

    def _key_value(self, attribute: Any, field: wire.Field) -> Any:
        value = to_python(attribute.value)
        if finding_counts.is_summary(attribute.key, value):
            return None
        calling = attribute.key in PEER_KEYS and not self._event and self._is_calling()
        redactor = self._redactor.of_caller() if calling else self._redactor
        findings: list[Finding] | None = None
        if isinstance(value, str):
            findings = self._hits.of(redactor, field, attribute.key, value)
        elif isinstance(value, dict | list):
            findings = redactor.scanned(attribute.key, value)
        if findings is None:
            findings = []
        item = redactor.item_of(self._event, attribute.key, value, findings)
        self.findings += findings
        if item is None:
            return _DROP
        lost = isinstance(value, dict | list) and repeats_keys(attribute.value)  # values that nobody has looked at
        if item[0] == attribute.key and item[1] is value and not lost:
            return None
        attribute.key = item[0]
        if item[1] is not value or lost:
            attribute.value.CopyFrom(to_message(item[1]))
        return attribute.SerializeToString()

    def _is_calling(self) -> bool:
        """Return whether the item is a span that calls somebody."""
        if self.span is None:
            return False
        if self._asked_of != self.span:  # once for all of its attributes: it reads the whole span
            kinds = [field for field in wire.fields(self._buffer, *self.span) if field.number == _KIND]
            known = bool(kinds) and kinds[-1].wire_type == wire.VARINT
            self._asked_of, self._calls = self.span, known and self._buffer[kinds[-1].start] in _CALLING
        return self._calls

    def _any_value(self, message: Any) -> bytes | None:
        value = to_python(message)
        clean = self._redactor.body(value, self._event, self.findings, of_model=self._of_model)
        lost = isinstance(value, dict | list) and repeats_keys(message)
        return None if clean is value and not lost else to_message(clean).SerializeToString()

    def _string(self, field: wire.Field) -> bytes | None:
        text = self._buffer[field.start : field.end].decode()
        clean = self._redactor.string(text, findings=self.findings)
        return None if clean == text else clean.encode()

    def _id(self, field: wire.Field) -> Any:
        """Leave out an id that is, or holds, a text to be redacted.

        Random bytes are next to never UTF-8 with a finding. What is longer than any id is read whatever it is.
        """
        try:
            return None if self._string(field) is None else _DROP
        except UnicodeDecodeError:
            data = self._buffer[field.start : field.end]
            if len(data) <= _LONGEST_ID:
                return None
            return None if self._redactor.value(data, findings=self.findings) is data else _DROP

    def unknown(self, field: wire.Field) -> bytes | None:
        """Clean a field that no descriptor knows, or not with this wire type.

        What has a length may be a message, a text or both: its parts are cleaned first, then all of it as a text. A
        group (a deprecated encoding that no OTLP field has) is emptied, and so is a number of eight bytes that are a
        text with a finding.
        """
        parts = self._unknown_part(field)
        if field.wire_type != wire.LENGTH_DELIMITED:
            return parts
        data = self._buffer[field.start : field.end] if parts is None else parts
        clean: Any = self._redactor.value(data, findings=self.findings)
        return parts if clean is data else clean

    def _unknown_part(self, field: wire.Field) -> bytes | None:
        if field.wire_type == wire.START_GROUP:
            return b""
        if field.wire_type == wire.FIXED64:
            return None if self._id(field) is None else b""
        if field.wire_type != wire.LENGTH_DELIMITED:
            return None
        splice = wire.Splice(self._buffer, field.start, field.end)
        with contextlib.suppress(wire.NotWire):
            parts = list(wire.fields(self._buffer, field.start, field.end))
            names = (
                [name for name in map(self._text, parts) if name] if any(part.holds(_VALUE) for part in parts) else []
            )
            for part in parts:
                payload = self._named(names, part) if part.holds(_VALUE) else None
                if payload is None and self._hits.within(part):
                    payload = self._unknown_part(part)
                if payload is not None:
                    splice.replace(part, payload)
            return splice.result()
        data = self._buffer[field.start : field.end]
        clean: Any = self._redactor.value(data, findings=self.findings)
        return None if clean is data else clean

    def _text(self, part: wire.Field) -> str:
        """Return the text of a field that may be the name of a KeyValue, or of an entry of a map; else nothing."""
        return self._buffer[part.start : part.end].decode(errors="ignore") if part.holds(_NAME) else ""

    def _named(self, names: Sequence[str], part: wire.Field) -> bytes | None:
        """Clean what may be the value of a KeyValue, or of an entry of a map, under any name beside it.

        None where nothing changes.
        """
        data = self._buffer[part.start : part.end]
        for name in names:
            with contextlib.suppress(DecodeError):
                value = to_python(AnyValueMessage.FromString(data))
                item = self._redactor.item(name, value, self.findings)
                if item is None or item[1] is not value:
                    return b"" if item is None else to_message(item[1]).SerializeToString()
            with contextlib.suppress(UnicodeDecodeError):
                text = data.decode()
                item = self._redactor.item(name, text, self.findings)
                if item is None or item[1] != text:
                    return b"" if item is None else str(item[1]).encode()
        return None


def _may_be_delimited(known: FieldDescriptor) -> bool:
    """Return whether a field's value may have a length; parsers take one of another wire type as unknown."""
    return known.type in _DELIMITED or is_repeated(known)  # repeated numbers are packed


def _lacks(message: Any, size: int) -> bool:
    """Return whether a message read from `size` bytes has unknown fields, which it loses, or was longer than it is."""
    message.DiscardUnknownFields()
    return bool(message.ByteSize() != size)


def _event_name(record: Any) -> tuple[str, bool]:
    """Return the name of a span event or log record, and whether it has attributes of a model call."""
    named = next((pair.value.string_value for pair in record.attributes if pair.key == "event.name"), "")
    name: str = record.name if isinstance(record, Span.Event) else record.event_name
    return name or named, any(content_rules.is_of_model(pair.key) for pair in record.attributes)
