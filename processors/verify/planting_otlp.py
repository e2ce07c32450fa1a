"""Places for canaries in OTLP: every field of the schema that can hold text, found by walking protobuf descriptors.

A field that a new version of the protocol adds is found here too, and so is the room for fields that the installed
descriptors do not know yet. Paths are those of the schema, without the name of the request.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_telemetry.base import conventions
from otel_telemetry.base.descriptors import is_repeated
from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.otlp_values import to_message
from otel_telemetry.processors.detect.names import keys
from otel_telemetry.processors.otlp import wire
from otel_telemetry.processors.redact.policy import CLIENT_KEYS
from otel_telemetry.processors.verify import content_canaries
from otel_telemetry.processors.verify.canaries import NAMES, type_of_name
from otel_telemetry.processors.verify.hard_canaries import FORMS, PLAIN, of_key

REQUESTS: Final[dict[Signal, type[Message]]] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}
#: An attribute whose name tells nothing, so that what it holds has to be found by what it looks like.
PLAIN_KEY: Final = PLAIN
#: One that the built-in policy never touches.
SAFE_KEY: Final = conventions.HTTP_ROUTE
#: How text can stand in an attribute or a log body.
TEXT_SHAPES: Final = ("string", "bytes", "array", "map", "map key", "JSON")
#: What the name of an attribute gives away.
NAMED_SHAPES: Final = ("named string", "named in map")
NUMBER_SHAPES: Final = ("named integer", "named float")
STRING, KEY, ID, UNKNOWN, SAFE, CONTENT, CLIENT = (
    "text",
    "key",
    "id",
    "later field",
    "safe name",
    "message content",
    "client address",
)
_UNKNOWN_NUMBER: Final = 900
_TRACE_ID, _SPAN_ID = b"\x01" * 16, b"\x02" * 8
#: Names under which a number counts: those of secrets (`token`, `max_token`) hold counts far more often than secrets.
_NUMBERED: Final = tuple(name for name in NAMES if type_of_name(name) != keys.SECRET)


@dataclass(frozen=True, slots=True)
class Slot:
    """One place: the surface (a signal of OTLP, or of the SDK), the field's path, how the text stands in it.

    `key` is the attribute's, or "" where there is none.
    """

    surface: str
    path: str
    shape: str
    key: str = ""

    @property
    def by_name(self) -> bool:
        """Return whether only the name gives the value away."""
        return self.shape in NAMED_SHAPES or self.shape in NUMBER_SHAPES

    @property
    def is_hard(self) -> bool:
        """Return whether it takes a form that rules made of examples miss."""
        return self.shape in FORMS


class Field:
    """One field of the schema that can hold text, with the way there from the request."""

    def __init__(self, signal: Signal, steps: tuple[Any, ...]) -> None:
        self.signal: Signal = signal
        self.steps = steps
        self.path = ".".join(step.name for step in steps if step is not None)

    @property
    def own_id(self) -> bool:
        """Return whether it is a span's own id, without which the span is refused."""
        last = self.steps[-1]
        return (
            last is not None
            and last.containing_type.full_name == Span.DESCRIPTOR.full_name
            and last.name in ("trace_id", "span_id")
        )

    def slots(self) -> Iterator[Slot]:
        """Yield the places in this field."""
        last = self.steps[-1]
        if last is None:
            yield Slot(self.signal, self.path, UNKNOWN)
        elif last.type == FieldDescriptor.TYPE_STRING:
            yield Slot(self.signal, self.path, STRING)
        elif last.type == FieldDescriptor.TYPE_BYTES:
            yield Slot(self.signal, self.path, ID)
        else:
            keyed = last.message_type.full_name == KeyValue.DESCRIPTOR.full_name
            yield from value_slots(self.signal, self.path, keyed=keyed)

    def plant(self, request: Message, slot: Slot, text: Any) -> None:
        """Put text into a place of this field."""
        if not _plant(request, self.steps, slot, text):
            raise LookupError(self.path)


def value_slots(surface: str, path: str, *, keyed: bool) -> Iterator[Slot]:
    """Yield the places in a list of attributes, or (not `keyed`) in a bare value."""
    if not keyed:
        yield from (Slot(surface, path, shape) for shape in TEXT_SHAPES)
        yield from (Slot(surface, path, "named in map", name) for name in NAMES)
        yield from (Slot(surface, path, shape) for shape in of_key(PLAIN_KEY))
        return
    yield Slot(surface, path, KEY)
    yield from (Slot(surface, path, shape, PLAIN_KEY) for shape in TEXT_SHAPES)
    yield from (Slot(surface, path, shape, name) for shape in NAMED_SHAPES for name in NAMES)
    yield from (Slot(surface, path, shape, name) for shape in NUMBER_SHAPES for name in _NUMBERED)
    yield Slot(surface, path, SAFE, SAFE_KEY)
    yield Slot(surface, path, CONTENT, conventions.INPUT_MESSAGES)
    yield from (Slot(surface, path, CLIENT, key) for key in sorted(CLIENT_KEYS))
    yield from (Slot(surface, path, shape, form.key) for shape, form in FORMS.items())


def fields_of(signal: Signal) -> Iterator[Field]:
    """Yield every field of a signal's request that can hold text, in the order of the schema."""
    descriptor: Any = REQUESTS[signal].DESCRIPTOR
    for steps in _walk(descriptor, ()):
        yield Field(signal, steps)


def shaped(shape: str, key: str, text: Any) -> Any:
    """Return text as the value of an attribute, in one of the shapes."""
    if shape in FORMS:
        return FORMS[shape].wrap(text)
    if shape in content_canaries.FORMS:
        return content_canaries.FORMS[shape].wrap(text)
    if shape == "bytes":
        return text.encode()
    if shape == "array":
        return [text, 7]
    if shape == "map":
        return {"inner": {"list": [1, text]}}
    if shape == "map key":
        return {"inner": {text: 1}}
    if shape == "JSON":
        return json.dumps({"to": [text, 1]})
    if shape == "named in map":
        return {"inner": {key: text}}
    if shape == CONTENT:
        return json.dumps([{"role": "user", "parts": [{"type": "text", "content": text}]}])
    return text


def attribute(slot: Slot, text: Any) -> tuple[str, Any]:
    """Return the attribute, key and value, that puts text into a place."""
    if slot.shape == KEY:
        return text, True
    key = PLAIN_KEY if slot.shape == "named in map" else slot.key
    return key, shaped(slot.shape, slot.key, text)


def _walk(descriptor: Descriptor, above: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    for field in descriptor.fields:
        steps = (*above, field)
        if field.type != FieldDescriptor.TYPE_MESSAGE:
            if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
                yield steps
            continue
        inner: Any = field.message_type
        if inner.full_name in (KeyValue.DESCRIPTOR.full_name, AnyValue.DESCRIPTOR.full_name):
            yield steps
        elif inner not in [step.message_type for step in above]:
            yield from _walk(inner, steps)
    yield (*above, None)  # a field that a later version adds


def _plant(message: Any, steps: tuple[Any, ...], slot: Slot, text: Any) -> bool:
    """Put text where the steps lead; False where the only way there would erase what is planted already."""
    step, *rest = steps
    if step is None:
        message.MergeFromString(wire.length_delimited(_UNKNOWN_NUMBER, text.encode()))
        return True
    if not rest:
        return _put(message, step, slot, text)
    oneof = step.containing_oneof
    if oneof is not None and message.WhichOneof(oneof.name) not in (None, step.name):
        return False
    holder = getattr(message, step.name)
    if not is_repeated(step):
        holder.SetInParent()
        return _plant(holder, tuple(rest), slot, text)
    return any(_plant(each, tuple(rest), slot, text) for each in holder) or _plant(
        _added(holder), tuple(rest), slot, text
    )


def _added(holder: Any) -> Any:
    """Add a message to a list of them; a span gets the ids without which it would be refused."""
    message = holder.add()
    if isinstance(message, Span):
        message.trace_id, message.span_id = _TRACE_ID, _SPAN_ID
    return message


def _put(message: Any, field: Any, slot: Slot, text: Any) -> bool:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return _put_value(message, field, slot, text)
    value = text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
    if is_repeated(field):
        getattr(message, field.name).append(value)
    elif getattr(message, field.name) not in ("", b"", _TRACE_ID, _SPAN_ID):
        return False
    else:
        setattr(message, field.name, value)
    return True


def _put_value(message: Any, field: Any, slot: Slot, text: Any) -> bool:
    holder = getattr(message, field.name)
    if field.message_type.full_name == KeyValue.DESCRIPTOR.full_name:
        if not is_repeated(field) and message.HasField(field.name):
            return False
        key, value = attribute(slot, text)
        pair = holder.add(key=key) if is_repeated(field) else holder
        pair.key = key
        pair.value.CopyFrom(to_message(value))
        return True
    if is_repeated(field):
        holder.append(to_message(shaped(slot.shape, slot.key, text)))
        return True
    if message.HasField(field.name):
        return False
    holder.CopyFrom(to_message(shaped(slot.shape, slot.key, text)))
    return True
