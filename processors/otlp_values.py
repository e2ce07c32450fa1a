"""OTLP's AnyValue as plain Python, and back."""

from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue as AnyValueMessage
from opentelemetry.proto.common.v1.common_pb2 import ArrayValue, KeyValue, KeyValueList

from otel_telemetry.records import AnyValue


def to_python(message: AnyValueMessage) -> AnyValue:
    """Return str, bool, int, float, bytes, list, dict, or None where empty. The parser bounds the depth."""
    kind = message.WhichOneof("value")
    if kind is None or kind == "string_value_strindex":
        return None
    if kind == "array_value":
        return [to_python(inner) for inner in message.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: to_python(pair.value) for pair in message.kvlist_value.values}
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
