"""Values of a model call from `request_log.<column>` attributes, on its own span or on its resource for all its calls.

Values from request headers come as resource attributes. Some names in `meta` are reserved (charge.py): a value under
one of them gets the prefix `said_`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from otel_telemetry.base import conventions, records
from otel_telemetry.exporters.request_log.db import coerce
from otel_telemetry.exporters.request_log.db.coerce import Notes
from otel_telemetry.exporters.request_log.dialects import dialect_table
from otel_telemetry.exporters.request_log.dialects.shapes import Shape
from otel_telemetry.exporters.request_log.price import charge

_TEXTS: Final = frozenset(
    {
        *("organization_id", "project_id", "user_id", "request_organization_id", "request_project_id"),
        *("request_user_id", "workflow_id", "workflow_name", "run_id", "step_id", "prompt_id", "prompt_version"),
    }
)
#: Columns that dialects say too.
_FROM_DIALECTS: Final = (
    ("user_id", conventions.USER_ID),
    ("workflow_name", dialect_table.WORKFLOW_NAME),
    ("prompt_id", dialect_table.PROMPT_ID),
    ("prompt_version", dialect_table.PROMPT_VERSION),
)
#: Of whom a header says both: whose it is, and who sent it.
_OF_SENDER: Final = ("organization_id", "project_id", "user_id")
#: Marks in `meta` a call whose own span is about all of its tries, instead of one for each.
ALL_TRIES: Final = "all_tries"
_OUR_META: Final = charge.PRICE_KEYS | {"problems", "stage", ALL_TRIES}


def _name(value: Any, key: str, notes: Notes) -> str | None:
    return coerce.text(value, key, notes, coerce.NAME_LIMIT)


Readers = Mapping[str, Callable[[Any, str, Notes], Any]]
#: Columns that are read from other attributes, unless the call's own span says them.
_INSTEAD: Final[Readers] = {
    **dict.fromkeys(("event_type", "operation", "finish_reason"), _name),
    "provider_request_id": coerce.text,
    "retries": coerce.integer,
    **dict.fromkeys(("rate_limited", "streamed"), coerce.flag),
}
#: The same of durations.
TIMES: Final[Readers] = dict.fromkeys(
    ("request_latency_ms", "total_latency_ms", "ttfb_ms", "tokens_per_second"), coerce.real
)


def fill_in(
    call: records.LlmCall, attributes: records.Attributes, own: Shape, values: Mapping[str, Any], notes: Notes
) -> None:
    """Fill in values that only `request_log.*` attributes have, and values of dialects that are missing."""
    for name in own.request_log_keys:
        if name in _TEXTS:
            setattr(call, name, coerce.text(attributes[own.request_log_keys[name]], name, notes))
    if "step_index" in own.request_log_keys:
        call.step_index = coerce.integer(attributes[own.request_log_keys["step_index"]], "step_index", notes)
    for name, meaning in _FROM_DIALECTS:
        if meaning in values and getattr(call, name) is None:
            setattr(call, name, coerce.text(values[meaning], meaning, notes))


def instead(
    call: records.LlmCall, attributes: records.Attributes, own: Shape, notes: Notes, readers: Readers = _INSTEAD
) -> None:
    """Replace what was read elsewhere by the values of the call's own span."""
    for name in own.request_log_keys:
        if name in readers:
            fields = readers[name](attributes[own.request_log_keys[name]], name, notes)
            if fields is not None:
                setattr(call, name, fields)
    if "retries" in own.request_log_keys and call.retries:
        call.meta = {**(call.meta or {}), ALL_TRIES: True}


def is_of_all_tries(call: records.LlmCall) -> bool:
    """Return whether the call's own span covers all of its tries: then it has their number itself."""
    return bool(call.retries and (call.meta or {}).get(ALL_TRIES))


def json_field(name: str, attributes: records.Attributes, own: Shape, notes: Notes) -> dict[str, Any]:
    """Return `meta` or `response_meta` of the call's own span; it may come as JSON."""
    if name not in own.request_log_keys:
        return {}
    found = coerce.parsed(attributes[own.request_log_keys[name]], name, notes)
    if isinstance(found, dict):
        return _renamed(found)
    notes.refuse(name, "not a map")
    return {}


def of_resource(resource: records.Attributes, notes: Notes) -> dict[str, Any]:
    """Return the columns that a resource sets for each model call below it, as headers of a request do."""
    found: dict[str, Any] = {}
    for key, value in resource.items():
        name = key.removeprefix(conventions.REQUEST_LOG)
        if name is not key and name in _TEXTS:
            found[name] = coerce.text(value, name, notes)
        elif name is not key and name == "step_index":
            found[name] = coerce.integer(value, name, notes)
        elif name is not key and name == "meta" and isinstance(value, dict):
            found[name] = _renamed(coerce.structure(value, name, notes))
    for name in _OF_SENDER:
        if found.get(name) is not None:
            found.setdefault(f"request_{name}", found[name])
    return found


def fill_in_from_resource(call: records.LlmCall, fields: Mapping[str, Any]) -> None:
    """Fill in the values of a resource that the call does not have."""
    for name, value in fields.items():
        if getattr(call, name) is None:
            setattr(call, name, dict(value) if isinstance(value, dict) else value)


def _renamed(fields: dict[str, Any]) -> dict[str, Any]:
    return {f"said_{name}" if name in _OUR_META else name: value for name, value in fields.items()}
