"""Makes a request's row: from the facts of its span, and the sum of its model calls.

Facts are `{column: value}` in JSON's types, money as text. A column that the app sets has priority over the sum of the
calls. `request_log.<column>` attributes may have the column's type or be text; a map may come as JSON or as one
attribute per key (`request_log.stage_ms.web`). A key that has no column goes to `meta`.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from otel_telemetry.base import conventions, records
from otel_telemetry.exporters.request_log.db import coerce, free_json
from otel_telemetry.exporters.request_log.db.coerce import Notes
from otel_telemetry.exporters.request_log.derive import calls, spoken
from otel_telemetry.exporters.request_log.derive.sums import RequestSum
from otel_telemetry.exporters.request_log.dialects.shapes import Shape

Reader = Callable[[Any, str, Notes], Any]


def _id(value: Any, key: str, notes: Notes) -> str | None:
    """Return an id that can be a key: bounded, and not what redaction left of one."""
    found = coerce.text(value, key, notes, coerce.ID_LIMIT)
    if found is not None and (_REDACTED in found or _OUR_ID.fullmatch(found)):
        notes.refuse(key, "redacted" if _REDACTED in found else "looks like a span's own id")
        return None
    return found


def _share(value: Any, key: str, notes: Notes) -> float | None:
    share = coerce.real(value, key, notes)
    if share is not None and share > 1:
        notes.refuse(key, "not between 0 and 1")
        return None
    return share


def _map(value: Any, key: str, notes: Notes) -> dict[str, Any] | None:
    found = coerce.parsed(value, key, notes)
    if isinstance(found, dict):
        return found
    notes.refuse(key, "not a map")
    return None


def _name(value: Any, key: str, notes: Notes) -> str | None:
    return coerce.text(value, key, notes, coerce.NAME_LIMIT)


def _content(value: Any, key: str, notes: Notes) -> str | None:
    return coerce.text(value, key, notes, coerce.CONTENT_LIMIT)


def _money(value: Any, key: str, notes: Notes) -> str | None:
    amount = coerce.money(value, key, notes)
    return None if amount is None else str(amount)


def _pseudonym(value: Any, key: str, notes: Notes) -> str | None:
    """Return a keyed hash as redaction leaves it. Anything else may be an address, and must not get into a table."""
    if isinstance(value, (list, tuple)) and value:  # header attributes are lists
        value = value[0]
    if isinstance(value, str) and _PSEUDONYM.fullmatch(first := value.partition(",")[0].strip()):
        return first  # of a list, as proxies write it, the client comes first
    if not (isinstance(value, str) and _REDACTED in value):  # redaction did its work: nothing is wrong with that
        notes.refuse(key, "not a pseudonym")
    return None


_REDACTED: Final = "[REDACTED"
_OUR_ID: Final = re.compile(r"[0-9a-f]{32}-[0-9a-f]{16}")
_PSEUDONYM: Final = re.compile(r"[0-9a-f]{12,64}")
_SERVER_FAULT: Final = 500
_FINAL: Final = "final"

_TEXTS: Final = (
    *("session_id", "conversation_id", "user_id", "route", "router_source", "model", "provider", "prompt_version"),
    *("provider_request_id", "scope", "degraded", "error"),
)
_TOKENS: Final = ("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens")
_COST_PARTS: Final = ("cost_input_usd", "cost_cached_usd", "cost_output_usd")
_COSTS: Final = ("cost_usd", *_COST_PARTS)
#: What is said of a request that becomes no column as it stands.
_NOT_SHOWN: Final = frozenset({"id", *_COSTS})
_FLAGS: Final = (
    *("escalated", "fallback_fired", "cache_hit", "ceiling_hit", "per_user_cap_hit", "rate_limited"),
    "ok",
)
#: What people typed and read: only with `store_text`. `normalized` is the question, put in order.
TEXT_COLUMNS: Final = ("query_text", "answer_text", "normalized")
TEXT_ATTRIBUTES: Final = frozenset(conventions.REQUEST_LOG + name for name in TEXT_COLUMNS)
#: What may hold a person's address: kept as a pseudonym in its column, and nowhere else.
ADDRESS_ATTRIBUTES: Final = frozenset({*conventions.CLIENT_ADDRESS_KEYS, conventions.REQUEST_LOG + "ip_hash"})

#: How each column that an app may say is read.
COLUMNS: Final[Mapping[str, Reader]] = {
    "id": _id,
    **dict.fromkeys(_TEXTS, coerce.text),
    **dict.fromkeys(("session_id", "conversation_id", "user_id", "route", "model", "degraded", "region"), _name),
    "ip_hash": _pseudonym,
    "router_confidence": _share,
    **dict.fromkeys(conventions.MAP_COLUMNS, _map),
    **dict.fromkeys(_TOKENS, coerce.integer),
    **dict.fromkeys(_COSTS, _money),
    **dict.fromkeys(("latency_ms", "ttfb_ms", "tokens_per_second"), coerce.real),
    **dict.fromkeys(("llm_calls", "retries", "allow_tps"), coerce.integer),
    **dict.fromkeys(_FLAGS, coerce.flag),
    "topk": coerce.parsed,
    **dict.fromkeys(TEXT_COLUMNS, _content),
}
#: Columns that take any JSON, or any text of an error.
_FREE: Final = frozenset({"topk", "error"})
#: Columns that only the span and its resource say.
_FROM_SPAN_ONLY: Final = frozenset({"ts", "trace_id", "span_id", "service", "environment", "cost_source"})
_CALLING: Final = frozenset({"CLIENT", "PRODUCER"})
_OF_PEERS: Final = ("net.", "network.")
#: Where a request came in, best first; where the app names no route, this is it.
ENDPOINTS: Final = ("http_route", "task_name", "rpc_method")
_ENTRY: Final = (*ENDPOINTS, "http_method", "http_status_code")


def facts(span: calls.SpanData, own: Shape, source: calls.Origin, *, store_text: bool) -> dict[str, Any]:
    """Return the request fields of a span; `own` is the shape of its attributes. Never raises for attribute values."""
    notes = Notes(source.notes)
    found: dict[str, Any] = {"service": source.application, "environment": source.environment, "region": source.region}
    meta: dict[str, Any] = {}
    for name, key in own.request_log_keys.items():
        value = span.attributes[key]
        if value is not None and key != conventions.STAGE:
            _set_field(name, value, found, meta, notes, store_text=store_text)
    if own.general:
        _from_elsewhere(span, own, found, meta, notes)
    _from_span(span, found, notes, store_text=store_text)
    if notes:
        meta["problems"] = dict(notes)
    found["meta"] = meta or None
    return {column: value for column, value in found.items() if value is not None}


def _set_field(
    name: str, value: Any, found: dict[str, Any], meta: dict[str, Any], notes: Notes, *, store_text: bool
) -> None:
    column, _, key = name.partition(".")
    if column in conventions.MAP_COLUMNS and key:
        found[column] = found.get(column) or {}
        coerce.keep(found[column], key, value, notes)
    elif column in conventions.MAP_COLUMNS:
        found[column] = {**(COLUMNS[column](value, name, notes) or {}), **(found.get(column) or {})} or None
    elif name in TEXT_COLUMNS and not store_text:
        return
    elif name in COLUMNS:
        free = free_json.storable(value, name, store_text=store_text) if name in _FREE else value
        found[name] = COLUMNS[name](free, name, notes)
    elif name in _FROM_SPAN_ONLY:
        notes.refuse(name, "is what the span and its resource say")
    elif (stays := free_json.storable(value, name, store_text=store_text)) is None:
        return
    elif name == "meta":
        meta.update(_map(stays, name, notes) or {})
    else:
        coerce.keep(meta, name, stays, notes)


def _from_elsewhere(
    span: calls.SpanData, own: Shape, found: dict[str, Any], meta: dict[str, Any], notes: Notes
) -> None:
    """Fill in values from general conventions. On a span of an outgoing call the peer is not a client."""
    attributes = span.attributes
    for column, keys in own.general.items():
        if column == "ip_hash" and span.kind in _CALLING:
            keys = tuple(key for key in keys if not key.startswith(_OF_PEERS))  # noqa: PLW2901  # fewer of them
        value = _first(attributes, keys)
        if value is None or (column == "rpc_method" and span.kind in _CALLING):
            continue
        if column in _ENTRY:
            meta.setdefault(column, coerce.structure(value, column, notes))
        elif found.get(column) is None:
            if column == "ip_hash":
                found[column] = _pseudonym(value, column, notes)
            elif column != "error":  # of errors the span itself knows more
                found[column] = _name(value, keys[0], notes)


def _first(attributes: records.Attributes, keys: tuple[str, ...]) -> Any:
    for key in keys:
        value = attributes[key]
        if value is not None:
            return value
    return None


def _from_span(span: calls.SpanData, found: dict[str, Any], notes: Notes, *, store_text: bool) -> None:
    if found.get("latency_ms") is None:
        found["latency_ms"] = coerce.milliseconds(span.start_ns, span.end_ns, "latency_ms", notes)
    has_error = found.get("error") is not None
    if not has_error:
        found["error"] = free_json.error_text(calls.error_text(span, notes), store_text=store_text)
    code = calls.status_code(span)
    faulty = isinstance(code, (int, float)) and code >= _SERVER_FAULT
    found["ok"] = span.status != "ERROR" and not faulty and not has_error and found.get("ok") is not False


def has_text(fields: Mapping[str, Any] | None) -> bool:
    """Return whether the request fields of a span hold texts that people typed or read."""
    return fields is not None and any(name in fields for name in TEXT_COLUMNS)


def render(  # noqa: PLR0917 - what a row is made of
    row_id: str,
    key: tuple[str, str],
    ts: datetime,
    fields: Mapping[str, Any],
    total: RequestSum,
    entry: Mapping[str, Any] | None = None,
) -> records.Request:
    """Return the row of a request; `key` is its trace and span id, `entry` the fields of the span's entry point."""
    trace_id, span_id = key
    values = _summed(total)
    values.update(_cost(fields, total))
    for name, value in fields.items():
        if name not in _NOT_SHOWN:
            values[name] = value
    if "models" in values and values.get("model") is None:
        values["model"] = _final(values["models"])
    if entry is not None:
        values["meta"] = _entered(values.get("meta"), entry.get("meta"))
    if "meta" in values and values.get("route") is None:
        values["route"] = _endpoint(values["meta"])
    return records.Request(id=row_id, trace_id=trace_id, span_id=span_id, ts=ts, **values)


def _final(models: Mapping[str, Any] | None) -> str | None:
    """Return the model that the app names for the final stage, where nothing else names the one that answered."""
    named = (models or {}).get(_FINAL)
    return named[: coerce.NAME_LIMIT] if isinstance(named, str) and named else None


def _entered(meta: dict[str, Any] | None, entry: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a request's meta with the values of the span through which it entered the service."""
    if not entry:
        return meta
    return {**{name: entry[name] for name in _ENTRY if name in entry}, **(meta or {})} or None


def _endpoint(meta: Mapping[str, Any] | None) -> str | None:
    if meta is not None:
        for name in ENDPOINTS:
            named = meta.get(name)
            if isinstance(named, str) and named:
                return named[: coerce.NAME_LIMIT]
    return None


def _summed(total: RequestSum) -> dict[str, Any]:
    values: dict[str, Any] = {
        **total.known(),
        "llm_calls": total.calls,
        "retries": total.retries,
        "rate_limited": total.rate_limited > 0,
    }
    answer = total.answer
    if answer is not None:
        values["model"], values["provider"] = answer.model, answer.provider
        values["tokens_per_second"] = answer.tokens_per_second
        values["provider_request_id"] = answer.provider_request_id
        values["query_text"], values["answer_text"] = spoken.question(answer), spoken.answer(answer)
    if total.callers:
        values.update(total.caller_fields())
    # A stage has a span of its own around its calls, or its calls are all that is known of it.
    if total.of_calls or total.of_spans:
        values["stage_ms"] = total.stages
    if len(total.last) > 1:
        values["models"] = total.models or None
    return values


def _cost(fields: Mapping[str, Any], total: RequestSum) -> dict[str, Any]:
    """Return the cost columns. One call without a price makes the request's cost unknown."""
    if "cost_usd" in fields:
        return {"cost_source": "given", **{name: Decimal(fields[name]) for name in _COSTS if name in fields}}
    if not total.sources or "unpriced" in total.sources:
        return {"cost_source": "unpriced"} if total.sources else {}
    values: dict[str, Any] = {"cost_usd": total.costs[0] if total.known_costs else None}
    values["cost_source"] = _source(tuple(total.sources))
    if "given" not in total.sources:
        values["cost_input_usd"], values["cost_cached_usd"], values["cost_output_usd"] = total.costs[1:]
    return values


@lru_cache(maxsize=64)
def _source(sources: tuple[str, ...]) -> str:
    """Return where the costs of a request are from, with the versions of the price tables."""
    kinds = {source.partition(" ")[0] for source in sources}
    versions = ",".join(sorted({source.partition(" ")[2] for source in sources} - {""}))
    return f"{kinds.pop() if len(kinds) == 1 else 'mixed'} {versions}".rstrip()
