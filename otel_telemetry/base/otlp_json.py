"""OTLP/JSON to OTLP protobuf and back, by the rules of "OTLP Specification, JSON Protobuf Encoding".

Ids are hex of either case, other bytes base64; 64-bit integers are strings or numbers; names are lowerCamelCase (the
.proto names are understood too); unknown names are ignored. The converters are made from the protobuf descriptors, so
a field of a newer opentelemetry-proto is known as soon as that package is. One malformed span, log record or data point
is left out and reported; only when nothing is left does the whole request fail. Messages name the path, never a value.
"""

import base64
import binascii
import contextlib
import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from otel_telemetry.base import conventions
from otel_telemetry.base.descriptors import is_repeated
from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import MalformedTelemetry

REQUESTS: Final[Mapping[Signal, type[Message]]] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}
_IDS: Final = {"trace_id": 32, "span_id": 16, "parent_span_id": 16}
_ID_NAMES: Final = frozenset({"traceId", "spanId", "parentSpanId"})
#: Lists whose elements can be left out one by one; what counts is in the innermost of them.
_CONTAINERS: Final = frozenset(
    {"resource_spans", "scope_spans", "resource_logs", "scope_logs", "resource_metrics", "scope_metrics", "metrics"}
)
_ITEMS: Final = frozenset({"spans", "log_records", "data_points"})
_ITEM_KEYS: Final = ("spans", "logRecords", "log_records", "dataPoints", "data_points")
_MAX_DEPTH: Final = 90  # protobuf's parser gives up at 100
_INTEGER: Final = re.compile(r"-?\d{1,20}", re.ASCII)
_RANGES: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(1 << 31), (1 << 31) - 1),
}


#: Where in the body we are: (the path above, a name or an index). It is written out only when something is wrong.
_Path = tuple["_Path", str | int] | None


@dataclass(slots=True, frozen=True)
class Decoded:
    """A request as protobuf, how many items were left out of it, and the first reason (or a warning) with its path."""

    body: bytes
    rejected: int
    problem: str


@dataclass(slots=True)
class _Rejections:
    rejected: int = 0
    problem: str = ""
    field: str = ""

    def reject(self, error: MalformedTelemetry, before: int, items: int) -> None:
        """Note a lost element of `items`; what was rejected inside it since `before` is among them."""
        self.rejected = before + items
        if not self.problem:
            self.problem, self.field = error.problem, error.field


def decode(signal: Signal, body: bytes) -> Decoded:
    """Return the request as protobuf, or raise MalformedTelemetry where nothing of it can be used."""
    parsed = _parse(body)
    request = REQUESTS[signal]()
    rejections = _Rejections()
    known = _fill(request, parsed, None, 0, rejections)
    encoded = request.SerializeToString()
    if rejections.rejected and not _holds_items(request):
        raise MalformedTelemetry(rejections.problem, rejections.field)
    if rejections.rejected:
        return Decoded(encoded, rejections.rejected, f"{rejections.field}: {rejections.problem}")
    return Decoded(encoded, 0, "" if known or not parsed else _nothing_known(request.DESCRIPTOR))


def _parse(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body.decode("utf-8-sig"))  # strictly: json guesses UTF-16 and lets surrogates pass
    except json.JSONDecodeError as error:
        raise MalformedTelemetry(f"not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except UnicodeDecodeError:
        raise MalformedTelemetry("not JSON: the body is not UTF-8") from None
    except RecursionError:
        raise MalformedTelemetry("not OTLP: nested too deeply") from None
    except ValueError:
        raise MalformedTelemetry("not OTLP: a number has too many digits") from None
    if not isinstance(parsed, dict):
        raise MalformedTelemetry("not OTLP: the body is not a JSON object")
    return parsed


def _nothing_known(descriptor: Any) -> str:
    return f"the body has no {descriptor.fields[0].json_name}, so nothing was taken from it"


def _holds_items(request: Message) -> bool:
    return any(
        len(item) if field.name in _ITEMS else _holds_items(part)
        for field, item in request.ListFields()
        for part in (item if is_repeated(field) and field.message_type else (item,) if field.message_type else ())
    )


def _written(path: _Path) -> str:
    """Return a path as `resourceSpans[0].resource`."""
    parts: list[str] = []
    while path is not None:
        path, step = path
        parts.append(f"[{step}]" if isinstance(step, int) else f".{step}")
    return "".join(reversed(parts)).removeprefix(".")


def _fill(message: Message, value: Any, path: _Path, depth: int, rejections: _Rejections) -> bool:
    """Set the fields of `message` from a JSON object; return whether it had any known name."""
    _refuse_all_but_objects(value, path)
    if depth > _MAX_DEPTH and isinstance(message, AnyValue):
        message.string_value = conventions.TOO_DEEP
        return True
    if depth > _MAX_DEPTH:
        raise MalformedTelemetry("nested too deeply", _written(path))
    setters = _setters(message.DESCRIPTOR)
    known = False
    for name, given in value.items():
        setter = setters.get(name)
        if setter is not None:
            known = True
            if given is not None:
                setter(message, given, (path, name), depth, rejections)
    return known


def _refuse_all_but_objects(value: Any, path: _Path) -> None:
    if not isinstance(value, dict):
        raise MalformedTelemetry("not a JSON object", _written(path))


_Setter = Callable[[Message, Any, _Path, int, _Rejections], None]


@functools.cache
def _setters(descriptor: Descriptor) -> Mapping[str, _Setter]:
    setters: dict[str, _Setter] = {}
    for field in descriptor.fields:
        setters[field.name] = setters[field.json_name] = _setter(field)
    return setters


def _setter(field: FieldDescriptor) -> _Setter:
    if field.message_type is not None:
        return _message_list(field) if is_repeated(field) else _one_message(field)
    convert = _converter(field)
    return _scalar_list(field.name, convert) if is_repeated(field) else _scalar(field.name, convert)


def _scalar(name: str, convert: Callable[[Any, _Path], Any]) -> _Setter:
    def put(message: Message, value: Any, path: _Path, depth: int, rejections: _Rejections) -> None:
        del depth, rejections
        setattr(message, name, convert(value, path))

    return put


def _scalar_list(name: str, convert: Callable[[Any, _Path], Any]) -> _Setter:
    def put(message: Message, value: Any, path: _Path, depth: int, rejections: _Rejections) -> None:
        del depth, rejections
        getattr(message, name).extend([convert(one, (path, i)) for i, one in enumerate(_list(value, path))])

    return put


def _one_message(field: FieldDescriptor) -> _Setter:
    name = field.name

    def put(message: Message, value: Any, path: _Path, depth: int, rejections: _Rejections) -> None:
        part = getattr(message, name)
        part.SetInParent()
        _fill(part, value, path, depth + 1, rejections)

    return put


def _message_list(field: FieldDescriptor) -> _Setter:
    name = field.name
    separable = name in _CONTAINERS or name in _ITEMS

    def put(message: Message, value: Any, path: _Path, depth: int, rejections: _Rejections) -> None:
        target = getattr(message, name)
        for i, one in enumerate(_list(value, path)):
            before, made = rejections.rejected, len(target)
            try:
                _refuse_all_but_objects(one, (path, i))  # a message that is left out keeps its memory
                _fill(target.add(), one, (path, i), depth + 1, rejections)
            except MalformedTelemetry as error:
                if not separable:
                    raise
                del target[made:]
                rejections.reject(error, before, 1 if name in _ITEMS else max(1, _count(one)))
            if name in _ITEMS:
                value[i] = None  # its memory is wanted for the others; it still counts

    return put


def _count(value: Any) -> int:
    """Count the items of a JSON container that is lost as a whole."""
    if isinstance(value, list):
        return sum(_count(one) for one in value)
    if not isinstance(value, dict):
        return 0
    own = sum(len(value[key]) for key in _ITEM_KEYS if isinstance(value.get(key), list))
    return own or sum(_count(one) for one in value.values())


def _list(value: Any, path: _Path) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedTelemetry("not a JSON array", _written(path))
    return value


# --- scalars ----------------------------------------------------------------------------------------------------
def _converter(field: FieldDescriptor) -> Callable[[Any, _Path], Any]:
    kind = field.cpp_type
    if field.type == FieldDescriptor.TYPE_BYTES:
        return functools.partial(_hex, digits=_IDS[field.name]) if field.name in _IDS else _base64
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return _text
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return _bool
    if kind in {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}:
        return _float
    names = {} if field.enum_type is None else {value.name: value.number for value in field.enum_type.values}
    low, high = _RANGES[kind]
    return functools.partial(_integer, low=low, high=high, names=names)


def _integer(value: Any, path: _Path, *, low: int, high: int, names: Mapping[str, int]) -> int:
    number = value
    if isinstance(value, str):
        number = names[value] if value in names else int(value) if _INTEGER.fullmatch(value) else None
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    if not isinstance(number, int) or isinstance(number, bool):
        raise MalformedTelemetry("not an integer", _written(path))
    if not low <= number <= high:
        raise MalformedTelemetry(f"not between {low} and {high}", _written(path))
    return number


def _float(value: Any, path: _Path) -> float:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            return float(value)
    raise MalformedTelemetry("not a number", _written(path))


def _bool(value: Any, path: _Path) -> bool:
    if not isinstance(value, bool):
        raise MalformedTelemetry("not true or false", _written(path))
    return value


def _text(value: Any, path: _Path) -> str:
    if not isinstance(value, str):
        raise MalformedTelemetry("not a string", _written(path))
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise MalformedTelemetry("not valid Unicode", _written(path)) from None
    return value


def _hex(value: Any, path: _Path, *, digits: int) -> bytes:
    text = _text(value, path)
    try:
        decoded = binascii.unhexlify(text)
    except (binascii.Error, ValueError):
        raise MalformedTelemetry(f"not {digits} hex digits", _written(path)) from None
    if text and len(text) != digits:
        raise MalformedTelemetry(f"not {digits} hex digits", _written(path))
    return decoded


def _base64(value: Any, path: _Path) -> bytes:
    text = _text(value, path).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise MalformedTelemetry("not base64", _written(path)) from None


# --- back to JSON -----------------------------------------------------------------------------------------------
def encode(signal: Signal, body: bytes) -> str:
    """Return a request as one line of OTLP/JSON."""
    parsed = MessageToDict(REQUESTS[signal].FromString(body), use_integers_for_enums=True)
    return json.dumps(_with_hex_ids(parsed), ensure_ascii=False, separators=(",", ":"))


def _with_hex_ids(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_hex_ids(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64decode(one).hex() if key in _ID_NAMES and isinstance(one, str) else _with_hex_ids(one)
        for key, one in value.items()
    }
