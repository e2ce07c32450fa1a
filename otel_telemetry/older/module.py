"""The SQLite telemetry module: questions (`ask_logs`), ratings of answers, and browser events.

Its times are UTC, without a mark for it.
"""

from collections.abc import Sequence
from typing import Final

from otel_telemetry.base import conventions
from otel_telemetry.gateway.receive.rest import models
from otel_telemetry.gateway.receive.rest.records import Record
from otel_telemetry.older import values
from otel_telemetry.older.items import Item, OldSpan, own_id
from otel_telemetry.older.values import Row

_SYSTEM: Final = "module"
COLUMNS: Final = {
    "ask_logs": frozenset(
        {
            *("id", "ts", "sid", "ip_hash", "query", "normalized", "scope", "allow_tps", "latency_ms", "model", "ok"),
            *("topk_json", "tokens_in", "tokens_out", "answer"),
        }
    ),
    "feedback": frozenset(
        {
            *("id", "ts", "sid", "ip_hash", "verdict", "query", "answer", "note", "model", "scope", "sources_json"),
        }
    ),
    "events": frozenset({"id", "ts", "type", "sid", "ua", "ip_hash", "data_json"}),
}


def items_of(table: str, row: Row, service: str | None) -> Sequence[Item]:
    """Return the spans and events of a row; raises ValueError or MalformedTelemetry if it is not a row of its table."""
    return [{"ask_logs": _asked, "feedback": _judged, "events": _seen}[table](row, service)]


def _asked(row: Row, service: str | None) -> Item:
    at = values.moment(row, "ts")
    latency = values.number(row, "latency_ms")
    columns = {
        "query_text": values.text(row, "query"),
        "answer_text": values.text(row, "answer"),
        "normalized": values.text(row, "normalized"),
        "scope": values.text(row, "scope"),
        "allow_tps": values.number(row, "allow_tps"),
        "model": values.text(row, "model"),
        "ok": values.flag(row, "ok"),
        "topk": values.lenient_json(row, "topk_json"),
        "prompt_tokens": values.number(row, "tokens_in"),
        "completion_tokens": values.number(row, "tokens_out"),
        "ip_hash": values.text(row, "ip_hash"),
        "imported": f"ask_logs {row.get('id')}",
    }
    attributes = values.prefixed(conventions.REQUEST_LOG, columns)
    attributes[conventions.SESSION_ID] = values.text(row, "sid")
    tokens = columns["prompt_tokens"], columns["completion_tokens"]
    own = own_id(_SYSTEM, "ask_logs", row.get("id"), at, latency, *tokens)
    return OldSpan(own, "ask", "SERVER", at, latency, attributes, service=service)


def _judged(row: Row, service: str | None) -> Item:
    at = values.moment(row, "ts")
    fields = {name: values.text(row, name) for name in ("query", "answer", "note", "model", "scope", "sid")}
    given = {**fields, "verdict": row.get("verdict"), "sources": values.lenient_json(row, "sources_json")}
    read = models.read(models.Feedback, given)
    columns = {
        **read.model_dump(exclude={"sid"}),
        "session_id": read.sid,
        "ip_hash": values.text(row, "ip_hash"),
        "event_id": own_id(_SYSTEM, "feedback", row.get("id"), at, read.verdict),
    }
    title = f"feedback: {read.verdict}"
    return Record(conventions.FEEDBACK_EVENT, title, at, at, columns, {}, service)


def _seen(row: Row, service: str | None) -> Item:
    at = values.moment(row, "ts")
    fields = {"type": row.get("type"), "sid": values.text(row, "sid"), "ua": values.text(row, "ua")}
    read = models.read(models.BrowserEvent, fields)
    columns = {
        "type": read.type,
        "event_id": own_id(_SYSTEM, "events", row.get("id"), at, read.type),
        "session_id": read.sid,
        "data": values.lenient_json(row, "data_json"),
        "ip_hash": values.text(row, "ip_hash"),
    }
    return Record(conventions.BROWSER_EVENT, read.type, at, at, columns, {conventions.USER_AGENT: read.ua}, service)
