"""Turns one workflow event into a change of its run or step, which workflow.py merges.

The values may be beside the event's type or in `data`; those beside the type have priority.
"""

from collections.abc import Mapping
from typing import Any, Final

from otel_telemetry.base import conventions, records
from otel_telemetry.exporters.request_log.db import coerce, free_json
from otel_telemetry.exporters.request_log.db.coerce import Notes
from otel_telemetry.exporters.request_log.derive.calls import environment
from otel_telemetry.exporters.request_log.events.values import InvalidEvent, as_map, record_id, service, when
from otel_telemetry.exporters.request_log.events.workflow_subject import OUTPUT, Change, Stamp

_RUN_FIELDS: Final = ("name", "description", "trace_id", "span_id")
_STEP_FIELDS: Final = ("name", "parent_step", "span_id")
#: What else may be said with a run or a step: its `info` takes it.
_INFO: Final = (
    *("organization_id", "project_id", "user_id", "session_id", "request_id", "workflow_id", "workflow_name"),
    *("prompt_id", "prompt_version", "step_index"),
)
_STARTED, _FINISHED, _ERROR = "started", "finished", "error"
_MILLISECOND: Final = 1_000_000
#: Which of `_INFO` are numbers, though headers say them as text.
_NUMBERS: Final = frozenset({"step_index", "prompt_version"})


def change_of(event: records.AppEvent, kind: str, *, store_text: bool) -> Change:
    """Return the change that an event makes; raises Unfit if it does not name its run or step."""
    notes = Notes()
    nested = event.values.get("data")
    nested = coerce.parsed(nested, "data", notes) if isinstance(nested, str) else nested
    values = {**nested, **event.values} if isinstance(nested, Mapping) else dict(event.values)
    is_run = kind in conventions.RUN_TYPES
    own, run_id, event_id = _ids(event, values, notes, is_run=is_run)
    change = Change(run_id=run_id, step_id="" if is_run else own, stamp=_stamp(event, kind, event_id))
    (_run if is_run else _step)(change, event, values, kind, notes)
    if kind == conventions.STEP_START and isinstance(nested, Mapping):
        change.set("type", coerce.text(nested.get("type"), "type", notes, coerce.NAME_LIMIT))
    _payload(change, values, kind, notes, store_text=store_text)
    _describe(change, values, notes, store_text=store_text)
    return change


def _stamp(event: records.AppEvent, kind: str, event_id: str) -> Stamp:
    time_ns = when(event)
    at = time_ns - time_ns % _MILLISECOND if time_ns == event.time_ns else time_ns
    return Stamp(at, max(conventions.EVENT_ORDER[kind], event.after), time_ns, event.place, event_id)


def _ids(event: records.AppEvent, values: Mapping[str, Any], notes: Notes, *, is_run: bool) -> tuple[str, str, str]:
    """Return the ids of the step (empty for a run), of the run, and of the event.

    `id` is that of the run or step if `run_id` or `step_id` is missing, else that of the event.
    """
    full = "run_id" if is_run else "step_id"
    by_name = coerce.text(values.get(full), full, notes, coerce.ID_LIMIT)
    own = by_name or coerce.text(values.get("id"), "id", notes, coerce.ID_LIMIT)
    run_id = own if is_run else coerce.text(values.get("run_id"), "run_id", notes, coerce.ID_LIMIT)
    if own is None or run_id is None:
        raise InvalidEvent(f"{full if own is None else 'run_id'}: missing")
    return ("" if is_run else own), run_id, record_id(event, run_id, own)


def _run(change: Change, event: records.AppEvent, values: Mapping[str, Any], kind: str, notes: Notes) -> None:
    for name in _RUN_FIELDS:
        change.set(name, coerce.text(values.get(name), name, notes))
    change.set("application", coerce.text(values.get("application"), "application", notes, coerce.NAME_LIMIT))
    change.set("environment", coerce.text(values.get("environment"), "environment", notes, coerce.NAME_LIMIT))
    status = coerce.text(values.get("status"), "status", notes, coerce.NAME_LIMIT)
    if kind == conventions.RUN_START:
        change.set("application", service(event, notes))
        change.set("environment", environment(event.resource, notes))
        change.set("trace_id", event.trace_id)
        change.set("span_id", event.span_id)
        change.status, change.starts = status or _STARTED, True
    else:
        change.status = status or _FINISHED


def _step(change: Change, event: records.AppEvent, values: Mapping[str, Any], kind: str, notes: Notes) -> None:
    for name in _STEP_FIELDS:
        change.set(name, coerce.text(values.get(name), name, notes))
    change.set("type", coerce.text(values.get("step_type"), "step_type", notes, coerce.NAME_LIMIT))
    status = coerce.text(values.get("status"), "status", notes, coerce.NAME_LIMIT)
    if kind == conventions.STEP_START:
        change.set("span_id", event.span_id)
        change.status, change.starts = status or _STARTED, True
    elif kind == conventions.STEP_STATE:
        change.status = coerce.text(values.get("state"), "state", notes, coerce.NAME_LIMIT) or status
    else:
        ended = _ERROR if kind == conventions.STEP_ERROR else _FINISHED
        change.status, change.ends = status or ended, True


def _payload(change: Change, values: Mapping[str, Any], kind: str, notes: Notes, *, store_text: bool) -> None:
    """Set input, output and error. An update or an end without output sets output to NULL."""
    for name in ("input", OUTPUT):
        if store_text and values.get(name) is not None:
            change.set(name, coerce.parsed(values[name], name, notes, coerce.CONTENT_LIMIT))
            change.has_text = True
    if values.get("error") is not None:
        error = coerce.parsed(free_json.storable(values["error"], "error", store_text=store_text), "error", notes)
        if kind == conventions.STEP_ERROR:
            change.set(OUTPUT, error)
        else:
            change.info["error"] = error
    if kind == conventions.RUN_UPDATE or change.ends:
        change.columns.setdefault(OUTPUT, None)


def _describe(change: Change, values: Mapping[str, Any], notes: Notes, *, store_text: bool) -> None:
    tags = coerce.parsed(free_json.storable(values.get("tags"), "tags", store_text=store_text), "tags", notes)
    change.set("tags", (tags if isinstance(tags, list) or tags is None else [tags]) or None)
    change.info.update(as_map(free_json.storable(values.get("info"), store_text=store_text), "info", notes))
    for name in _INFO:
        if values.get(name) is not None:
            change.info[name] = _info(values[name], name, notes)
    change.info.update(as_map(free_json.storable(values.get("meta"), store_text=store_text), "meta", notes))
    if notes:
        change.info["problems"] = dict(notes)


def _info(value: Any, name: str, notes: Notes) -> Any:
    if name in _NUMBERS and isinstance(value, str):
        known = coerce.integer(value, name, Notes())
        value = value if known is None else known
    return coerce.structure(value, name, notes)
