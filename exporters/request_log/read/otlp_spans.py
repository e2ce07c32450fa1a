"""Trace requests as this exporter reads them: OTLP's own messages, except that a span's attributes are a map.

On the wire a protobuf map is a list of key and value, field 1 and 2: just what OTLP's attributes are. Read as a map,
protobuf's C core finds a key by itself, and most spans are done with once their keys are known; as a list, every pair
of every span would become a Python object first. Where a key comes twice the last one counts, as in a dict. Fields that
no row needs (links, counts of what was dropped) are left out.
"""

from typing import Any, Final

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

_PACKAGE: Final = "otel_telemetry.request_log"
_OURS: Final = f".{_PACKAGE}."
_OTLP: Final = ".opentelemetry.proto."
_F: Final = FieldDescriptorProto
_GROUPS: Final = (
    ("resource", 1, f"{_OTLP}resource.v1.Resource", False),
    ("scope_spans", 2, f"{_OURS}ScopeSpans", True),
)
_SCOPES: Final = (
    ("scope", 1, f"{_OTLP}common.v1.InstrumentationScope", False),
    ("spans", 2, f"{_OURS}Span", True),
)
_SPAN_PARTS: Final = (
    ("attributes", 9, f"{_OURS}Span.AttributesEntry", True),
    ("events", 11, f"{_OTLP}trace.v1.Span.Event", True),
    ("status", 15, f"{_OTLP}trace.v1.Status", False),
)
_SPAN_SCALARS: Final = (
    ("trace_id", 1, _F.TYPE_BYTES),
    ("span_id", 2, _F.TYPE_BYTES),
    ("parent_span_id", 4, _F.TYPE_BYTES),
    ("name", 5, _F.TYPE_STRING),
    ("kind", 6, _F.TYPE_INT32),  # an enum on the wire is one
    ("start_time_unix_nano", 7, _F.TYPE_FIXED64),
    ("end_time_unix_nano", 8, _F.TYPE_FIXED64),
    ("flags", 16, _F.TYPE_FIXED32),
)


def _describe() -> FileDescriptorProto:
    """Return the description of the messages."""
    file = FileDescriptorProto(name="otel_telemetry/request_log/spans.proto", package=_PACKAGE, syntax="proto3")
    file.dependency.extend(module.DESCRIPTOR.name for module in (common_pb2, resource_pb2, trace_pb2))
    _add_parts(file.message_type.add(name="Request"), ("resource_spans", 1, f"{_OURS}ResourceSpans", True))
    _add_parts(file.message_type.add(name="ResourceSpans"), *_GROUPS)
    _add_parts(file.message_type.add(name="ScopeSpans"), *_SCOPES)
    span = file.message_type.add(name="Span")
    for name, number, kind in _SPAN_SCALARS:
        span.field.add(name=name, number=number, type=kind, label=_F.LABEL_OPTIONAL)
    _add_parts(span, *_SPAN_PARTS)
    entry = span.nested_type.add(name="AttributesEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_F.TYPE_STRING, label=_F.LABEL_OPTIONAL)
    _add_parts(entry, ("value", 2, f"{_OTLP}common.v1.AnyValue", False))
    return file


def _add_parts(message: DescriptorProto, *parts: tuple[str, int, str, bool]) -> None:
    for name, number, kind, is_repeated in parts:
        label = _F.LABEL_REPEATED if is_repeated else _F.LABEL_OPTIONAL
        message.field.add(name=name, number=number, type=_F.TYPE_MESSAGE, type_name=kind, label=label)


def _message() -> Any:
    pool = descriptor_pool.Default()  # it holds OTLP's messages, too
    pool.AddSerializedFile(_describe().SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Request"))


#: The message: `Request.FromString(body)`.
Request: Final = _message()
