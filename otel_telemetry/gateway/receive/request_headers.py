"""Values from the headers of a request for everything in it: `x-chronicle-workflow-id` and similar."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from starlette.requests import Request

from otel_telemetry.base import conventions
from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import MalformedTelemetry
from otel_telemetry.base.otlp_json import Decoded
from otel_telemetry.base.otlp_values import put
from otel_telemetry.gateway.receive.cleaning import Prepare
from otel_telemetry.gateway.receive.receiver import Receiver

_COLUMNS: Final = {name.encode(): column for name, column in conventions.METADATA_HEADERS.items()}
_META: Final = "meta"
_INDEX: Final = "step_index"
_SIGNALS: Final = frozenset({"traces", "logs"})
#: Columns that a resource says by names of its own.
_OF_RESOURCE: Final = {
    "application": conventions.SERVICE_NAME,
    "environment": conventions.DEPLOYMENT_ENVIRONMENT,
}


def of(request: Request) -> dict[str, Any]:
    """Return {column: value}; raises MalformedTelemetry naming a header that cannot be read."""
    columns: dict[str, Any] = {}
    for name, value in request.scope["headers"]:  # in one go: each look-up by name goes through all of them
        column = _COLUMNS.get(name)
        if column and value and column not in columns:
            columns[column] = value.decode("latin-1")
    if _META in columns:
        columns[_META] = _map(columns[_META])
    if _INDEX in columns and not (columns[_INDEX].isascii() and columns[_INDEX].isdecimal()):
        raise MalformedTelemetry("must be a whole number", "x-chronicle-step-index")
    return columns


def _map(text: str) -> Any:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise MalformedTelemetry("is not JSON", "x-chronicle-extra-meta") from None
    if not isinstance(found, dict):
        raise MalformedTelemetry("must be a JSON object", "x-chronicle-extra-meta")
    return found


def size(request: Request) -> int:
    """Return how many bytes these headers have: as many go into each event of a request, or each resource."""
    return sum(len(value) for name, value in request.scope["headers"] if name in _COLUMNS)


def filling(
    signal: Signal,
    prepare: Prepare | None,
    columns: Mapping[str, Any],
    receiver: Receiver,
    charge: Callable[[int], object],
) -> Prepare | None:
    """Return a function that sets values of headers on a request's resources, unless these have them already.

    Metrics have no rows with these columns. `charge` is called with the bytes that each resource gets, and may refuse.
    """
    if not columns or signal not in _SIGNALS:
        return prepare

    def fill(body: bytes) -> Decoded:
        decoded = prepare(body) if prepare else Decoded(body, 0, "")
        charge(2 * len(decoded.body))  # all of it is copied
        filled = receiver.add_to_resources(decoded.body, _attributes(columns), charge)
        return Decoded(filled, decoded.rejected, decoded.problem)

    return fill


def _attributes(columns: Mapping[str, Any]) -> dict[str, bytes]:
    """Return what these columns are as attributes of a resource: KeyValue messages by their keys."""
    found: dict[str, bytes] = {}
    for column, value in columns.items():
        key = _OF_RESOURCE.get(column, conventions.REQUEST_LOG + column)
        attribute = KeyValue(key=key)
        put(attribute.value, value, column)
        found[key] = attribute.SerializeToString()
    return found
