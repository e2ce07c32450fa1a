"""What an app says beside its spans: feedback on an answer, and the events of its workflows.

    otel_telemetry.feedback("up", request_id=id)
    otel_telemetry.event("run:start", id=run, name="answer")

Each becomes an OpenTelemetry log record with a name of ours (conventions.py), and a row wherever these records end up:
in the gateway, or in the database that OTEL_LOGS_EXPORTER=request_log writes to. Attributes go through the redactor.

Nothing here waits or raises: a fault of ours, or an argument that cannot be used, is counted and told once.
"""

import time as clock
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from opentelemetry import trace
from opentelemetry._logs import get_logger
from opentelemetry.context import Context

from otel_telemetry import conventions, ids, times
from otel_telemetry.instrument import active
from otel_telemetry.instrument.shield import shielded

FEEDBACK: Final = "feedback"
EVENT: Final = "event"
_VERDICTS: Final = frozenset({"up", "down"})
_DEPTH: Final = 16
_REQUEST_ID: Final = conventions.REQUEST_LOG + "id"
#: A context in no span: that of the request in which feedback comes is not that of the answer. (An empty one would be
#: taken for none, and the current one in its place.)
_NOWHERE: Final = trace.set_span_in_context(trace.INVALID_SPAN, Context())
_enabled = True


def set_enabled(enabled: bool) -> None:
    """Switch feedback and events on or off for the whole process; off, they do nothing at all."""
    global _enabled  # noqa: PLW0603 - one switch a process
    _enabled = enabled


def feedback(
    verdict: str,
    *,
    request_id: str | None = None,
    trace_id: str | None = None,
    session_id: str | None = None,
    query: str | None = None,
    answer: str | None = None,
    note: str | None = None,
    model: str | None = None,
    scope: str | None = None,
    sources: Any = None,
) -> str | None:
    """Say what a person thinks of an answer, `up` or `down`; return the id of the row, or None where none is made.

    Which answer: the one of `request_id` or `trace_id`, else of the request that is under way here. `query` and
    `answer` are kept where texts are stored only, `note` always (redacted, as everything is).
    """
    if not _enabled:
        return None
    try:
        if verdict not in _VERDICTS:
            raise ValueError("feedback is 'up' or 'down'")  # noqa: TRY301
        here = _here() if request_id is None and trace_id is None else {}
        texts = {"query": query, "answer": answer, "note": note}
        about = {"session_id": session_id, "model": model, "scope": scope, "sources": sources}
        said = {"verdict": verdict, "request_id": request_id, "trace_id": trace_id, **texts, **about}
        known = {name: value for name, value in said.items() if value is not None}
        return _say(conventions.FEEDBACK_EVENT, f"feedback: {verdict}", {**here, **known}, context=_NOWHERE)
    except Exception as error:  # noqa: BLE001 - the border to the app
        shielded(FEEDBACK, error)
        return None


def event(
    type: str,  # noqa: A002 - the column's name
    /,
    *,
    id: str | None = None,  # noqa: A002 - the same
    run_id: str | None = None,
    step_id: str | None = None,
    data: Any = None,
    time: datetime | str | float | None = None,
    **values: Any,
) -> str | None:
    """Say what happened in a workflow; return the id of the event, or None where none is recorded.

    `run:start`, `run:update` (with `id` or `run_id`), `step:start`, `step:end`, `step:error`, `step:state` (with
    `run_id` and `step_id`) change a run or a step; any other type is kept as an event. `values` are columns by name,
    such as name, input, output, status, tags, info and error; those of a step may be in `data` too.
    """
    if not _enabled:
        return None
    try:
        said = {"type": type, "id": id, "run_id": run_id, "step_id": step_id, "data": data, **values}
        if type not in conventions.RUN_TYPES | conventions.STEP_TYPES:
            said = {**_here(), **{name: value for name, value in said.items() if value is not None}}
        return _say(conventions.WORKFLOW_EVENT, str(type), said, time_ns=times.nanoseconds(time))
    except Exception as error:  # noqa: BLE001 - the border to the app
        shielded(EVENT, error)
        return None


def _here() -> dict[str, Any]:
    """Return the ids of the request that is under way."""
    root = active.live_root()
    return {} if root is None else request_ids(root.span)


def request_ids(span: trace.Span) -> dict[str, Any]:
    """Return the ids of the request whose root a span is: its own, if the app gave it one, else the row's."""
    context = span.get_span_context()
    if not context.is_valid:
        return {}
    trace_id, span_id = trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)
    given = (getattr(span, "attributes", None) or {}).get(_REQUEST_ID)
    return {"request_id": given or f"{trace_id}-{span_id}", "trace_id": trace_id}


def _say(
    name: str, title: str, said: Mapping[str, Any], *, time_ns: int | None = None, context: Context | None = None
) -> str | None:
    logger = get_logger(conventions.SCOPE_NAME)
    if not logger.enabled(event_name=name):
        return None
    now = clock.time_ns()
    own = ids.new_id()
    attributes = {
        conventions.REQUEST_LOG + key: _plain(value, _DEPTH)
        for key, value in {**said, "event_id": own}.items()
        if value is not None
    }
    logger.emit(
        timestamp=time_ns or now,
        observed_timestamp=now,
        context=context,
        body=title,
        attributes=attributes,
        event_name=name,
    )
    return own


def _plain(value: Any, depth: int) -> Any:
    """Return a value of the kinds that an attribute of a log record can hold."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if depth and isinstance(value, Mapping):
        return {str(key): _plain(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth - 1) for item in value]
    return str(value)


__all__ = ["event", "feedback", "request_ids", "set_enabled"]
