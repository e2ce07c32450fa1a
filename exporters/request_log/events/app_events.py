"""Reads log records from apps and browsers out of OTLP bytes into `records.AppEvent`.

A column is named by an attribute `request_log.<column>`, or by a key of the record's body if that is a map; the
attribute has priority. Such attributes of the resource apply to all its records. Maps and lists may come as such or as
JSON text. The address of a client, ids of users and sessions, and the name of a browser may also come under their names
in the general conventions.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_telemetry.base import conventions, ids, otlp_values, records
from otel_telemetry.exporters.request_log.read import log_values

EVENT_NAME: Final = "event.name"
_NAMES_IN_BYTES: Final = tuple(name.encode() for name in sorted(conventions.APP_EVENTS))
_PREFIX: Final = len(conventions.REQUEST_LOG)
#: Attributes of the general conventions that say a column.
_ELSEWHERE: Final = {
    **dict.fromkeys(conventions.USER_ID_KEYS, "user_id"),
    **dict.fromkeys(conventions.SESSION_ID_KEYS, "session_id"),
    conventions.USER_AGENT: "user_agent",
}


def from_otlp(body: bytes) -> Iterator[records.AppEvent]:
    """Yield the events of an ExportLogsServiceRequest; raises MalformedTelemetry if the body is not one."""
    for record, resource, _ in log_values.log_records(body, _NAMES_IN_BYTES):
        found = _from_record(record, resource)
        if found is not None:
            yield found


def _from_record(record: LogRecord, resource: records.Attributes) -> records.AppEvent | None:
    attributes = otlp_values.attributes(record.attributes)
    name = _name(record.event_name, attributes)
    if name is None:
        return None
    of_all = {key[_PREFIX:]: value for key, value in resource.items() if key.startswith(conventions.REQUEST_LOG)}
    return records.AppEvent(
        name=name,
        time_ns=record.time_unix_nano,
        observed_ns=record.observed_time_unix_nano,
        trace_id=log_values.trace_id(record.trace_id),
        span_id=log_values.span_id(record.span_id),
        values={**of_all, **_values(otlp_values.to_python(record.body), attributes)},
        resource=resource,
        place=_count(attributes.get(conventions.EVENT_PLACE)),
        after=_count(attributes.get(conventions.EVENT_AFTER)),
        number=_count(attributes.get(conventions.EVENT_NUMBER)),
    )


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0


def _name(event_name: str, attributes: Mapping[str, Any]) -> str | None:
    """Return the name if it is one of ours; older SDKs put it into an attribute."""
    for name in (event_name, attributes.get(EVENT_NAME)):
        if isinstance(name, str) and name in conventions.APP_EVENTS:
            return name
    return None


def _values(body: Any, attributes: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = dict(body) if isinstance(body, Mapping) else {}
    address = next((attributes[key] for key in conventions.CLIENT_ADDRESS_KEYS if attributes.get(key)), None)
    for key, value in attributes.items():
        if key in _ELSEWHERE:
            values.setdefault(_ELSEWHERE[key], value)
    values.update(
        (key[_PREFIX:], value) for key, value in attributes.items() if key.startswith(conventions.REQUEST_LOG)
    )
    if address is not None:
        values["ip_hash"] = address
    return {key: value for key, value in values.items() if value is not None}


def identity(event: records.AppEvent) -> str:
    """Return an id made from the whole content: the same record has the same id however often it comes."""
    seen = 0 if event.time_ns else event.observed_ns
    identifying = [event.name, event.time_ns, seen, event.trace_id, event.span_id, dict(event.values)]
    if event.number:
        identifying.append(event.number)
    try:
        data = orjson.dumps(identifying, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=repr)
    except TypeError:  # text that is not UTF-8, integers of more than 64 bits
        data = repr(identifying).encode("utf-8", "replace")
    return ids.digest(data, b"said")
