"""chronicle: model calls and custom events (`chronicle_events`), runs and steps. Times on SQLite are whole seconds."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

from otel_telemetry.base import conventions
from otel_telemetry.gateway.receive.rest.records import Record
from otel_telemetry.older import values
from otel_telemetry.older.items import Item, OldSpan, own_id
from otel_telemetry.older.values import Row

_SYSTEM: Final = "chronicle"
_CALL: Final = "chronicle_llm_request"
_ABOUT: Final = (*("workflow_id", "workflow_name", "run_id", "step_id", "step_index", "prompt_id", "prompt_version"),)
_CALLERS: Final = ("organization_id", "project_id", "user_id")
#: What a chat request says, as the conventions name it.
_ASKED: Final = {
    "max_tokens": conventions.REQUEST_MAX_TOKENS,
    "temperature": conventions.REQUEST_TEMPERATURE,
    "top_p": conventions.REQUEST_TOP_P,
    "seed": conventions.REQUEST_SEED,
    "frequency_penalty": conventions.REQUEST_FREQUENCY_PENALTY,
    "presence_penalty": conventions.REQUEST_PRESENCE_PENALTY,
}
COLUMNS: Final = {
    "chronicle_events": frozenset(
        {
            *("id", "event_type", "chat_request", "chat_response", "error", "provider", "model", "application"),
            *("environment", "meta", "response_meta", "retries", "rate_limited", "request_latency_ms"),
            *("total_latency_ms", "pricing_plan", "created_at", *_CALLERS, *_ABOUT),
            *("request_organization_id", "request_project_id", "request_user_id"),
        }
    ),
    "chronicle_runs": frozenset(
        {
            *("id", "name", "description", "application", "environment", "input", "output", "status", "trace_id"),
            *("span_id", "tags", "info", "updated_at", "created_at"),
        }
    ),
    "chronicle_steps": frozenset(
        {
            *("id", "run_id", "type", "parent_step", "name", "input", "output", "status", "tags", "info", "span_id"),
            *("start_time", "end_time"),
        }
    ),
}


def items_of(table: str, row: Row, service: str | None) -> Sequence[Item]:
    """Return the spans and events of a row; raises ValueError if it is not a row of its table."""
    read: dict[str, Callable[[Row, str | None], Sequence[Item]]] = {
        "chronicle_events": _event,
        "chronicle_runs": _run,
        "chronicle_steps": _step,
    }
    return read[table](row, service)


def _event(row: Row, service: str | None) -> Sequence[Item]:
    at = values.moment(row, "created_at")
    about = {name: values.text(row, name) for name in (*_ABOUT, *_CALLERS)}
    application, environment = _text_or_none(row, "application") or service, _text_or_none(row, "environment")
    if row.get("event_type") == _CALL:
        return [_call(row, at, about, application, environment)]
    for name in _CALLERS:
        about[name] = values.text(row, f"request_{name}") or about[name]
    kind = values.text(row, "event_type")
    if not kind:
        raise ValueError("event_type is missing")
    columns = {
        **about,
        "type": kind,
        "event_id": values.text(row, "id") or _own(row, "chronicle_events", at),
        "data": values.json(row, "meta"),
        "error": values.json(row, "error"),
    }
    return [Record(conventions.WORKFLOW_EVENT, kind, at, at, columns, {}, application, environment)]


def _call(row: Row, at: int, about: Row, application: str | None, environment: str | None) -> Item:
    asked, answered = _map(row, "chat_request"), _map(row, "chat_response")
    usage = answered.get("usage") if isinstance(answered.get("usage"), dict) else {}
    choices = [each for each in answered.get("choices") or () if isinstance(each, dict)]
    reasons = [each["finish_reason"] for each in choices if isinstance(each.get("finish_reason"), str)]
    model = _text_or_none(row, "model")
    attributes = {
        conventions.OPERATION_NAME: "chat",
        conventions.PROVIDER_NAME: _text_or_none(row, "provider"),
        conventions.REQUEST_MODEL: asked.get("model") if isinstance(asked.get("model"), str) else model,
        conventions.RESPONSE_MODEL: model if answered else None,
        conventions.USAGE_INPUT_TOKENS: values.number(usage or {}, "prompt_tokens"),
        conventions.USAGE_OUTPUT_TOKENS: values.number(usage or {}, "completion_tokens"),
        conventions.RESPONSE_FINISH_REASONS: reasons or None,
        conventions.INPUT_MESSAGES: _shown(asked.get("messages")),
        conventions.OUTPUT_MESSAGES: _shown([each["message"] for each in choices if "message" in each]),
        conventions.HTTP_RESEND_COUNT: values.number(row, "retries"),
        **{name: asked[key] for key, name in _ASKED.items() if isinstance(asked.get(key), int | float)},
    }
    call_columns = {
        **about,
        **{f"request_{name}": values.text(row, f"request_{name}") for name in _CALLERS},
        "step_index": values.number(row, "step_index"),
        "meta": values.json(row, "meta"),
    }
    own_words = {
        "rate_limited": values.flag(row, "rate_limited"),
        "retries": values.number(row, "retries"),
        "request_latency_ms": values.number(row, "request_latency_ms"),
        "response_meta": values.json(row, "response_meta"),
    }
    latency = values.number(row, "total_latency_ms")
    error = values.json(row, "error")
    return OldSpan(
        _own(row, "chronicle_events", at),
        f"chat {model or ''}".rstrip(),
        "CLIENT",
        at,
        values.number(row, "request_latency_ms") if latency is None else latency,
        {**attributes, **values.prefixed(conventions.REQUEST_LOG, own_words)},
        values.prefixed(conventions.REQUEST_LOG, call_columns),
        None if error is None else error if isinstance(error, str) else json.dumps(error, ensure_ascii=False),
        application,
        environment,
    )


def _run(row: Row, service: str | None) -> Sequence[Item]:
    began, changed = values.moment(row, "created_at"), values.moment(row, "updated_at")
    run = _id(row, "id")
    origin = _text_or_none(row, "application") or service, _text_or_none(row, "environment")
    start = {
        "id": run,
        **{name: values.text(row, name) for name in ("name", "description", "trace_id", "span_id")},
        "input": values.json(row, "input"),
        "tags": _tags(row),
        "info": values.json(row, "info"),
    }
    end = {"id": run, "status": values.text(row, "status"), "output": values.json(row, "output")}
    return [
        _event_record(conventions.RUN_START, began, start, (run,), origin),
        _event_record(conventions.RUN_UPDATE, max(began, changed), end, (run, end["status"]), origin),
    ]


def _step(row: Row, service: str | None) -> Sequence[Item]:
    began, ended = values.optional_moment(row, "start_time"), values.optional_moment(row, "end_time")
    run, step, status = _id(row, "run_id"), _id(row, "id"), values.text(row, "status")
    output = values.json(row, "output")
    start = {
        "run_id": run,
        "step_id": step,
        "step_type": values.text(row, "type"),
        **{name: values.text(row, name) for name in ("name", "parent_step", "span_id")},
        "input": values.json(row, "input"),
        "tags": _tags(row),
        "info": values.json(row, "info"),
    }
    end = {"run_id": run, "step_id": step, "status": status, "output": output}
    origin = service, None
    items: list[Item] = []
    at = began or ended
    if at is None:
        raise ValueError("start_time is missing")
    items.append(_event_record(conventions.STEP_START, at, start, (run, step), origin))
    if status == "error":
        items.append(
            _event_record(conventions.STEP_ERROR, ended or at, {**end, "error": output}, (run, step, status), origin)
        )
    elif ended is not None:
        items.append(_event_record(conventions.STEP_END, ended, end, (run, step, status), origin))
    elif status not in (None, "started"):
        items.append(_event_record(conventions.STEP_STATE, at, {**end, "state": status}, (run, step, status), origin))
    return items


def _event_record(
    kind: str, at: int, columns: Row, key: Sequence[Any], origin: tuple[str | None, str | None]
) -> Record:
    """Return an event of a run or step. Its id contains its time: one that continued is imported again."""
    fields = {**columns, "type": kind, "event_id": own_id(_SYSTEM, kind, *key, at)}
    return Record(conventions.WORKFLOW_EVENT, kind, at, at, fields, {}, *origin)


def _own(row: Row, table: str, at: int) -> str:
    """Return the row's own id where it is a UUID, without hyphens, else one made of it."""
    given = values.text(row, "id")
    try:
        return UUID(given).hex if given else own_id(_SYSTEM, table, at)
    except ValueError:
        return own_id(_SYSTEM, table, given, at)


def _id(row: Row, name: str) -> str:
    found = values.text(row, name)
    if not found:
        raise ValueError(f"{name} is missing")
    return found


def _text_or_none(row: Row, name: str) -> str | None:
    return values.text(row, name) or None


def _map(row: Row, name: str) -> dict[str, Any]:
    found = values.json(row, name)
    if found is not None and not isinstance(found, dict):
        raise ValueError(f"{name} is no JSON object")
    return found or {}


def _shown(messages: Any) -> str | None:
    return json.dumps(messages, ensure_ascii=False) if messages else None


def _tags(row: Row) -> list[str] | None:
    """Return tags: a list on PostgreSQL, joined by `|` on SQLite."""
    value = row.get("tags")
    if isinstance(value, str):
        return value.split("|") if value else None
    return [str(each) for each in value] if value else None
