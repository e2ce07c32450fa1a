"""Workflows, feedback, what browsers tell, and views by which queries of other systems go on working."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from otel_telemetry.exporters.request_log.db import column_types

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables and the views."""
    _workflow()
    _events()
    _bookkeeping()
    _said_by_people()
    for view in (_ASK_LOGS, _EVENTS, _chronicle_events()):
        op.execute(view)


def _text(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Text()) for name in names]


def _known(table: str, column: str) -> None:
    """Index the rows in which a column is known."""
    condition = sa.text(f"{column} IS NOT NULL")
    name = f"ix_{table}_{column}"
    op.create_index(name, table, [column], sqlite_where=condition, postgresql_where=condition)


def _workflow() -> None:
    op.create_table(
        "workflow_run",
        sa.Column("id", sa.Text(), nullable=False),
        *_text("name", "description", "application", "environment"),
        sa.Column("input", column_types.Json()),
        sa.Column("output", column_types.Json()),
        *_text("status", "trace_id", "span_id"),
        sa.Column("tags", column_types.Json()),
        sa.Column("info", column_types.Json()),
        sa.Column("created_at", column_types.UtcTime(), nullable=False),
        sa.Column("updated_at", column_types.UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_workflow_run_created_at", "workflow_run", ["created_at"])
    op.create_index("ix_workflow_run_name_created_at", "workflow_run", ["name", "created_at"])
    op.create_table(
        "workflow_step",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        *_text("type", "parent_step", "name"),
        sa.Column("input", column_types.Json()),
        sa.Column("output", column_types.Json()),
        *_text("status"),
        sa.Column("tags", column_types.Json()),
        sa.Column("info", column_types.Json()),
        *_text("span_id"),
        sa.Column("start_time", column_types.UtcTime()),
        sa.Column("end_time", column_types.UtcTime()),
        sa.PrimaryKeyConstraint("id", "run_id"),
    )
    op.create_index("ix_workflow_step_run_id", "workflow_step", ["run_id"])


def _events() -> None:
    op.create_table(
        "workflow_event",
        sa.Column("id", sa.Text(), nullable=False),
        *_text("run_id", "step_id"),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("data", column_types.Json()),
        sa.Column("error", column_types.Json()),
        sa.Column("ts", column_types.UtcTime(), nullable=False),
        *_text("request_id", "trace_id", "session_id", "user_id", "application", "environment"),
        *_text("organization_id", "project_id", "workflow_id", "workflow_name"),
        sa.Column("step_index", sa.BigInteger()),
        *_text("prompt_id", "prompt_version"),
        sa.Column("meta", column_types.Json()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_workflow_event_ts", "workflow_event", ["ts"])
    op.create_index("ix_workflow_event_type_ts", "workflow_event", ["type", "ts"])
    for column in ("run_id", "session_id", "user_id"):
        _known("workflow_event", column)


def _bookkeeping() -> None:
    op.create_table(
        "workflow_state",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("step_id", sa.Text(), nullable=False),
        sa.Column("ts", column_types.UtcTime(), nullable=False),
        sa.Column("stamps", column_types.Json(), nullable=False),
        sa.Column("has_text", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "step_id"),
    )
    op.create_index("ix_workflow_state_ts", "workflow_state", ["ts"])
    texts: dict[str, Any] = {"sqlite_where": sa.text("has_text = 1"), "postgresql_where": sa.text("has_text")}
    op.create_index("ix_workflow_state_text", "workflow_state", ["ts"], **texts)
    op.create_table(
        "workflow_seen",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("ts", column_types.UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_workflow_seen_ts", "workflow_seen", ["ts"])


def _said_by_people() -> None:
    op.create_table(
        "feedback",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("ts", column_types.UtcTime(), nullable=False),
        *_text("request_id", "trace_id", "session_id", "ip_hash"),
        sa.Column("verdict", sa.Text(), nullable=False),
        *_text("query", "answer", "note", "model", "scope"),
        sa.Column("sources", column_types.Json()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_feedback_ts", "feedback", ["ts"])
    texts = sa.text("query IS NOT NULL OR answer IS NOT NULL OR note IS NOT NULL")
    op.create_index("ix_feedback_text", "feedback", ["ts"], sqlite_where=texts, postgresql_where=texts)
    for column in ("request_id", "session_id"):
        _known("feedback", column)
    op.create_table(
        "browser_event",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("ts", column_types.UtcTime(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        *_text("session_id", "user_agent", "ip_hash"),
        sa.Column("data", column_types.Json()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_browser_event_ts", "browser_event", ["ts"])
    op.create_index("ix_browser_event_type_ts", "browser_event", ["type", "ts"])
    _known("browser_event", "session_id")


#: `ok` is 0 or 1, as it was: `avg(ok)` and `ok = 1` work on both databases.
_ASK_LOGS = """
CREATE VIEW ask_logs AS
SELECT id, ts, session_id AS sid, ip_hash, query_text AS query, normalized, scope, allow_tps, latency_ms, model,
       CAST(ok AS INTEGER) AS ok, topk AS topk_json, prompt_tokens AS tokens_in, completion_tokens AS tokens_out,
       answer_text AS answer
FROM request_log
"""

_EVENTS = """
CREATE VIEW events AS
SELECT id, ts, type, session_id AS sid, user_agent AS ua, ip_hash, data AS data_json FROM browser_event
"""


def _chronicle_events() -> str:
    """Return the view of model calls and custom events, with the types that its columns had in that database.

    There the type of a model call is chronicle_llm_request, texts are not NULL, milliseconds and versions of prompts
    are whole numbers, errors are JSON, and times on SQLite are whole seconds since the epoch.
    """
    postgres = op.get_context().dialect.name == "postgresql"
    created = "{0}" if postgres else "CAST(strftime('%s', {0}) AS INTEGER)"
    quoted = "to_jsonb({0})" if postgres else "CASE WHEN {0} IS NOT NULL THEN json_quote({0}) END"
    digits = "{0} ~ '^[0-9]{{1,9}}$'" if postgres else "{0} <> '' AND {0} NOT GLOB '*[^0-9]*'"
    version = f"CASE WHEN {digits} THEN CAST({{0}} AS INTEGER) END"
    null = "CAST(NULL AS {0})"
    json = "JSONB" if postgres else "TEXT"
    return f"""
CREATE VIEW chronicle_events AS
SELECT id, CASE event_type WHEN 'llm_call' THEN 'chronicle_llm_request' ELSE event_type END AS event_type,
       organization_id, project_id, user_id, chat_request, chat_response, {quoted.format("error")} AS error,
       COALESCE(provider, '') AS provider, COALESCE(model, '') AS model,
       COALESCE(application, '') AS application, COALESCE(environment, '') AS environment,
       request_organization_id, request_project_id, request_user_id, workflow_id, workflow_name, run_id, step_id,
       CAST(step_index AS INTEGER) AS step_index, prompt_id, {version.format("prompt_version")} AS prompt_version,
       meta, response_meta, CAST(retries AS INTEGER) AS retries, rate_limited,
       CAST(ROUND(request_latency_ms) AS INTEGER) AS request_latency_ms,
       CAST(ROUND(total_latency_ms) AS INTEGER) AS total_latency_ms, {created.format("ts")} AS created_at
FROM llm_call
UNION ALL
SELECT id, type, NULL, NULL, NULL, {null.format(json)}, {null.format(json)}, error, '', '',
       COALESCE(application, ''), COALESCE(environment, ''), organization_id, project_id, user_id,
       workflow_id, workflow_name, run_id, step_id, CAST(step_index AS INTEGER), prompt_id,
       {version.format("prompt_version")}, data, {null.format(json)}, NULL, NULL, NULL, NULL, {created.format("ts")}
FROM workflow_event
"""  # noqa: S608  # nothing here comes from outside
