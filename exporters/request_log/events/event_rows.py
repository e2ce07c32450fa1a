"""Makes rows of `feedback`, `browser_event` and `workflow_event` from events, and the changes of runs and steps.

`build` decides which of them a record becomes. A value that does not fit its column is left out and noted, as
everywhere; a record without its required values (a verdict, a type, the id of its run) is `InvalidEvent`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from otel_telemetry.base import conventions, records
from otel_telemetry.exporters.request_log.db import coerce, free_json, schema
from otel_telemetry.exporters.request_log.db.coerce import Notes
from otel_telemetry.exporters.request_log.derive import requests
from otel_telemetry.exporters.request_log.derive.calls import environment
from otel_telemetry.exporters.request_log.events import workflow_changes
from otel_telemetry.exporters.request_log.events.app_events import identity
from otel_telemetry.exporters.request_log.events.values import InvalidEvent, as_map, record_id, service, when
from otel_telemetry.exporters.request_log.events.workflow_subject import Change

VERDICTS: Final = frozenset({"up", "down"})
#: What a dead letter leaves out of a record where texts are not stored: why it is none is not known.
_MAY_BE_TEXT: Final = frozenset({"data", "note", "info", "meta", "error", "sources", "tags"})
_REASON_LIMIT: Final = 500
_EVENT_TEXTS: Final = (
    *("run_id", "step_id", "request_id", "trace_id", "session_id", "user_id", "application", "environment"),
    *("organization_id", "project_id", "workflow_id", "workflow_name", "prompt_id", "prompt_version"),
)
#: Values that are read elsewhere, or that say how a record came, not what it says.
_NOT_META: Final = frozenset(
    {"id", "event_id", "type", "data", "error", "step_index", "meta", "ip_hash", "time", "timestamp", "ts"}
)


@dataclass(slots=True, frozen=True)
class Row:
    """One row of a table, column for column."""

    table: sa.Table
    values: dict[str, Any]


def build(event: records.AppEvent, *, store_text: bool) -> Row | Change:
    """Return what a record becomes; raises Unfit."""
    if event.name == conventions.FEEDBACK_EVENT:
        return Row(schema.feedback, _feedback(event, store_text=store_text))
    if event.name == conventions.BROWSER_EVENT:
        return Row(schema.browser_event, _browser(event, store_text=store_text))
    kind = coerce.text(event.values.get("type"), "type", Notes(), coerce.NAME_LIMIT)
    if kind is None:
        raise InvalidEvent("type: missing")
    if kind in conventions.RUN_TYPES or kind in conventions.STEP_TYPES:
        return workflow_changes.change_of(event, kind, store_text=store_text)
    return Row(schema.workflow_event, _event(event, kind, store_text=store_text))


def _texts(event: records.AppEvent, names: tuple[str, ...], notes: Notes) -> dict[str, Any]:
    return {name: coerce.text(event.values.get(name), name, notes, coerce.ID_LIMIT) for name in names}


def _feedback(event: records.AppEvent, *, store_text: bool) -> dict[str, Any]:
    notes = Notes()
    verdict = coerce.text(event.values.get("verdict"), "verdict", notes, coerce.NAME_LIMIT)
    if verdict is None or verdict.strip().lower() not in VERDICTS:
        raise InvalidEvent("verdict: not up or down")
    limit = coerce.CONTENT_LIMIT
    texts = {
        name: coerce.text(event.values.get(name), name, notes, limit) if store_text else None
        for name in ("query", "answer")
    }
    row = {
        "id": record_id(event),
        "ts": coerce.moment(when(event)),
        **_texts(event, ("request_id", "trace_id", "session_id", "model", "scope"), notes),
        "ip_hash": requests.COLUMNS["ip_hash"](event.values.get("ip_hash"), "ip_hash", notes),
        "verdict": verdict.strip().lower(),
        **texts,
        "note": coerce.text(event.values.get("note"), "note", notes),
        "sources": _free(event.values.get("sources"), "sources", notes, store_text=store_text),
    }
    if row["request_id"] is None and row["trace_id"] is None:
        row["trace_id"] = event.trace_id
    return row


def _browser(event: records.AppEvent, *, store_text: bool) -> dict[str, Any]:
    notes = Notes()
    kind = coerce.text(event.values.get("type"), "type", notes, coerce.NAME_LIMIT)
    if kind is None:
        raise InvalidEvent("type: missing")
    return {
        "id": record_id(event),
        "ts": coerce.moment(when(event)),
        "type": kind,
        **_texts(event, ("session_id",), notes),
        "user_agent": coerce.text(event.values.get("user_agent"), "user_agent", notes),
        "ip_hash": requests.COLUMNS["ip_hash"](event.values.get("ip_hash"), "ip_hash", notes),
        "data": _free(event.values.get("data"), "data", notes, store_text=store_text),
    }


def _event(event: records.AppEvent, kind: str, *, store_text: bool) -> dict[str, Any]:
    notes = Notes()
    values = event.values
    row: dict[str, Any] = {
        "id": record_id(event, str(values.get("run_id")), str(values.get("step_id"))),
        **_texts(event, _EVENT_TEXTS, notes),
        "type": kind,
        "data": _free(values.get("data"), "data", notes, store_text=store_text),
        "error": _free(values.get("error"), "error", notes, store_text=store_text),
        "ts": coerce.moment(when(event)),
        "step_index": coerce.integer(values.get("step_index"), "step_index", notes),
    }
    row["application"] = row["application"] or service(event, notes)
    row["environment"] = row["environment"] or environment(event.resource, notes)
    row["trace_id"] = row["trace_id"] or event.trace_id
    meta = as_map(free_json.storable(values.get("meta"), store_text=store_text), "meta", notes)
    others = {key: value for key, value in values.items() if key not in row and key not in _NOT_META}
    for key, value in free_json.members(others, store_text=store_text).items():
        coerce.keep(meta, key, value, notes)
    if notes:
        meta["problems"] = dict(notes)
    row["meta"] = meta or None
    return row


def _free(value: Any, column: str, notes: Notes, *, store_text: bool) -> Any:
    """Return free JSON, without what people asked and models answered unless texts are stored."""
    limit = coerce.CONTENT_LIMIT if store_text and column == "data" else coerce.TEXT_LIMIT
    return coerce.parsed(free_json.storable(value, column, store_text=store_text), column, notes, limit)


def letter(event: records.AppEvent, reason: str, now: datetime, *, store_text: bool) -> dict[str, Any]:
    """Return the row of dead_letter for a record that no table would take."""
    notes = Notes()
    item: dict[str, Any] = {}
    unread = False
    try:
        for key, value in free_json.members(event.values, store_text=store_text).items():
            if key != "ip_hash" and (store_text or key not in _MAY_BE_TEXT):
                coerce.keep(item, str(key), value, notes)
    except Exception:  # noqa: BLE001  # being unreadable may be the very reason why it is here
        unread = True
    return {
        "id": identity(event),
        "ts": now,
        "signal": "logs",
        "reason": coerce.clean(reason)[:_REASON_LIMIT],
        "trace_id": event.trace_id,
        "span_id": event.span_id,
        "service": coerce.text(event.resource.get(conventions.SERVICE_NAME), conventions.SERVICE_NAME, notes),
        "name": event.name,
        "item": None if unread else item,
    }
