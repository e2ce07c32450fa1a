"""Reads log records of model calls into facts: the GenAI details event becomes a `records.Span` of the kind LOG.

An app can leave the details of a call to this event and keep its spans short, or drop its spans by sampling. The event
is below the span in whose context it was written. Its id is made from its content, so that the same record is the same
row however often it comes; if it was written outside any span, so is its trace id.
"""

from collections.abc import Iterator
from typing import Any, Final

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_telemetry.base import conventions, ids, otlp_values, records
from otel_telemetry.exporters.request_log.dialects.dialects import DETAILS_EVENT
from otel_telemetry.exporters.request_log.read import log_values

_EVENT_NAME: Final = "event.name"
_NAME_IN_BYTES: Final = DETAILS_EVENT.encode()


def from_otlp(body: bytes) -> Iterator[records.Span]:
    """Yield the model calls of an ExportLogsServiceRequest; raises MalformedTelemetry where the body is none."""
    for record, resource, scope in log_values.log_records(body, (_NAME_IN_BYTES,)):
        attributes = otlp_values.attributes(record.attributes)
        if DETAILS_EVENT in (record.event_name, attributes.get(_EVENT_NAME)):
            yield _span(record, _with_body(record, attributes), resource, scope)


def _with_body(record: LogRecord, attributes: dict[str, Any]) -> dict[str, Any]:
    """Add the values that earlier versions of the event have in the body."""
    body = otlp_values.to_python(record.body)
    return {**body, **attributes} if isinstance(body, dict) else attributes


def _span(record: LogRecord, attributes: dict[str, Any], resource: records.Attributes, scope: str) -> records.Span:
    trace_id, parent = log_values.trace_id(record.trace_id), log_values.span_id(record.span_id)
    time_ns = record.time_unix_nano or record.observed_time_unix_nano
    answer = attributes.get(conventions.RESPONSE_ID)
    # A call in a span is known by its answer's id; one without an id, or outside of any span, by all that it says.
    of = answer.encode("utf-8", "replace") if isinstance(answer, str) and answer and parent else _everything(record)
    return records.Span(
        trace_id=trace_id or ids.digest(of, b"log trace"),
        span_id=ids.digest(of, b"log span", size=8, key=record.trace_id + record.span_id),
        parent_span_id=parent if trace_id else None,
        local_root=not (trace_id and parent),
        name=DETAILS_EVENT,
        kind=records.LOG,
        start_ns=time_ns,
        end_ns=time_ns,
        status="UNSET",
        status_message="",
        attributes=attributes,
        events=(),
        resource=resource,
        scope=scope,
    )


def _everything(record: LogRecord) -> bytes:
    """Return the record without the time at which somebody saw it."""
    same = LogRecord()
    same.CopyFrom(record)
    same.observed_time_unix_nano = 0 if record.time_unix_nano else record.observed_time_unix_nano
    return same.SerializeToString(deterministic=True)
