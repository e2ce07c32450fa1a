"""The strings inside one OTLP message, found by its descriptor and cleaned where a hit falls into them."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from opentelemetry.proto.common.v1.common_pb2 import AnyValue as AnyValueMessage
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from otel_telemetry.processors import evidence, wire
from otel_telemetry.processors.otlp_values import to_message, to_python
from otel_telemetry.processors.redactor import Finding, Redactor

_KEY_VALUE: Final = KeyValue.DESCRIPTOR.full_name
_ANY_VALUE: Final = AnyValueMessage.DESCRIPTOR.full_name
_DROP: Final = object()
"""What a cleaned field is when the policy drops it."""


class Hits:
    """Where in a buffer a redaction rule may apply: sorted end offsets of trigger matches, exclusive."""

    __slots__ = ("_ends",)

    def __init__(self, ends: Sequence[int]) -> None:
        self._ends = sorted(ends)

    def within(self, field: wire.Field) -> bool:
        """Tell whether a hit ends in the field's payload."""
        position = bisect_right(self._ends, field.start)
        return position < len(self._ends) and self._ends[position] <= field.end


class Cleaner:
    """Cleans messages of one buffer for one service. `findings` grows with what was found."""

    def __init__(self, redactor: Redactor, buffer: bytes, hits: Hits, findings: list[Finding]) -> None:
        self._redactor = redactor
        self._buffer = buffer
        self._hits = hits
        self.findings = findings

    def message(self, start: int, end: int, descriptor: Descriptor, *, only_unknown: bool = False) -> bytes | None:
        """Return the new bytes of the message in `buffer[start:end]`, or None where nothing in it changed.

        `only_unknown` passes over the strings that the descriptor knows (those of attributes are cleaned as a whole).
        """
        splice = wire.Splice(self._buffer, start, end)
        for field in wire.fields(self._buffer, start, end):
            if self._hits.within(field):
                self.replace(field, descriptor, splice, only_unknown=only_unknown)
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
        if known is None or field.wire_type != wire.LENGTH_DELIMITED:
            return self.unknown(field)
        if known.type == FieldDescriptor.TYPE_MESSAGE:
            inner: Any = known.message_type
            return self._inner_message(field, inner, only_unknown=only_unknown)
        if known.type == FieldDescriptor.TYPE_STRING:
            return None if only_unknown else self._string(field)
        return None if only_unknown else self._id(field)

    def _inner_message(self, field: wire.Field, descriptor: Descriptor, *, only_unknown: bool) -> Any:
        if only_unknown or descriptor.full_name not in (_KEY_VALUE, _ANY_VALUE):
            return self.message(field.start, field.end, descriptor, only_unknown=only_unknown)
        changed = self.message(field.start, field.end, descriptor, only_unknown=True)
        payload = self._buffer[field.start : field.end] if changed is None else changed
        whole = self._key_value(payload) if descriptor.full_name == _KEY_VALUE else self._any_value(payload)
        return changed if whole is None else whole

    def _key_value(self, payload: bytes) -> Any:
        attribute = KeyValue.FromString(payload)
        value = to_python(attribute.value)
        if evidence.is_summary(attribute.key, value):
            return None
        item = self._redactor.item(attribute.key, value, self.findings)
        if item is None:
            return _DROP
        if item[0] == attribute.key and item[1] is value:
            return None
        attribute.key = item[0]
        if item[1] is not value:
            attribute.value.CopyFrom(to_message(item[1]))
        return attribute.SerializeToString()

    def _any_value(self, payload: bytes) -> bytes | None:
        value = to_python(AnyValueMessage.FromString(payload))
        clean = self._redactor.value(value, findings=self.findings)
        return None if clean is value else to_message(clean).SerializeToString()

    def _string(self, field: wire.Field) -> bytes | None:
        text = self._buffer[field.start : field.end].decode()
        clean = self._redactor.string(text, findings=self.findings)
        return None if clean == text else clean.encode()

    def _id(self, field: wire.Field) -> Any:
        """Leave out an id that is a text to be redacted. Random bytes are next to never UTF-8 with a finding."""
        try:
            return None if self._string(field) is None else _DROP
        except UnicodeDecodeError:
            return None

    def unknown(self, field: wire.Field) -> bytes | None:
        """Clean a field that no descriptor knows: as a message if it reads as one, else as text, else it is left alone.

        A group (a deprecated encoding that no OTLP field has) is emptied.
        """
        if field.wire_type != wire.LENGTH_DELIMITED:
            return b"" if field.wire_type == wire.START_GROUP else None
        try:
            inner = list(wire.fields(self._buffer, field.start, field.end))
        except wire.NotWire:
            inner = []
        if any(part.wire_type == wire.LENGTH_DELIMITED and self._hits.within(part) for part in inner):
            splice = wire.Splice(self._buffer, field.start, field.end)
            for part in inner:
                if self._hits.within(part) and (payload := self.unknown(part)) is not None:
                    splice.replace(part, payload)
            return splice.result()
        try:
            return self._string(field)
        except UnicodeDecodeError:
            return None
