"""OTLP's AnyValue as plain Python, and back: the one place that knows its kinds."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue as AnyValueMessage
from opentelemetry.proto.common.v1.common_pb2 import ArrayValue, KeyValue, KeyValueList

from otel_telemetry.base import conventions
from otel_telemetry.base.records import AnyValue

#: Levels of a JSON value: each takes three of the hundred that protobuf's parser follows.
MOST_LEVELS: Final = 24
_LARGEST: Final = (1 << 63) - 1


def to_python(message: AnyValueMessage) -> AnyValue:
    """Return str, bool, int, float, bytes, list, dict, or None where empty. The parser bounds the depth."""
    if text := message.string_value:
        return text  # as nearly always: which kind it is costs more to find out
    kind = message.WhichOneof("value")
    if kind is None or kind == "string_value_strindex":
        return None
    if kind == "array_value":
        return [to_python(inner) for inner in message.array_value.values]
    if kind == "kvlist_value":
        return attributes(message.kvlist_value.values)
    plain: AnyValue = getattr(message, kind)
    return plain


def to_message(value: Any) -> AnyValueMessage:
    """Return the AnyValue of a Python value; the inverse of `to_python`."""
    if value is None:
        return AnyValueMessage()
    if isinstance(value, bool):
        return AnyValueMessage(bool_value=value)
    if isinstance(value, str):
        return AnyValueMessage(string_value=value)
    if isinstance(value, int):
        return AnyValueMessage(int_value=value)
    if isinstance(value, float):
        return AnyValueMessage(double_value=value)
    if isinstance(value, bytes):
        return AnyValueMessage(bytes_value=value)
    if isinstance(value, dict):
        return AnyValueMessage(kvlist_value=KeyValueList(values=[pair(key, inner) for key, inner in value.items()]))
    return AnyValueMessage(array_value=ArrayValue(values=[to_message(inner) for inner in value]))


def pair(key: str, value: Any) -> KeyValue:
    """Return one attribute."""
    return KeyValue(key=key, value=to_message(value))


def attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Return attributes as a dict."""
    return {one.key: to_python(one.value) for one in pairs}


def repeats_keys(message: AnyValueMessage) -> bool:
    """Return whether a map, at any depth, has a key twice: `to_python` returns the last value of such a key only."""
    kind = message.WhichOneof("value")
    if kind == "array_value":
        return any(map(repeats_keys, message.array_value.values))
    if kind != "kvlist_value":
        return False
    pairs = message.kvlist_value.values
    return len({one.key for one in pairs}) < len(pairs) or any(repeats_keys(one.value) for one in pairs)


def with_all_values(message: AnyValueMessage) -> AnyValue:
    """Return the same as `to_python`, but of a key that a map has several times a list of all its values."""
    kind = message.WhichOneof("value")
    if kind == "array_value":
        return [with_all_values(inner) for inner in message.array_value.values]
    if kind != "kvlist_value":
        return to_python(message)
    found: dict[str, list[AnyValue]] = {}
    for one in message.kvlist_value.values:
        found.setdefault(one.key, []).append(with_all_values(one.value))
    return {key: values[0] if len(values) == 1 else values for key, values in found.items()}


def put(into: AnyValueMessage, value: Any, field: str, levels: int = MOST_LEVELS) -> None:
    """Write a value of JSON; what is nested too deep is replaced, as redaction replaces it everywhere."""
    if isinstance(value, str):
        into.string_value = utf8(value)
    elif isinstance(value, bool):
        into.bool_value = value
    elif isinstance(value, int):
        if -_LARGEST <= value <= _LARGEST:
            into.int_value = value
        else:
            into.string_value = str(value)
    elif isinstance(value, float):
        into.double_value = value
    elif value is not None:
        _inside(into, value, field, levels)


def _inside(into: AnyValueMessage, value: Mapping[str, Any] | Sequence[Any], field: str, levels: int) -> None:
    if not levels:
        into.string_value = conventions.TOO_DEEP
        return
    if isinstance(value, Mapping):
        into.kvlist_value.SetInParent()
        for key, item in value.items():
            put(into.kvlist_value.values.add(key=utf8(key)).value, item, field, levels - 1)
        return
    into.array_value.SetInParent()
    for item in value:
        put(into.array_value.values.add(), item, field, levels - 1)


def utf8(text: str) -> str:
    """Return text that protobuf takes: JSON can spell half of a character."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
