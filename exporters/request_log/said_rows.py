"""Rows of `feedback`, `browser_event` and `workflow_event` from what was said, and the changes of runs and steps.

`build` decides which of them a record becomes. What does not fit a column is left out and noted, as everywhere;
a record without what makes it one (a verdict, a type, the id of its run) is `Unfit`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from otel_telemetry import conventions, records
from otel_telemetry.exporters.request_log import coerce, requests, schema, workflow_changes
from otel_telemetry.exporters.request_log.calls import environment
from otel_telemetry.exporters.request_log.coerce import Notes
from otel_telemetry.exporters.request_log.said import identity
from otel_telemetry.exporters.request_log.said_values import Unfit, as_map, record_id, service, when
from otel_telemetry.exporters.request_log.workflow import Change

VERDICTS: Final = frozenset({"up", "down"})
#: Keys of data that hold what people typed and models answered: kept only where texts are stored.
TEXT_KEYS: Final = frozenset({"query", "question", "answer", "prompt", "completion", "messages", "input", "output"})
_MAY_BE_TEXT: Final = TEXT_KEYS | {"data", "note", "info", "meta"}
_REASON_LIMIT: Final = 500
_TEXT_BELOW: Final = {"response": frozenset({"text", "content", "message"})}
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


def build(said: records.Said, *, store_text: bool) -> Row | Change:
    """Return what a record becomes; raises Unfit."""
    if said.name == conventions.FEEDBACK_EVENT:
        return Row(schema.feedback, _feedback(said, store_text=store_text))
    if said.name == conventions.BROWSER_EVENT:
        return Row(schema.browser_event, _browser(said, store_text=store_text))
    kind = coerce.text(said.values.get("type"), "type", Notes(), coerce.NAME_LIMIT)
    if kind is None:
        raise Unfit("type: missing")
    if kind in conventions.RUN_TYPES or kind in conventions.STEP_TYPES:
        return workflow_changes.change(said, kind, store_text=store_text)
    return Row(schema.workflow_event, _event(said, kind, store_text=store_text))


def _texts(said: records.Said, names: tuple[str, ...], notes: Notes) -> dict[str, Any]:
    return {name: coerce.text(said.values.get(name), name, notes, coerce.ID_LIMIT) for name in names}


def _feedback(said: records.Said, *, store_text: bool) -> dict[str, Any]:
    notes = Notes()
    verdict = coerce.text(said.values.get("verdict"), "verdict", notes, coerce.NAME_LIMIT)
    if verdict is None or verdict.strip().lower() not in VERDICTS:
        raise Unfit("verdict: not up or down")
    limit = coerce.CONTENT_LIMIT
    texts = {
        name: coerce.text(said.values.get(name), name, notes, limit) if store_text else None
        for name in ("query", "answer")
    }
    row = {
        "id": record_id(said),
        "ts": coerce.moment(when(said)),
        **_texts(said, ("request_id", "trace_id", "session_id", "model", "scope"), notes),
        "ip_hash": requests.COLUMNS["ip_hash"](said.values.get("ip_hash"), "ip_hash", notes),
        "verdict": verdict.strip().lower(),
        **texts,
        "note": coerce.text(said.values.get("note"), "note", notes),
        "sources": coerce.parsed(said.values.get("sources"), "sources", notes),
    }
    if row["request_id"] is None and row["trace_id"] is None:
        row["trace_id"] = said.trace_id
    return row


def _browser(said: records.Said, *, store_text: bool) -> dict[str, Any]:
    notes = Notes()
    kind = coerce.text(said.values.get("type"), "type", notes, coerce.NAME_LIMIT)
    if kind is None:
        raise Unfit("type: missing")
    return {
        "id": record_id(said),
        "ts": coerce.moment(when(said)),
        "type": kind,
        **_texts(said, ("session_id",), notes),
        "user_agent": coerce.text(said.values.get("user_agent"), "user_agent", notes),
        "ip_hash": requests.COLUMNS["ip_hash"](said.values.get("ip_hash"), "ip_hash", notes),
        "data": _data(said.values.get("data"), notes, store_text=store_text),
    }


def _event(said: records.Said, kind: str, *, store_text: bool) -> dict[str, Any]:
    notes = Notes()
    values = said.values
    row: dict[str, Any] = {
        "id": record_id(said, str(values.get("run_id")), str(values.get("step_id"))),
        **_texts(said, _EVENT_TEXTS, notes),
        "type": kind,
        "data": _data(values.get("data"), notes, store_text=store_text),
        "error": coerce.parsed(values.get("error"), "error", notes),
        "ts": coerce.moment(when(said)),
        "step_index": coerce.integer(values.get("step_index"), "step_index", notes),
    }
    row["application"] = row["application"] or service(said, notes)
    row["environment"] = row["environment"] or environment(said.resource, notes)
    row["trace_id"] = row["trace_id"] or said.trace_id
    meta = as_map(values.get("meta"), "meta", notes)
    for key, value in values.items():
        if key not in row and key not in _NOT_META and (store_text or key not in TEXT_KEYS):
            coerce.keep(meta, key, value, notes)
    if notes:
        meta["problems"] = dict(notes)
    row["meta"] = meta or None
    return row


def _data(value: Any, notes: Notes, *, store_text: bool) -> Any:
    """Return free data, without what people typed and models answered unless texts are stored."""
    found = coerce.parsed(value, "data", notes, coerce.CONTENT_LIMIT if store_text else coerce.TEXT_LIMIT)
    if store_text or not isinstance(found, dict):
        return found
    kept = {key: item for key, item in found.items() if key not in TEXT_KEYS}
    for key, names in _TEXT_BELOW.items():
        if isinstance(kept.get(key), dict):
            kept[key] = {name: item for name, item in kept[key].items() if name not in names}
    return kept


def letter(said: records.Said, reason: str, now: datetime, *, store_text: bool) -> dict[str, Any]:
    """Return the row of dead_letter for a record that no table would take."""
    notes = Notes()
    kept: dict[str, Any] = {}
    unread = False
    try:
        for key, value in said.values.items():
            if key != "ip_hash" and (store_text or key not in _MAY_BE_TEXT):
                coerce.keep(kept, str(key), value, notes)
    except Exception:  # noqa: BLE001  # being unreadable may be the very reason why it is here
        unread = True
    return {
        "id": identity(said),
        "ts": now,
        "signal": "logs",
        "reason": coerce.clean(reason)[:_REASON_LIMIT],
        "trace_id": said.trace_id,
        "span_id": said.span_id,
        "service": coerce.text(said.resource.get(conventions.SERVICE_NAME), conventions.SERVICE_NAME, notes),
        "name": said.name,
        "item": None if unread else kept,
    }
