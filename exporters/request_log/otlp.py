"""OTLP's values and ids as Python's."""

from collections.abc import Sequence
from typing import Any, Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8


def trace_id(given: bytes) -> str | None:
    """Return a trace id in hex, or None where it is none."""
    return given.hex() if len(given) == _TRACE_ID_BYTES and any(given) else None


def span_id(given: bytes) -> str | None:
    """Return a span id in hex, or None where it is none."""
    return given.hex() if len(given) == _SPAN_ID_BYTES and any(given) else None


def attributes(pairs: Sequence[KeyValue]) -> dict[str, Any]:
    """Return attributes as a dict."""
    return {pair.key: value(pair.value) for pair in pairs}


def value(given: AnyValue) -> Any:
    """Return a value: a scalar, bytes, a list or a dict."""
    kind = given.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [value(item) for item in given.array_value.values]
    if kind == "kvlist_value":
        return attributes(given.kvlist_value.values)
    return getattr(given, kind)
