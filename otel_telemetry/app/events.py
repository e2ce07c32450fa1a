"""Events that an app records besides its spans: feedback on an answer, and the events of its workflows.

    otel_telemetry.feedback("up", request_id=id)
    otel_telemetry.event("run:start", id=run, name="answer")

Each becomes an OpenTelemetry log record with one of our names (conventions.py), and a row where these records go: in
the gateway, or in the database that OTEL_LOGS_EXPORTER=request_log writes to. Attributes go through the redactor.
Nothing here waits or raises: an internal error, or an argument that cannot be used, is counted and logged once.
"""

import json
import time as clock
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from opentelemetry import trace
from opentelemetry._logs import Logger, NoOpLogger, get_logger
from opentelemetry.context import Context

from otel_telemetry.base import conventions, ids, times
from otel_telemetry.instrument import active
from otel_telemetry.instrument.shield import shielded

FEEDBACK: Final = "feedback"
EVENT: Final = "event"
_VERDICTS: Final = frozenset({"up", "down"})
_DEPTH: Final = 16
_REQUEST_ID: Final = conventions.REQUEST_LOG + "id"
#: A context in no span: that of the request in which feedback comes is not that of the answer. (An empty one would be
#: taken for none, and the current one in its place.)
NOWHERE: Final = trace.set_span_in_context(trace.INVALID_SPAN, Context())
_NEWER_THAN_1_44: Final = hasattr(NoOpLogger, "enabled")
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
    """Record a person's rating of an answer, `up` or `down`; return the id of the row, or None if none is made.

    The answer is that of `request_id` or `trace_id`, else of the current request. `query` and `answer` are stored only
    if texts are stored, `note` always (redacted, as everything is).
    """
    if not _enabled:
        return None
    try:
        if verdict not in _VERDICTS:
            raise ValueError("feedback is 'up' or 'down'")  # noqa: TRY301
        here = _here() if request_id is None and trace_id is None else {}
        texts = {"query": query, "answer": answer, "note": note}
        about = {"session_id": session_id, "model": model, "scope": scope, "sources": sources}
        fields = {"verdict": verdict, "request_id": request_id, "trace_id": trace_id, **texts, **about}
        known = {name: value for name, value in fields.items() if value is not None}
        return _emit_own(conventions.FEEDBACK_EVENT, f"feedback: {verdict}", {**here, **known}, context=NOWHERE)
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
    """Record an event of a workflow; return the id of the event, or None if none is recorded.

    `run:start`, `run:update` (with `id` or `run_id`), `step:start`, `step:end`, `step:error`, `step:state` (with
    `run_id` and `step_id`) change a run or a step; any other type is stored as an event. `values` are columns by name,
    such as name, input, output, status, tags, info and error; those of a step may be in `data` too.
    """
    if not _enabled:
        return None
    try:
        fields = {"type": type, "id": id, "run_id": run_id, "step_id": step_id, "data": data, **values}
        if type not in conventions.RUN_TYPES | conventions.STEP_TYPES:
            fields = {**_here(), **{name: value for name, value in fields.items() if value is not None}}
        return _emit_own(conventions.WORKFLOW_EVENT, str(type), fields, time_ns=times.nanoseconds(time))
    except Exception as error:  # noqa: BLE001 - the border to the app
        shielded(EVENT, error)
        return None


def _here() -> dict[str, Any]:
    """Return the ids of the request that is under way."""
    root = active.live_root()
    return {} if root is None else request_ids(root.span)


def request_ids(span: trace.Span) -> dict[str, Any]:
    """Return the ids of the request whose root a span is: the app's own if it gave one, else the row's."""
    context = span.get_span_context()
    if not context.is_valid:
        return {}
    trace_id, span_id = trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)
    given = (getattr(span, "attributes", None) or {}).get(_REQUEST_ID)
    return {"request_id": given or f"{trace_id}-{span_id}", "trace_id": trace_id}


def _emit_own(
    name: str, title: str, fields: Mapping[str, Any], *, time_ns: int | None = None, context: Context | None = None
) -> str | None:
    if not is_recorded(name):
        return None
    own = ids.new_id()
    attributes = {conventions.REQUEST_LOG + key: value for key, value in {**fields, "event_id": own}.items()}
    emit(name, title, attributes, time_ns=time_ns, context=context)
    return own


def is_recorded(name: str) -> bool:
    """Return whether a record of that name would go anywhere."""
    return _enabled and _listened_to(get_logger(conventions.SCOPE_NAME), name)


def emit(
    name: str,
    title: str,
    attributes: Mapping[str, Any],
    *,
    time_ns: int | None = None,
    context: Context | None = None,
) -> None:
    """Emit a record with those attributes that are not None. May raise: the caller is the border to the app."""
    now = clock.time_ns()
    carried = {key: _carried(_plain(value, _DEPTH)) for key, value in attributes.items() if value is not None}
    get_logger(conventions.SCOPE_NAME).emit(
        timestamp=time_ns or now,
        observed_timestamp=now,
        context=context,
        body=title,
        attributes=carried,
        event_name=name,
    )


def _listened_to(logger: Logger, name: str) -> bool:
    """Return whether a record of that name would go anywhere."""
    if _NEWER_THAN_1_44:
        return logger.enabled(event_name=name)
    return not isinstance(getattr(logger, "_logger", logger), NoOpLogger)


def _carried(value: Any) -> Any:
    """Return a value that the SDK accepts: 1.44 empties an attribute that holds a list of several kinds."""
    return value if _NEWER_THAN_1_44 or _is_uniform(value) else json.dumps(value)


def _is_uniform(value: Any) -> bool:
    inner = list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else []
    kinds = {type(item) for item in inner if item is not None}
    return all(map(_is_uniform, inner)) and (isinstance(value, Mapping) or len(kinds) <= 1)


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


__all__ = ["NOWHERE", "emit", "event", "feedback", "is_recorded", "request_ids", "set_enabled"]
