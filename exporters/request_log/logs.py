"""Log records of model calls in, facts out: the GenAI details event becomes a `records.Span` of the kind LOG.

An app can leave the details of a call to this event and keep its spans short, or drop its spans by sampling. The event
stands below the span in whose context it was written. Its own id is made from what it says, so that the same record is
the same row however often it comes; where it was written in no span at all, so is its trace.
"""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, Final

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_telemetry import conventions, records
from otel_telemetry.exporters.request_log import otlp
from otel_telemetry.exporters.request_log.dialects import DETAILS_EVENT

LOG: Final = "LOG"
_EVENT_NAME: Final = "event.name"
_NAME_IN_BYTES: Final = DETAILS_EVENT.encode()


def from_otlp(body: bytes) -> Iterator[records.Span]:
    """Yield the model calls of an ExportLogsServiceRequest; raises MalformedTelemetry where the body is none."""
    for record, resource, scope in otlp.log_records(body, (_NAME_IN_BYTES,)):
        said = otlp.attributes(record.attributes)
        if DETAILS_EVENT in (record.event_name, said.get(_EVENT_NAME)):
            yield _span(record, _with_body(record, said), resource, scope)


def _with_body(record: LogRecord, said: dict[str, Any]) -> dict[str, Any]:
    """Add what earlier versions of the event say in its body."""
    body = otlp.value(record.body)
    return {**body, **said} if isinstance(body, dict) else said


def _span(record: LogRecord, said: dict[str, Any], resource: records.Attributes, scope: str) -> records.Span:
    trace_id, parent = otlp.trace_id(record.trace_id), otlp.span_id(record.span_id)
    time_ns = record.time_unix_nano or record.observed_time_unix_nano
    answer = said.get(conventions.RESPONSE_ID)
    # A call in a span is known by its answer's id; one without an id, or outside of any span, by all that it says.
    of = answer.encode("utf-8", "replace") if isinstance(answer, str) and answer and parent else _everything(record)
    return records.Span(
        trace_id=trace_id or blake2b(of, digest_size=16, person=b"log trace").hexdigest(),
        span_id=blake2b(of, digest_size=8, key=record.trace_id + record.span_id, person=b"log span").hexdigest(),
        parent_span_id=parent if trace_id else None,
        local_root=not (trace_id and parent),
        name=DETAILS_EVENT,
        kind=LOG,
        start_ns=time_ns,
        end_ns=time_ns,
        status="UNSET",
        status_message="",
        attributes=said,
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
