"""Log records by which apps, browsers and people say something, read from OTLP bytes into `records.Said`.

A column is named by an attribute `request_log.<column>`, or by a key of the record's body where that is a map; the
attribute goes first. What the resource names in this way, all its records say. Maps and lists may come as such or as
JSON text. The address of a client, ids of users and sessions, and the name of a browser may come under their names in
the general conventions.
"""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final

import orjson
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_telemetry import conventions, records
from otel_telemetry.exporters.request_log import otlp

EVENT_NAME: Final = "event.name"
_NAMES_IN_BYTES: Final = tuple(name.encode() for name in sorted(conventions.SAID_EVENTS))
_PREFIX: Final = len(conventions.REQUEST_LOG)
#: Attributes of the general conventions that say a column.
_ELSEWHERE: Final = {
    **dict.fromkeys(conventions.USER_ID_KEYS, "user_id"),
    **dict.fromkeys(conventions.SESSION_ID_KEYS, "session_id"),
    conventions.USER_AGENT: "user_agent",
}


def from_otlp(body: bytes) -> Iterator[records.Said]:
    """Yield what an ExportLogsServiceRequest says; raises MalformedTelemetry where the body is none."""
    for record, resource, _ in otlp.log_records(body, _NAMES_IN_BYTES):
        found = _from_record(record, resource)
        if found is not None:
            yield found


def _from_record(record: LogRecord, resource: records.Attributes) -> records.Said | None:
    attributes = otlp.attributes(record.attributes)
    name = _name(record.event_name, attributes)
    if name is None:
        return None
    of_all = {key[_PREFIX:]: value for key, value in resource.items() if key.startswith(conventions.REQUEST_LOG)}
    return records.Said(
        name=name,
        time_ns=record.time_unix_nano,
        observed_ns=record.observed_time_unix_nano,
        trace_id=otlp.trace_id(record.trace_id),
        span_id=otlp.span_id(record.span_id),
        values={**of_all, **_values(otlp.value(record.body), attributes)},
        resource=resource,
    )


def _name(event_name: str, attributes: Mapping[str, Any]) -> str | None:
    """Return the name where it is one of ours; older SDKs say it in an attribute."""
    for name in (event_name, attributes.get(EVENT_NAME)):
        if isinstance(name, str) and name in conventions.SAID_EVENTS:
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


def identity(said: records.Said) -> str:
    """Return an id made from all that is said: the same record has it however often it comes."""
    seen = 0 if said.time_ns else said.observed_ns
    told = [said.name, said.time_ns, seen, said.trace_id, said.span_id, dict(said.values)]
    try:
        data = orjson.dumps(told, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=repr)
    except TypeError:  # text that is not UTF-8, integers of more than 64 bits
        data = repr(told).encode("utf-8", "replace")
    return blake2b(data, digest_size=16, person=b"said").hexdigest()
