"""OTLP's ids as Python's, and its log records one by one."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_telemetry.base.errors import MalformedTelemetry
from otel_telemetry.base.otlp_values import attributes

_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8


def trace_id(given: bytes) -> str | None:
    """Return a trace id in hex, or None where it is none."""
    return given.hex() if len(given) == _TRACE_ID_BYTES and any(given) else None


def span_id(given: bytes) -> str | None:
    """Return a span id in hex, or None where it is none."""
    return given.hex() if len(given) == _SPAN_ID_BYTES and any(given) else None


def log_records(body: bytes, names: Iterable[bytes]) -> Iterator[tuple[LogRecord, dict[str, Any], str]]:
    """Yield each record of an ExportLogsServiceRequest, the attributes of its resource, and the name of its scope.

    A body in which none of the names occurs is not even parsed: most logs are of other things. Raises
    MalformedTelemetry where the body is no such request.
    """
    if not any(name in body for name in names):
        return
    try:
        message = ExportLogsServiceRequest.FromString(body)
    except DecodeError as error:
        raise MalformedTelemetry(f"not an ExportLogsServiceRequest: {error}") from None
    for of_resource in message.resource_logs:
        resource = attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_logs:
            for record in of_scope.log_records:
                yield record, resource, of_scope.scope.name
