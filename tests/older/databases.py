"""Databases as the older systems left them: their tables, with a few rows that tell the cases apart."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

_MODULE = {
    "ask_logs": "ts TEXT, sid TEXT, ip_hash TEXT, query TEXT, normalized TEXT, scope TEXT, allow_tps INTEGER, "
    "latency_ms INTEGER, model TEXT, ok INTEGER, topk_json TEXT, tokens_in INTEGER, tokens_out INTEGER, answer TEXT",
    "feedback": "ts TEXT, sid TEXT, ip_hash TEXT, verdict TEXT, query TEXT, answer TEXT, note TEXT, model TEXT, "
    "scope TEXT, sources_json TEXT",
    "events": "ts TEXT, type TEXT, sid TEXT, ua TEXT, ip_hash TEXT, data_json TEXT",
}
_BOT = (
    "id TEXT, room_id TEXT, sender TEXT, route TEXT, router_source TEXT, router_confidence REAL, models TEXT, "
    "prompt_tokens INTEGER, cached_tokens INTEGER, completion_tokens INTEGER, cost REAL, latency_ms REAL, "
    "stage_ms TEXT, escalated INTEGER, fallback_fired INTEGER, cache_hit INTEGER, ceiling_hit INTEGER, "
    "per_user_cap_hit INTEGER, prompt_version TEXT, provider_request_id TEXT, degraded TEXT, err TEXT, ok INTEGER, "
    "query_text TEXT, created_at TEXT, mood TEXT"
)
#: Columns of chronicle's tables, and their types on SQLite and on PostgreSQL where these differ.
_TEXTS, _WHOLE = ("text", "text"), ("int", "int")
_JSON, _TIME, _ID, _TAGS = ("text", "jsonb"), ("int", "timestamptz"), ("text", "uuid"), ("text", "text[]")
_CHRONICLE: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "chronicle_events": {
        "id": _ID,
        **dict.fromkeys(("event_type", "organization_id", "project_id", "user_id"), _TEXTS),
        **dict.fromkeys(("chat_request", "chat_response", "error"), _JSON),
        **dict.fromkeys(("provider", "model", "application", "environment"), _TEXTS),
        **dict.fromkeys(("request_organization_id", "request_project_id", "request_user_id"), _TEXTS),
        **dict.fromkeys(("workflow_id", "workflow_name"), _TEXTS),
        **dict.fromkeys(("run_id", "step_id"), _ID),
        "step_index": _WHOLE,
        "prompt_id": _TEXTS,
        "prompt_version": _WHOLE,
        **dict.fromkeys(("meta", "response_meta"), _JSON),
        "retries": _WHOLE,
        "rate_limited": ("bool", "bool"),
        **dict.fromkeys(("request_latency_ms", "total_latency_ms"), _WHOLE),
        "pricing_plan": ("bigint", "uuid"),
        "created_at": _TIME,
    },
    "chronicle_runs": {
        "id": _ID,
        **dict.fromkeys(("name", "description", "application", "environment"), _TEXTS),
        **dict.fromkeys(("input", "output"), _JSON),
        **dict.fromkeys(("status", "trace_id", "span_id"), _TEXTS),
        "tags": _TAGS,
        "info": _JSON,
        **dict.fromkeys(("updated_at", "created_at"), _TIME),
    },
    "chronicle_steps": {
        **dict.fromkeys(("id", "run_id"), _ID),
        "type": _TEXTS,
        "parent_step": _ID,
        "name": _TEXTS,
        **dict.fromkeys(("input", "output"), _JSON),
        "status": _TEXTS,
        "tags": _TAGS,
        "info": _JSON,
        "span_id": _TEXTS,
        **dict.fromkeys(("start_time", "end_time"), _TIME),
    },
}

ASKED: Mapping[str, Any] = {
    "ts": "2025-09-01T10:00:00.123456",
    "sid": "sess-1",
    "ip_hash": "a1b2c3d4e5f6",
    "query": "what does jane@example.com want?",
    "normalized": "what does jane want",
    "scope": "manuals",
    "allow_tps": 1,
    "latency_ms": 1234,
    "model": "gpt-4o-mini",
    "ok": 1,
    "topk_json": '[{"title": "Ropes", "score": 0.5}]',
    "tokens_in": 100,
    "tokens_out": 20,
    "answer": "she wants a tent",
}
JUDGED: Mapping[str, Any] = {
    "ts": "2025-09-01T10:00:05",
    "sid": "sess-1",
    "ip_hash": "a1b2c3d4e5f6",
    "verdict": "down",
    "query": "which tent?",
    "note": "write to bob@example.com",
    "model": "gpt-4o-mini",
    "scope": "manuals",
    "sources_json": '[{"title": "Tents"}]',
}
SEEN: Mapping[str, Any] = {
    "ts": "2025-09-01T10:00:01.5",
    "type": "page_view",
    "sid": "sess-1",
    "ua": "Firefox",
    "ip_hash": "a1b2c3d4e5f6",
    "data_json": '{"path": "/docs"}',
}
ANSWERED: Mapping[str, Any] = {
    "id": "req-1",
    "room_id": "!room:example.org",
    "sender": "@jane:example.org",
    "route": "web_then_answer",
    "router_source": "classifier",
    "router_confidence": 0.75,
    "models": '{"router": "small", "final": "large"}',
    "prompt_tokens": 300,
    "cached_tokens": 100,
    "completion_tokens": 50,
    "cost": 0.0125,
    "latency_ms": 2100.5,
    "stage_ms": '{"router": 12, "web": 1400}',
    "escalated": 1,
    "cache_hit": 0,
    "prompt_version": "v3",
    "provider_request_id": "prov-9",
    "degraded": "web_failed",
    "err": None,
    "ok": 1,
    "query_text": "is jane@example.com in?",
    "created_at": "2026-01-02T03:04:05+00:00",
    "mood": "curious",
}
RUN, STEP, CALL, EVENT = (f"0190f5fe-1a2b-7c3d-8e4f-00000000000{number}" for number in range(1, 5))
CALLED: Mapping[str, Any] = {
    "id": CALL,
    "event_type": "chronicle_llm_request",
    "organization_id": "org-1",
    "chat_request": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "is jane@example.com in?"}]},
    "chat_response": {
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
    },
    "provider": "openai",
    "model": "gpt-4o-mini-2024-07-18",
    "application": "shop",
    "environment": "prod",
    "request_user_id": "u-7",
    "run_id": RUN,
    "step_id": STEP,
    "step_index": 2,
    "prompt_id": "greet",
    "prompt_version": 4,
    "meta": {"plan": "gold"},
    "retries": 1,
    "rate_limited": True,
    "request_latency_ms": 700,
    "total_latency_ms": 900,
    "created_at": 1_767_323_045,
}
HAPPENED: Mapping[str, Any] = {
    "id": EVENT,
    "event_type": "approval",
    "chat_request": None,
    "provider": "",
    "model": "",
    "run_id": RUN,
    "meta": {"by": "anna@example.com", "level": 2},
    "created_at": 1_767_323_046,
}
RAN: Mapping[str, Any] = {
    "id": RUN,
    "name": "answer",
    "application": "shop",
    "environment": "prod",
    "input": {"question": "is anyone in?"},
    "output": {"done": True},
    "status": "skipped",
    "tags": ["a", "b"],
    "info": {"tokens": 5, "mail": "jane@example.com"},
    "created_at": 1_767_323_040,
    "updated_at": 1_767_323_050,
}
STEPPED: Mapping[str, Any] = {
    "id": STEP,
    "run_id": RUN,
    "type": "llm",
    "name": "ask",
    "output": {"message": "broke"},
    "status": "error",
    "tags": ["t"],
    "info": {"n": 1},
    "start_time": 1_767_323_041,
    "end_time": 1_767_323_044,
}
CHRONICLE_ROWS = {
    "chronicle_events": [CALLED, HAPPENED],
    "chronicle_runs": [RAN],
    "chronicle_steps": [STEPPED],
}


def module(
    path: Path, *, journal: str = "delete", rows: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
) -> str:
    """Make a file of the SQLite module; return its URL."""
    rows = {"ask_logs": [ASKED], "feedback": [JUDGED], "events": [SEEN]} if rows is None else rows
    with _file(path, journal) as connection:
        for table, columns in _MODULE.items():
            connection.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY AUTOINCREMENT, {columns})")
        for table, items in rows.items():
            _insert(connection, table, items)
    connection.close()
    return f"sqlite:///{path}"


def bot(path: Path, rows: Sequence[Mapping[str, Any]] = (ANSWERED,), columns: str = _BOT) -> str:
    """Make a file with the chat bot's table; return its URL."""
    with _file(path) as connection:
        connection.execute(f"CREATE TABLE request_log ({columns})")
        _insert(connection, "request_log", rows)
    connection.close()
    return f"sqlite:///{path}"


def chronicle(path: Path, rows: Mapping[str, Sequence[Mapping[str, Any]]] = CHRONICLE_ROWS, version: str = "3") -> str:
    """Make a file of chronicle; return its URL."""
    with _file(path) as connection:
        connection.execute("CREATE TABLE chronicle_meta (key text PRIMARY KEY, value text)")
        connection.execute("INSERT INTO chronicle_meta VALUES ('migration_version', ?)", (version,))
        for table, columns in _CHRONICLE.items():
            named = ", ".join(f"{name} {kind}" for name, (kind, _) in columns.items())
            connection.execute(f"CREATE TABLE {table} ({named})")
            _insert(connection, table, [{key: _as_text(value) for key, value in row.items()} for row in rows[table]])
    connection.close()
    return f"sqlite:///{path}"


def chronicle_on_postgres(url: str, rows: Mapping[str, Sequence[Mapping[str, Any]]] = CHRONICLE_ROWS) -> str:
    """Make chronicle's tables in an empty database; return its URL."""
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE chronicle_meta (key text PRIMARY KEY, value jsonb)")
        connection.exec_driver_sql("INSERT INTO chronicle_meta VALUES ('migration_version', '3'::jsonb)")
        for table, columns in _CHRONICLE.items():
            named = ", ".join(f"{name} {kind}" for name, (_, kind) in columns.items())
            connection.exec_driver_sql(f"CREATE TABLE {table} ({named})")
            for row in rows[table]:
                kinds = {name: columns[name][1] for name in row}
                values = ", ".join(_placeholder(name, kind) for name, kind in kinds.items())
                bound = {k: json.dumps(v) if kinds[k] == "jsonb" else v for k, v in row.items()}
                insert = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({values})"  # noqa: S608 - names of this file
                connection.execute(sa.text(insert), bound)
    engine.dispose()
    return url


def _placeholder(name: str, kind: str) -> str:
    return f"to_timestamp(:{name})" if kind == "timestamptz" else f"CAST(:{name} AS {kind})"


def _as_text(value: Any) -> Any:
    if isinstance(value, list):
        return "|".join(value)
    return json.dumps(value) if isinstance(value, dict) else value


def _file(path: Path, journal: str = "delete") -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode={journal}")
    return connection


def _insert(connection: sqlite3.Connection, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        marks = ", ".join("?" * len(row))
        insert = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})"  # noqa: S608 - names of this file
        connection.execute(insert, tuple(row.values()))
