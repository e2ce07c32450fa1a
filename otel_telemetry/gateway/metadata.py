"""What the headers of a request say of everything in it: `x-chronicle-workflow-id` and its like."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from google.protobuf.message import DecodeError
from starlette.requests import Request

from otel_telemetry import conventions
from otel_telemetry.errors import MalformedTelemetry
from otel_telemetry.gateway.any_value import put
from otel_telemetry.gateway.otlp_json import REQUESTS, Decoded, Signal
from otel_telemetry.gateway.receive import Prepare

_META: Final = "meta"
_INDEX: Final = "step_index"
_GROUPS: Final = {"traces": "resource_spans", "logs": "resource_logs"}
#: Columns that a resource says by names of its own.
_OF_RESOURCE: Final = {
    "application": conventions.SERVICE_NAME,
    "environment": conventions.DEPLOYMENT_ENVIRONMENT,
}


def of(request: Request) -> dict[str, Any]:
    """Return {column: value}; raises MalformedTelemetry naming a header that cannot be read."""
    said: dict[str, Any] = {}
    for header, column in conventions.METADATA_HEADERS.items():
        value = request.headers.get(header)
        if value:
            said[column] = value
    if _META in said:
        said[_META] = _map(said[_META])
    if _INDEX in said and not (said[_INDEX].isascii() and said[_INDEX].isdecimal()):
        raise MalformedTelemetry("must be a whole number", "x-chronicle-step-index")
    return said


def _map(text: str) -> Any:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise MalformedTelemetry("is not JSON", "x-chronicle-extra-meta") from None
    if not isinstance(found, dict):
        raise MalformedTelemetry("must be a JSON object", "x-chronicle-extra-meta")
    return found


def filling(signal: Signal, prepare: Prepare | None, said: Mapping[str, Any]) -> Prepare | None:
    """Return what prepares a request and lets its resources say what headers do, where they do not say it already.

    Metrics have no rows that these are columns of.
    """
    if not said or signal not in _GROUPS:
        return prepare

    def fill(body: bytes) -> Decoded:
        decoded = prepare(body) if prepare else Decoded(body, 0, "")
        return Decoded(_filled(signal, decoded.body, said), decoded.rejected, decoded.problem)

    return fill


def _filled(signal: Signal, body: bytes, said: Mapping[str, Any]) -> bytes:
    try:
        message: Any = REQUESTS[signal].FromString(body)
    except DecodeError:
        return body  # who redacts it will tell
    for group in getattr(message, _GROUPS[signal]):
        attributes = group.resource.attributes
        there = {each.key for each in attributes if not each.value.string_value.startswith(conventions.UNKNOWN_SERVICE)}
        for column, value in said.items():
            key = _OF_RESOURCE.get(column, conventions.REQUEST_LOG + column)
            if key not in there:
                put(attributes.add(key=key).value, value, column)
    return bytes(message.SerializeToString())
