"""Figures of spans and log records, which have no rows of their own: a row of `kpi_value` for each value.

A row's key is made from its source, so that a repeated batch adds nothing: neither rows nor counts.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson
import sqlalchemy as sa
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from sqlalchemy.dialects import postgresql, sqlite

from otel_telemetry.base import conventions, otlp_values, records
from otel_telemetry.exporters.request_log.db import postgres, schema
from otel_telemetry.exporters.request_log.kpis.definitions import ABSENT, Get, Kpi, Value
from otel_telemetry.exporters.request_log.read import log_values, span_facts

_INSERT: Final[dict[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_US: Final = 253_402_300_799_000_000
_ROWS: Final = 500
_EVENT_NAME: Final = "event.name"


class Seen(NamedTuple):
    """What a span or a log record is in one figure."""

    kpi: str
    id: str
    time_ns: int
    trace_id: str | None
    value: Value


def of_spans(kpis: Iterable[Kpi], spans: Iterable[records.Span]) -> Iterator[Seen]:
    """Yield what spans are in figures."""
    own = [kpi for kpi in kpis if kpi.source == "spans"]
    for span in spans if own else ():
        get = span_getter(span)
        for kpi in own:
            value = kpi.of(get)
            if value is not None:
                yield Seen(kpi.name, f"{span.trace_id}-{span.span_id}", span.start_ns, span.trace_id, value)


def span_getter(span: records.Span) -> Get:
    """Return what is known of a span, by name: its attributes, then its own fields, then its resource's attributes."""

    def get(name: str) -> Any:
        found = span.attributes.get(name, ABSENT)
        if found is ABSENT:
            field = _FIELDS.get(name)
            found = field(span) if field else span.resource.get(name, ABSENT)
        return found

    return get


_FIELDS: Final[Mapping[str, Any]] = {
    "name": lambda span: span.name,
    "kind": lambda span: span.kind,
    "status": lambda span: span.status,
    "service": lambda span: span.resource.get(conventions.SERVICE_NAME),
    "redacted": lambda span: sum(
        value for name, value in span.attributes.items() if name.startswith(conventions.REDACTED) and type(value) is int
    ),
    "duration_ms": lambda span: (span.end_ns - span.start_ns) / 1e6 if span.end_ns >= span.start_ns > 0 else None,
}


def of_logs(kpis: Iterable[Kpi], body: bytes) -> Iterator[Seen]:
    """Yield what the log records of an ExportLogsServiceRequest are in figures."""
    own = [kpi for kpi in kpis if kpi.source == "logs"]
    for record, resource, _ in log_values.log_records(body, (b"",)) if own else ():
        get = log_getter(record, resource)
        for kpi in own:
            value = kpi.of(get)
            if value is not None:
                time_ns = record.time_unix_nano or record.observed_time_unix_nano
                yield Seen(kpi.name, _identity(record, resource), time_ns, log_values.trace_id(record.trace_id), value)


def log_getter(record: LogRecord, resource: records.Attributes) -> Get:
    """Return what is known of a log record, by name."""
    attributes = otlp_values.attributes(record.attributes)

    def get(name: str) -> Any:
        if name in attributes:
            return attributes[name]
        if name == "body":
            return otlp_values.to_python(record.body)
        if name == "event":
            return record.event_name or attributes.get(_EVENT_NAME)
        if name == "severity":
            return record.severity_text
        return resource.get(conventions.SERVICE_NAME if name == "service" else name, ABSENT)

    return get


def _identity(record: LogRecord, resource: records.Attributes) -> str:
    identifying = record.SerializeToString(deterministic=True), repr(sorted(resource.items(), key=str)).encode()
    return blake2b(b"\0".join(identifying), digest_size=16, person=b"kpi").hexdigest()


def from_otlp(kpis: Iterable[Kpi], signal: str, body: bytes) -> Iterator[Seen]:
    """Yield what a body is in figures; raises MalformedTelemetry where it is no such request."""
    return of_spans(kpis, span_facts.from_otlp(body)) if signal == "traces" else of_logs(kpis, body)


def write(connection: sa.Connection, seen: Iterable[Seen]) -> list[Seen]:
    """Write rows; return what was new, and is to be counted once it is committed. What has no number has no row."""
    rows: dict[tuple[str, str], Seen] = {}
    bad = []
    for one in seen:
        if one.value.problem:
            bad.append(one)
        else:
            rows.setdefault((one.kpi, one.id), one)
    new: list[Seen] = bad
    postgres.wait_for(connection, postgres.VALUES)
    keys = list(rows)
    table = schema.kpi_value
    for start in range(0, len(keys), _ROWS):
        values = [_row(rows[key]) for key in keys[start : start + _ROWS]]
        insert = _INSERT[connection.dialect.name](table).values(values).on_conflict_do_nothing()
        found = connection.execute(insert.returning(table.c.kpi, table.c.id))
        new += [rows[kpi, row_id] for kpi, row_id in found]
    return new


def _row(one: Seen) -> dict[str, Any]:
    at = _EPOCH + timedelta(microseconds=min(one.time_ns // 1_000, _MOST_US))
    labels = orjson.dumps([word and word.replace("\0", "\N{REPLACEMENT CHARACTER}") for word in one.value.words])
    return {
        "kpi": one.kpi,
        "id": one.id,
        "ts": at,
        "trace_id": one.trace_id,
        "value": one.value.number,
        "labels": orjson.loads(labels),
    }
