"""The chat bot's request_log: its columns are known by name only, in whatever spelling; others are kept in meta."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from otel_telemetry.base import conventions
from otel_telemetry.exporters.request_log.derive import requests
from otel_telemetry.older import values
from otel_telemetry.older.items import Item, OldSpan, own_id
from otel_telemetry.older.values import Row

_TABLE: Final = "request_log"
_TIMES: Final = ("ts", "created_at", "timestamp", "time")
_COST: Final = ("cost_usd", "cost_input_usd", "cost_cached_usd", "cost_output_usd")
#: Other names of columns, as they are spelt in snake case.
_SAME: Final = {
    "room_id": "conversation_id",
    "room": "conversation_id",
    "sender": "user_id",
    "err": "error",
    "query": "query_text",
    "answer": "answer_text",
    "cost": "cost_usd",
    "cost_total": "cost_usd",
    "cost_input": "cost_input_usd",
    "cost_cached": "cost_cached_usd",
    "cost_output": "cost_output_usd",
    "latency": "latency_ms",
    "stages": "stage_ms",
    "tokens_in": "prompt_tokens",
    "tokens_out": "completion_tokens",
}
_PARTS: Final = {"total": _COST[0], "input": _COST[1], "cached": _COST[2], "output": _COST[3]}
_FLAGS: Final = frozenset(
    {
        *("escalated", "fallback_fired", "cache_hit", "ceiling_hit", "per_user_cap_hit", "rate_limited", "ok"),
    }
)
_NUMBERS: Final = frozenset(
    {
        *("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens"),
        *("latency_ms", "ttfb_ms", "tokens_per_second", "router_confidence", "retries", "allow_tps"),
        *_COST,
    }
)
_JSON: Final = frozenset({*conventions.MAP_COLUMNS, "topk"})


def snake(name: str) -> str:
    """Return a name in snake case: RoomID is room_id."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower().replace(" ", "_")


def _column(name: str) -> str | None:
    """Return the column that an older one is, or None."""
    spelt = snake(name)
    spelt = _SAME.get(spelt, spelt)
    return spelt if spelt in requests.COLUMNS else None


def not_understood(columns: Iterable[str]) -> list[str]:
    """Return the columns that go to meta."""
    return [name for name in columns if snake(name) not in _TIMES and _column(name) is None]


def items_of(table: str, row: Row, service: str | None) -> Sequence[Item]:
    """Return the spans and events of a row; raises ValueError if it is not a row of a request_log."""
    del table
    at = values.moment({snake(name): value for name, value in row.items()}, *_TIMES)
    fields: dict[str, Any] = {}
    for name, value in row.items():
        if value is None or snake(name) in _TIMES:
            continue
        column = _column(name)
        fields[column or snake(name)] = _read(column, name, row)
    fields.update(_cost(fields.pop("cost_usd", None), fields))
    error = fields.get("error") or None
    latency = fields.get("latency_ms")
    user = fields.pop("user_id", None)
    fields["error"] = error
    attributes = values.prefixed(conventions.REQUEST_LOG, fields)
    attributes[conventions.USER_ID] = user
    own = own_id("bot", _TABLE, row.get("id"), at)
    return [OldSpan(own, "request", "SERVER", at, latency, attributes, service=service)]


def _read(column: str | None, name: str, row: Row) -> Any:
    if column == "cost_usd":
        return values.lenient_json(row, name)
    if column in _FLAGS:
        return values.flag(row, name)
    if column in _NUMBERS:
        return values.number(row, name)
    if column in _JSON:
        return values.json(row, name)
    return values.text(row, name) if column else values.lenient_json(row, name)


def _cost(given: Any, fields: Row) -> dict[str, Any]:
    """Return the cost as money in text: one number, or parts by name, whose sum it is if there is no total."""
    parts = {name: fields[name] for name in _COST[1:] if fields.get(name) is not None}
    if isinstance(given, dict):
        unknown = [name for name in given if _part(name) is None]
        if unknown:
            raise ValueError(f"cost has parts that are not known: {', '.join(map(str, unknown[:3]))}")
        parts |= {_part(name): values.number(given, name) for name in given}
        given = parts.pop("cost_usd", None)
    total = values.number({"cost": given}, "cost")
    known = {name: value for name, value in parts.items() if value is not None}
    if total is None and known:
        total = sum(known.values())
    return {name: repr(value) for name, value in {"cost_usd": total, **known}.items() if value is not None}


def _part(name: str) -> Any:
    spelt = snake(name).removeprefix("cost_").removesuffix("_usd").removesuffix("_cost")
    return _PARTS.get(spelt)
