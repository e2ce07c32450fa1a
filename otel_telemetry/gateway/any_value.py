"""Values of JSON as OTLP's AnyValue."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from otel_telemetry.errors import MalformedTelemetry

#: Levels of a JSON value: each takes three of the hundred that protobuf's parser follows.
MOST_LEVELS: Final = 24
_LARGEST: Final = (1 << 63) - 1


def put(into: AnyValue, value: Any, field: str, levels: int = MOST_LEVELS) -> None:
    """Write a value of JSON; raises MalformedTelemetry, naming the field, where it is nested too deep."""
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


def _inside(into: AnyValue, value: Mapping[str, Any] | Sequence[Any], field: str, levels: int) -> None:
    if not levels:
        raise MalformedTelemetry(f"is nested deeper than {MOST_LEVELS} levels", field)
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
