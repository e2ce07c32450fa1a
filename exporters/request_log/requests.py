"""A request's row: what its span says (facts), and the row itself from those facts and the sum of its model calls.

Facts are `{column: value}` in JSON's types, money as text. What the app says of a column goes before what the calls
add up to. `request_log.<column>` attributes may come with the column's type or as text; a map may come as JSON or as
one attribute per key (`request_log.stage_ms.web`). A key that is no column lands in `meta`.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from otel_telemetry import conventions, records
from otel_telemetry.exporters.request_log import calls, coerce
from otel_telemetry.exporters.request_log.coerce import Notes
from otel_telemetry.exporters.request_log.rollup import Rollup
from otel_telemetry.exporters.request_log.shapes import Shape

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
    if isinstance(value, str) and _PSEUDONYM.fullmatch(value):
        return value
    if not (isinstance(value, str) and _REDACTED in value):  # redaction did its work: nothing is wrong with that
        notes.refuse(key, "not a pseudonym")
    return None


_REDACTED: Final = "[REDACTED"
_OUR_ID: Final = re.compile(r"[0-9a-f]{32}-[0-9a-f]{16}")
_PSEUDONYM: Final = re.compile(r"[0-9a-f]{12,64}")
_SERVER_FAULT: Final = 500

_TEXTS: Final = (
    *("session_id", "conversation_id", "user_id", "route", "router_source", "model", "provider", "prompt_version"),
    *("provider_request_id", "scope", "degraded", "error"),
)
_TOKENS: Final = ("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens")
_COST_PARTS: Final = ("cost_input_usd", "cost_cached_usd", "cost_output_usd")
_COSTS: Final = ("cost_usd", *_COST_PARTS)
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
    **dict.fromkeys(("session_id", "conversation_id", "user_id", "route", "model", "degraded"), _name),
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
#: Columns that only the span and its resource say.
_NOT_SAID: Final = frozenset({"ts", "trace_id", "span_id", "service", "environment", "cost_source"})
_HTTP: Final = frozenset({"http_route", "http_method", "http_status_code"})


def facts(span: calls.Told, own: Shape, source: calls.Origin, *, store_text: bool) -> dict[str, Any]:
    """Return what a span says of the request that it is; `own` is the shape of its attributes.

    Never raises for what attributes hold.
    """
    notes = Notes(source.notes)
    found: dict[str, Any] = {"service": source.application, "environment": source.environment}
    meta: dict[str, Any] = {}
    for name, key in own.said.items():
        value = span.attributes[key]
        if value is not None and key != conventions.STAGE:
            _said(name, value, found, meta, notes, store_text=store_text)
    if own.general:
        _from_elsewhere(span.attributes, own, found, meta, notes)
    _from_span(span, found, notes)
    if notes:
        meta["problems"] = dict(notes)
    found["meta"] = meta or None
    return {column: value for column, value in found.items() if value is not None}


def _said(
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
        found[name] = COLUMNS[name](value, name, notes)
    elif name in _NOT_SAID:
        notes.refuse(name, "is what the span and its resource say")
    elif name == "meta":
        meta.update(_map(value, name, notes) or {})
    else:
        coerce.keep(meta, name, value, notes)


def _from_elsewhere(
    attributes: records.Attributes, own: Shape, found: dict[str, Any], meta: dict[str, Any], notes: Notes
) -> None:
    """Fill in what general conventions say too."""
    for column, keys in own.general.items():
        value = _first(attributes, keys)
        if value is None:
            continue
        if column in _HTTP:
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


def _from_span(span: calls.Told, found: dict[str, Any], notes: Notes) -> None:
    if found.get("latency_ms") is None:
        found["latency_ms"] = coerce.milliseconds(span.start_ns, span.end_ns, "latency_ms", notes)
    said_error = found.get("error") is not None
    if not said_error:
        found["error"] = calls.error_text(span, notes)
    code = calls.status_code(span)
    faulty = isinstance(code, (int, float)) and code >= _SERVER_FAULT
    found["ok"] = span.status != "ERROR" and not faulty and not said_error and found.get("ok") is not False


def has_text(said: Mapping[str, Any] | None) -> bool:
    """Tell whether what a span says of a request holds texts that people typed and read."""
    return said is not None and any(name in said for name in TEXT_COLUMNS)


def render(row_id: str, key: tuple[str, str], ts: datetime, said: Mapping[str, Any], rollup: Rollup) -> records.Request:
    """Return the row of a request; `key` is its trace and span id."""
    trace_id, span_id = key
    summed = _summed(rollup)
    summed.update(_cost(said, rollup))
    values = {**summed, **{name: value for name, value in said.items() if name not in ("id", *_COSTS)}}
    return records.Request(id=row_id, trace_id=trace_id, span_id=span_id, ts=ts, **values)


def _summed(rollup: Rollup) -> dict[str, Any]:
    values: dict[str, Any] = {name: rollup.known(name) for name in _TOKENS}
    values["llm_calls"] = rollup.sums.get("llm_calls", 0)
    values["retries"] = rollup.sums.get("retries", 0)
    values["rate_limited"] = rollup.sums.get("rate_limited", 0) > 0
    answer = calls.answering(rollup)
    if answer is not None:
        names = ("model", "provider", "tokens_per_second", "provider_request_id")
        values.update(zip(names, answer, strict=True))
    values.update({column: held[2] for column, held in rollup.told.items()})
    values["models"] = {slot: held[2][0] for slot, held in rollup.last.items() if slot and held[2][0]} or None
    spans, of_calls = rollup.named("span_ns:"), rollup.named("call_ns:")
    # A stage has a span of its own around its calls, or its calls are all that is known of it.
    values["stage_ms"] = {stage: ns / 1e6 for stage, ns in {**of_calls, **spans}.items()} or None
    return values


def _cost(said: Mapping[str, Any], rollup: Rollup) -> dict[str, Any]:
    """Return the cost columns. One call without a price makes the request's cost unknown."""
    if "cost_usd" in said:
        return {"cost_source": "given", **{name: Decimal(said[name]) for name in _COSTS if name in said}}
    sources = rollup.named("source:")
    if "unpriced" in sources:
        return {"cost_source": "unpriced"}
    if not sources:
        return {}
    total = rollup.known("cost_usd")
    values: dict[str, Any] = {"cost_usd": None if total is None else _dollars(total)}
    kinds = {source.partition(" ")[0] for source in sources}
    kind = kinds.pop() if len(kinds) == 1 else "mixed"
    values["cost_source"] = f"{kind} {_versions(sources)}".rstrip()
    if "given" not in sources:
        values.update({name: _dollars(rollup.sums.get(name, 0)) for name in _COST_PARTS})
    return values


def _dollars(pico: int) -> Decimal:
    return Decimal(pico) * coerce.SMALLEST_AMOUNT


def _versions(sources: Mapping[str, int]) -> str:
    return ",".join(sorted({source.partition(" ")[2] for source in sources} - {""}))
