"""Converts log records to Loki's lines: a few labels, a text, and everything else as structured metadata.

The line is the body: its text, or compact JSON if it has a structure. Names of metadata follow Loki's rules: letters,
digits and underscores. Metadata beyond Loki's limits for one line (128 values, 64 KiB) goes into the line, as JSON.
"""

import base64
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs

_MAX_METADATA: Final = 128
_MAX_METADATA_BYTES: Final = 64 << 10
_LABEL_CHARACTERS: Final = 200
_FRAME_BYTES: Final = 40  # quotes, brackets and the time of a line in JSON
_ODD: Final = re.compile(r"[^a-zA-Z0-9_]")
_ENVIRONMENTS: Final = ("deployment.environment.name", "deployment.environment")
_LEVELS: Final = ("trace", "debug", "info", "warn", "error", "fatal")  # four severity numbers each
_TEXTS: Final = {
    "trace": "trace", "trc": "trace", "debug": "debug", "dbg": "debug", "info": "info", "inf": "info",
    "information": "info", "informational": "info", "notice": "info", "warn": "warn", "wrn": "warn",
    "warning": "warn", "error": "error", "err": "error", "fatal": "fatal", "panic": "fatal", "alert": "fatal",
    "emergency": "fatal", "emerg": "fatal", "critical": "critical", "crit": "critical",
}  # fmt: skip


class Labels(NamedTuple):
    """The labels of a stream. `environment` is "" if it is unknown."""

    service_name: str
    environment: str
    level: str

    def mapping(self) -> dict[str, str]:
        """Return them as Loki wants them, without empty ones."""
        return {name: value for name, value in self._asdict().items() if value}


@dataclass(slots=True, frozen=True)
class Origin:
    """Where a line came from: the number of the request, and the record with what is around it."""

    index: int
    resource: ResourceLogs
    scope: ScopeLogs
    record: LogRecord


@dataclass(slots=True)
class Line:
    """One entry of a stream."""

    labels: Labels
    time_ns: int
    text: str
    metadata: dict[str, str]
    origin: Origin

    def size(self) -> int:
        """Return about how many bytes it takes in a request."""
        return _FRAME_BYTES + len(self.text) + sum(len(k) + len(v) + 6 for k, v in self.metadata.items())


def read(bodies: Iterable[bytes], received_ns: Iterable[int]) -> Iterator[Line]:
    """Yield a line for each log record of some ExportLogsServiceRequests; raises DecodeError where one is none.

    `received_ns` are the times at which they came in.
    """
    for index, (body, received) in enumerate(zip(bodies, received_ns, strict=True)):
        yield from from_request(ExportLogsServiceRequest.FromString(body), received, index)


def from_request(request: ExportLogsServiceRequest, received_ns: int, index: int = 0) -> Iterator[Line]:
    """Yield a line for each log record of a request.

    A record without any time gets that at which the request came in, and as many ns more as records are before it: the
    same whenever it comes again, as Loki knows a line by its time and text, and another than that of its neighbours.
    """
    times = itertools.count(received_ns)
    for group in request.resource_logs:
        attributes = {each.key: each.value for each in group.resource.attributes}
        service = _shown(attributes.pop("service.name", None)) or "unknown_service"
        found = [_shown(attributes.pop(name, None)) for name in _ENVIRONMENTS]
        environment = next(filter(None, found), "")
        about = [(name, _shown(value)) for name, value in attributes.items()]
        for scope in group.scope_logs:
            named = [("scope_name", scope.scope.name), ("scope_version", scope.scope.version)]
            attached = [*about, *((name, value) for name, value in named if value), *_pairs(scope.scope.attributes)]
            for record in scope.log_records:
                labels = Labels(service[:_LABEL_CHARACTERS], environment[:_LABEL_CHARACTERS], level(record))
                yield _line(labels, record, next(times), attached, Origin(index, group, scope, record))


def timed(body: bytes, received_ns: int) -> bytes:
    """Return a log request whose records all have a time, the one that `from_request` gives; itself, if they have."""
    request = ExportLogsServiceRequest.FromString(body)
    records = (record for group in request.resource_logs for scope in group.scope_logs for record in scope.log_records)
    changed = False
    for when, record in enumerate(records, received_ns):
        if not record.time_unix_nano and not record.observed_time_unix_nano:
            record.observed_time_unix_nano = when
            changed = True
    return request.SerializeToString() if changed else body


def request_of(origins: Iterable[Origin]) -> bytes:
    """Return an ExportLogsServiceRequest of just these records, with what is around them."""
    request = ExportLogsServiceRequest()
    groups: dict[int, Any] = {}
    scopes: dict[int, Any] = {}
    for origin in origins:
        if id(origin.resource) not in groups:
            group = groups[id(origin.resource)] = request.resource_logs.add(schema_url=origin.resource.schema_url)
            group.resource.CopyFrom(origin.resource.resource)
        if id(origin.scope) not in scopes:
            scope = groups[id(origin.resource)].scope_logs.add(schema_url=origin.scope.schema_url)
            scope.scope.CopyFrom(origin.scope.scope)
            scopes[id(origin.scope)] = scope
        scopes[id(origin.scope)].log_records.append(origin.record)
    return request.SerializeToString()


def level(record: LogRecord) -> str:
    """Return Loki's level, from the severity's number or else its text; "unknown" if neither is known."""
    number = record.severity_number
    if 1 <= number <= 4 * len(_LEVELS):
        return _LEVELS[(number - 1) // 4]
    return _TEXTS.get(record.severity_text.strip().lower(), "unknown")


def _line(labels: Labels, record: LogRecord, received_ns: int, attached: list[tuple[str, str]], origin: Origin) -> Line:
    given = [*_own(record), *_pairs(record.attributes), *attached]
    metadata, left = _metadata(given)
    text = _shown(record.body) if record.HasField("body") else record.event_name
    if left:
        text = _compact({"body": _plain(record.body) if record.HasField("body") else None, "attributes": left})
    when = record.time_unix_nano or record.observed_time_unix_nano or received_ns
    return Line(labels, when, text, metadata, origin)


def _own(record: LogRecord) -> Iterator[tuple[str, str]]:
    if record.trace_id:
        yield "trace_id", record.trace_id.hex()
    if record.span_id:
        yield "span_id", record.span_id.hex()
    if record.event_name:
        yield "event_name", record.event_name
    if record.severity_text:
        yield "severity_text", record.severity_text


def _pairs(attributes: Iterable[KeyValue]) -> Iterator[tuple[str, str]]:
    return ((each.key, _shown(each.value)) for each in attributes)


def _metadata(given: Iterable[tuple[str, str]]) -> tuple[dict[str, str], dict[str, str]]:
    """Return what fits as metadata, by Loki's names, and the rest by the names that it came with."""
    metadata: dict[str, str] = {}
    left: dict[str, str] = {}
    room = _MAX_METADATA_BYTES
    for name, value in given:
        key = _name(name)
        while key in metadata:  # a.b and a_b are two things
            key += "_"
        size = len(key) + (len(value) if value.isascii() else len(value.encode()))
        if len(metadata) < _MAX_METADATA and size <= room:
            metadata[key] = value
            room -= size
        else:
            left[name] = value
    return metadata, left


@lru_cache(4096)  # an app has the same names all the time
def _name(name: str) -> str:
    odd = _ODD.sub("_", name)
    return f"_{odd}" if not odd or odd[0].isdigit() else odd


def _shown(value: AnyValue | None) -> str:
    """Return a value as text: strings as they are, everything else as JSON."""
    if value is None or value.WhichOneof("value") is None:
        return ""
    return value.string_value if value.HasField("string_value") else _compact(_plain(value))


def _compact(value: Any) -> str:
    return orjson.dumps(value).decode()


def _plain(value: AnyValue) -> Any:
    """Return a value as JSON knows it; bytes as base64, integers beyond 64 bits do not exist here."""
    kind = value.WhichOneof("value")
    if kind == "kvlist_value":
        return {each.key: _plain(each.value) for each in value.kvlist_value.values}
    if kind == "array_value":
        return [_plain(each) for each in value.array_value.values]
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, kind) if kind else None
