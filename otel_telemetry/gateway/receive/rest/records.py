"""OTLP log records made of what the endpoints accept."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_telemetry.base import conventions
from otel_telemetry.base.otlp_values import put, utf8


@dataclass(slots=True)
class Record:
    """One log record. `values` are columns of its table, `attributes` further attributes by their full name."""

    name: str
    title: str
    observed_ns: int
    time_ns: int | None
    values: Mapping[str, Any]
    attributes: Mapping[str, Any]
    service: str | None = None
    environment: str | None = None
    written: LogRecord | None = None  # as OTLP, where that was made already

    def write(self) -> LogRecord:
        """Return it as OTLP; raises MalformedTelemetry for values that OTLP cannot hold."""
        if self.written is None:
            self.written = LogRecord()
            _write(self.written, self)
        return self.written


def request(records: Iterable[Record]) -> bytes:
    """Return an ExportLogsServiceRequest; raises MalformedTelemetry for values that OTLP cannot hold."""
    message = ExportLogsServiceRequest()
    groups: dict[tuple[str | None, str | None], Any] = {}
    for record in records:
        origin = (record.service, record.environment)
        if origin not in groups:
            groups[origin] = _group(message, *origin)
        groups[origin].log_records.append(record.write())
    return message.SerializeToString()


def _group(message: ExportLogsServiceRequest, service: str | None, environment: str | None) -> Any:
    group = message.resource_logs.add()
    for key, value in ((conventions.SERVICE_NAME, service), (conventions.DEPLOYMENT_ENVIRONMENT, environment)):
        if value:
            group.resource.attributes.add(key=key).value.string_value = utf8(value)
    scope = group.scope_logs.add()
    scope.scope.name = conventions.SCOPE_NAME
    return scope


def _write(into: LogRecord, record: Record) -> None:
    into.event_name = record.name
    into.observed_time_unix_nano = record.observed_ns
    into.time_unix_nano = record.time_ns or 0
    into.body.string_value = utf8(record.title)
    for key, value in record.attributes.items():
        if value is not None:
            put(into.attributes.add(key=key).value, value, key)
    for key, value in record.values.items():
        if value is not None:
            put(into.attributes.add(key=conventions.REQUEST_LOG + utf8(key)).value, value, key)


# --- what redaction made of them ----------------------------------------------------------------------------------
_DATA: Final = conventions.REQUEST_LOG + "data"


def by_time(body: bytes) -> dict[int, LogRecord]:
    """Return the records of a request by when they were observed: here no two are at the same time."""
    groups = ExportLogsServiceRequest.FromString(body).resource_logs
    return {
        record.observed_time_unix_nano: record
        for group in groups
        for scope in group.scope_logs
        for record in scope.log_records
    }


def redacted_fields(given: Mapping[str, Any], record: LogRecord) -> list[str]:
    """Return the names of the fields of `given` that redaction changed in the record's `request_log.data`."""
    found: dict[str, None] = {}
    clean = next((pair.value for pair in record.attributes if pair.key == _DATA), AnyValue())
    _compare(given, clean, "data", found)
    return list(found)


def _compare(given: Any, clean: AnyValue, name: str, found: dict[str, None]) -> None:
    """Note the name of each value that changed; a name that was itself redacted is given as it is now."""
    kind = clean.WhichOneof("value")
    if kind == "kvlist_value" and isinstance(given, Mapping):
        pairs = clean.kvlist_value.values
        if len(pairs) == len(given):
            for (key, value), pair in zip(given.items(), pairs, strict=True):
                if pair.key != utf8(key):
                    found[pair.key] = None
                _compare(value, pair.value, pair.key, found)
            return
    elif kind == "array_value" and isinstance(given, list) and len(clean.array_value.values) == len(given):
        for value, item in zip(given, clean.array_value.values, strict=True):
            _compare(value, item, name, found)
        return
    if not _same(given, clean, kind):
        found[name] = None


def _same(given: Any, clean: AnyValue, kind: str | None) -> bool:
    if kind is None:
        return given is None
    if isinstance(given, str):
        return kind == "string_value" and clean.string_value == utf8(given)
    if isinstance(given, int) and not isinstance(given, bool) and kind == "string_value":
        return clean.string_value == str(given)
    return bool(getattr(clean, kind) == given) and not isinstance(given, Mapping | list)
