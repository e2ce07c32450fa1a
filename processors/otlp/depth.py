"""OTLP requests with values nested deeper than protobuf's parsers follow: the same with a marker in their place.

A value in a value takes two or three messages of the hundred that a parser follows. What lies deeper than that is
replaced whole, as deep values are everywhere else, so that neither the item nor its batch is lost. This runs only for
requests that a parser has refused.
"""

from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from otel_telemetry.processors.otlp import wire
from otel_telemetry.processors.redact.rewrite import marker

_ANY_VALUE: Final = AnyValue.DESCRIPTOR.full_name
#: Messages in messages, the request itself among them, that are left as they are.
_MOST_LEVELS: Final = 90
_MARKER: Final = AnyValue(string_value=marker("DEPTH")).SerializeToString()


def without_depths(request: type[Message], body: bytes) -> bytes | None:
    """Return an Export*ServiceRequest without what is nested too deep; None where nothing is."""
    kind: Any = request.DESCRIPTOR
    return _message(body, 0, len(body), kind, 1)


def _message(buffer: bytes, start: int, end: int, kind: Descriptor, level: int) -> bytes | None:
    """Return the message with markers; None if it needs none, or is cut off, which is reported elsewhere."""
    splice = wire.Splice(buffer, start, end)
    try:
        fields = list(wire.fields(buffer, start, end))
    except wire.NotWire:
        return None
    for field in fields:
        known = kind.fields_by_number.get(field.number)
        if known is None or known.type != FieldDescriptor.TYPE_MESSAGE or field.wire_type != wire.LENGTH_DELIMITED:
            continue
        inner: Any = known.message_type
        if level >= _MOST_LEVELS and inner.full_name == _ANY_VALUE:
            splice.replace(field, _MARKER)
        elif (changed := _message(buffer, field.start, field.end, inner, level + 1)) is not None:
            splice.replace(field, changed)
    return splice.result()
