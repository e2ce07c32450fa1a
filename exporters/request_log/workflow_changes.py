"""What one workflow event says of its run or step, as a change for workflow.py to merge.

What it says may stand beside its type or in `data`; what stands beside its type goes first.
"""

from collections.abc import Mapping
from typing import Any, Final

from otel_telemetry import conventions, records
from otel_telemetry.exporters.request_log import coerce
from otel_telemetry.exporters.request_log.calls import environment
from otel_telemetry.exporters.request_log.coerce import Notes
from otel_telemetry.exporters.request_log.said_values import Unfit, as_map, record_id, service, when
from otel_telemetry.exporters.request_log.workflow import Change

_RUN_SAYS: Final = ("name", "description", "trace_id", "span_id")
_STEP_SAYS: Final = ("name", "parent_step", "span_id")
#: What else may be said with a run or a step: its `info` takes it.
_INFO: Final = (
    *("organization_id", "project_id", "user_id", "session_id", "request_id", "workflow_id", "workflow_name"),
    *("prompt_id", "prompt_version", "step_index"),
)
_STARTED, _FINISHED, _ERROR = "started", "finished", "error"
_AT_START, _ON_THE_WAY, _AT_THE_END = range(3)
#: Words of a run's status after which nothing is expected: one that is none of them does not take them back.
_ENDS: Final = frozenset(
    {
        *("finished", "complete", "completed", "success", "succeeded", "done", "ok", "error", "errored", "failed"),
        *("failure", "cancelled", "canceled", "aborted", "timeout", "timed_out", "rejected", "skipped"),
    }
)


def change(said: records.Said, kind: str, *, store_text: bool) -> Change:
    """Return what an event says; raises Unfit where it does not say of which run or step."""
    notes = Notes()
    nested = said.values.get("data")
    nested = coerce.parsed(nested, "data", notes) if isinstance(nested, str) else nested
    values = {**nested, **said.values} if isinstance(nested, Mapping) else dict(said.values)
    is_run = kind in conventions.RUN_TYPES
    own, run_id, event_id = _ids(said, values, notes, is_run=is_run)
    time_ns = when(said)
    told = Change(run_id=run_id, step_id="" if is_run else own, event_id=event_id, time_ns=time_ns)
    (_run if is_run else _step)(told, said, values, kind, notes)
    if kind == conventions.STEP_START and isinstance(nested, Mapping):
        told.say("type", coerce.text(nested.get("type"), "type", notes, coerce.NAME_LIMIT))
    _payload(told, values, kind, notes, store_text=store_text)
    _describe(told, values, notes)
    return told


def _ids(said: records.Said, values: Mapping[str, Any], notes: Notes, *, is_run: bool) -> tuple[str, str, str]:
    """Return the ids of the step (empty for a run), of the run, and of the event.

    `id` is the run's or step's own where that is not said by its full name, else the event's.
    """
    full = "run_id" if is_run else "step_id"
    by_name = coerce.text(values.get(full), full, notes, coerce.ID_LIMIT)
    own = by_name or coerce.text(values.get("id"), "id", notes, coerce.ID_LIMIT)
    run_id = own if is_run else coerce.text(values.get("run_id"), "run_id", notes, coerce.ID_LIMIT)
    if own is None or run_id is None:
        raise Unfit(f"{full if own is None else 'run_id'}: missing")
    return ("" if is_run else own), run_id, record_id(said, run_id, own)


def _run(told: Change, said: records.Said, values: Mapping[str, Any], kind: str, notes: Notes) -> None:
    for name in _RUN_SAYS:
        told.say(name, coerce.text(values.get(name), name, notes))
    told.say("application", coerce.text(values.get("application"), "application", notes, coerce.NAME_LIMIT))
    told.say("environment", coerce.text(values.get("environment"), "environment", notes, coerce.NAME_LIMIT))
    status = coerce.text(values.get("status"), "status", notes, coerce.NAME_LIMIT)
    if kind == conventions.RUN_START:
        told.say("application", service(said, notes))
        told.say("environment", environment(said.resource, notes))
        told.say("trace_id", said.trace_id)
        told.say("span_id", said.span_id)
        told.rank, told.status = _AT_START, status or _STARTED
    elif status is not None:
        told.rank, told.status = _AT_THE_END if status.lower() in _ENDS else _ON_THE_WAY, status


def _step(told: Change, said: records.Said, values: Mapping[str, Any], kind: str, notes: Notes) -> None:
    for name in _STEP_SAYS:
        told.say(name, coerce.text(values.get(name), name, notes))
    told.say("type", coerce.text(values.get("step_type"), "step_type", notes, coerce.NAME_LIMIT))
    status = coerce.text(values.get("status"), "status", notes, coerce.NAME_LIMIT)
    if kind == conventions.STEP_START:
        told.say("span_id", said.span_id)
        told.rank, told.status, told.starts = _AT_START, status or _STARTED, True
    elif kind == conventions.STEP_STATE:
        state = coerce.text(values.get("state"), "state", notes, coerce.NAME_LIMIT) or status
        told.rank, told.status = _ON_THE_WAY, state
    else:
        ended = _ERROR if kind == conventions.STEP_ERROR else _FINISHED
        told.rank, told.status, told.ends = _AT_THE_END, status or ended, True


def _payload(told: Change, values: Mapping[str, Any], kind: str, notes: Notes, *, store_text: bool) -> None:
    for name in ("input", "output"):
        if store_text and values.get(name) is not None:
            told.say(name, coerce.parsed(values[name], name, notes, coerce.CONTENT_LIMIT))
            told.has_text = True
    if values.get("error") is not None:
        error = coerce.parsed(values["error"], "error", notes)
        told.info["error"] = error
        if kind == conventions.STEP_ERROR:
            told.say("output", error)


def _describe(told: Change, values: Mapping[str, Any], notes: Notes) -> None:
    tags = coerce.parsed(values.get("tags"), "tags", notes)
    told.say("tags", tags if isinstance(tags, list) or tags is None else [tags])
    for name in _INFO:
        if values.get(name) is not None:
            told.info[name] = coerce.structure(values[name], name, notes)
    for name in ("meta", "info"):
        told.info.update(as_map(values.get(name), name, notes))
    if notes:
        told.info["problems"] = dict(notes)
