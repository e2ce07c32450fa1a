"""The tables, defined once for SQLite and PostgreSQL.

`request_log`, `llm_call`, `workflow_run`, `workflow_step`, `feedback` and `browser_event` are the contract (section 1),
column for column; `workflow_event` begins with the contract's columns. The views `ask_logs`, `events`,
`chronicle_events`, `chronicle_runs` and `chronicle_steps`, and two columns of `feedback`, answer queries that were
written for other systems (migrations/versions/0011_older_queries.py).

These tables are internal:

- `trace_facts`, the facts of traces: one row for the facts of one trace in one batch, in `body`, as JSON; `trace_key`
  is the trace's id as a number, `ts` the time of the newest span in it (derive/chunks.py). All rows of `request_log`
  and `llm_call` follow from these (derive/trace.py).
- `request_claim`, one row per request to which the app gave an id: several may have got the same one; `place` 0 is the
  row that a writer locks before it changes who has the id (claims.py).
- `workflow_state`, one row per run (`step_id` is empty) and per step: the time of its last event, and, for each of its
  columns, the event that set it (workflow.py). `workflow_seen` has the ids of the events that were merged.
- `kpi_value`, the numbers of users' own figures that no other row holds (kpis/observed.py).
- `audit_log`, `audit_entry`, `audit_tile`, `audit_salt` and `audit_checkpoint`, the audit trail (audit/trail.py).
- `outbox`, the rows that are to be sent on to `outbox_target` (outbox.py).
- `redaction_count`, what redaction counted (redactions.py).
- `dead_letter`, the items that no table accepted, each with its reason.

Types of columns: column_types.py.
"""

from typing import Any, Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db.column_types import IsoTime, Json, Money, UtcTime

#: The newest migration: a database at this revision is used as it is, without loading Alembic.
HEAD: Final = "0022"
#: Where Alembic keeps the revision; a name of our own, so that an app's own migrations can live in the same database.
VERSION_TABLE: Final = "otel_telemetry_version"

metadata = sa.MetaData()


def _text(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Text) for name in names]


def _integers(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.BigInteger) for name in names]


def _reals(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Double) for name in names]


def _flags(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Boolean, nullable=False) for name in names]


def _where(sqlite: str, postgresql: str | None = None) -> dict[str, Any]:
    """Return the condition of a partial index, as each database writes it."""
    return {"sqlite_where": sa.text(sqlite), "postgresql_where": sa.text(postgresql or sqlite)}


#: Rows that hold what people typed and read: conditions of the indexes by which retention finds them.
REQUEST_TEXT: Final = "query_text IS NOT NULL OR answer_text IS NOT NULL OR normalized IS NOT NULL"
CALL_TEXT: Final = "chat_request IS NOT NULL OR chat_response IS NOT NULL"
FEEDBACK_TEXT: Final = "query IS NOT NULL OR answer IS NOT NULL OR note IS NOT NULL"

#: Columns of requests and calls that hold what people typed and read.
TEXTS: Final = frozenset({"query_text", "answer_text", "normalized", "topk", "chat_request", "chat_response"})


def _tokens() -> list[sa.Column[Any]]:
    return _integers("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens")


def _costs() -> list[sa.Column[Any]]:
    names = ("cost_usd", "cost_input_usd", "cost_cached_usd", "cost_output_usd")
    return [*(sa.Column(name, Money) for name in names), sa.Column("cost_source", sa.Text)]


#: What reports sum up of requests.
REPORTED: Final = (
    *("ok", "llm_calls", "prompt_tokens", "cached_tokens", "completion_tokens"),
    *("cost_usd", "cost_source", "latency_ms", "ttfb_ms", "degraded", "cache_hit"),
)

request_log = sa.Table(
    "request_log",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("ts", UtcTime, nullable=False),
    sa.Column("trace_id", sa.Text, nullable=False),
    sa.Column("span_id", sa.Text, nullable=False),
    *_text("service", "environment", "session_id", "conversation_id", "user_id", "ip_hash", "route", "router_source"),
    *_reals("router_confidence"),
    sa.Column("models", Json),
    *_text("model", "provider"),
    *_tokens(),
    *_costs(),
    *_reals("latency_ms", "ttfb_ms", "tokens_per_second"),
    sa.Column("stage_ms", Json),
    sa.Column("llm_calls", sa.BigInteger, nullable=False),
    sa.Column("retries", sa.BigInteger, nullable=False),
    *_flags("escalated", "fallback_fired", "cache_hit", "ceiling_hit", "per_user_cap_hit", "rate_limited"),
    *_text("prompt_version", "provider_request_id", "scope"),
    *_integers("allow_tps"),
    *_text("normalized"),
    sa.Column("topk", Json),
    *_text("degraded", "error"),
    *_flags("ok"),
    *_text("query_text", "answer_text"),
    sa.Column("meta", Json),
    *_text("region"),
    sa.Index("ix_request_log_text", "ts", **_where(REQUEST_TEXT)),
    # All that `report` sums up, by time and by route: it reads one of these alone.
    sa.Index("ix_request_log_time", "ts", "route", "service", "user_id", *REPORTED),
    sa.Index("ix_request_log_report", "route", "ts", *REPORTED),
    sa.Index("ix_request_log_cache", "ts", **_where("cache_hit = 1", "cache_hit")),
    sa.Index("ix_request_log_limited", "ts", **_where("rate_limited = 1", "rate_limited")),
    sa.Index("ix_request_log_trace_id", "trace_id"),
    sa.Index("ix_request_log_session_id", "session_id", **_where("session_id IS NOT NULL")),
    sa.Index("ix_request_log_user_id", "user_id", **_where("user_id IS NOT NULL")),
)

llm_call = sa.Table(
    "llm_call",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    *_text("request_id"),
    sa.Column("trace_id", sa.Text, nullable=False),
    sa.Column("span_id", sa.Text, nullable=False),
    *_text("parent_span_id", "event_type"),
    sa.Column("ts", UtcTime, nullable=False),
    *_text("organization_id", "project_id", "user_id"),
    *_text("request_organization_id", "request_project_id", "request_user_id", "application", "environment"),
    *_text("workflow_id", "workflow_name", "run_id", "step_id"),
    *_integers("step_index"),
    *_text("prompt_id", "prompt_version", "operation", "provider", "model_requested", "model"),
    sa.Column("chat_request", Json),
    sa.Column("chat_response", Json),
    *_text("finish_reason", "provider_request_id"),
    *_tokens(),
    *_text("token_basis"),
    *_costs(),
    *_text("price_version"),
    sa.Column("retries", sa.BigInteger, nullable=False),
    *_flags("rate_limited"),
    *_reals("request_latency_ms", "total_latency_ms", "ttfb_ms", "tokens_per_second"),
    sa.Column("streamed", sa.Boolean),
    *_text("error"),
    *_flags("ok"),
    *_text("dialect"),
    sa.Column("meta", Json),
    sa.Column("response_meta", Json),
    *_text("region"),
    sa.Index("ix_llm_call_ts", "ts"),
    sa.Index("ix_llm_call_text", "ts", **_where(CALL_TEXT)),
    sa.Index("ix_llm_call_request_id", "request_id"),
    # All that `report` sums up by model.
    sa.Index(
        "ix_llm_call_report",
        *("model", "ts", "provider", "application", "ok", "prompt_tokens", "cached_tokens", "completion_tokens"),
        *("cost_usd", "cost_source", "total_latency_ms", "ttfb_ms"),
    ),
)

workflow_run = sa.Table(
    "workflow_run",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    *_text("name", "description", "application", "environment"),
    sa.Column("input", Json),
    sa.Column("output", Json),
    *_text("status", "trace_id", "span_id"),
    sa.Column("tags", Json),
    sa.Column("info", Json),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("updated_at", UtcTime, nullable=False),
    sa.Index("ix_workflow_run_created_at", "created_at"),
    sa.Index("ix_workflow_run_name_created_at", "name", "created_at"),
)

workflow_step = sa.Table(
    "workflow_step",
    metadata,
    # Ids of steps need to be unique in their run only: many producers number them.
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, primary_key=True),
    *_text("type", "parent_step", "name"),
    sa.Column("input", Json),
    sa.Column("output", Json),
    *_text("status"),
    sa.Column("tags", Json),
    sa.Column("info", Json),
    *_text("span_id"),
    sa.Column("start_time", UtcTime),
    sa.Column("end_time", UtcTime),
    sa.Index("ix_workflow_step_run_id", "run_id"),
)

workflow_event = sa.Table(
    "workflow_event",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    *_text("run_id", "step_id"),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("data", Json),
    sa.Column("error", Json),
    sa.Column("ts", UtcTime, nullable=False),
    # Whom and what it is about, as far as its sender said.
    *_text("request_id", "trace_id", "session_id", "user_id", "application", "environment"),
    *_text("organization_id", "project_id", "workflow_id", "workflow_name"),
    *_integers("step_index"),
    *_text("prompt_id", "prompt_version"),
    sa.Column("meta", Json),
    sa.Index("ix_workflow_event_ts", "ts"),
    sa.Index("ix_workflow_event_type_ts", "type", "ts"),
    sa.Index("ix_workflow_event_run_id", "run_id", **_where("run_id IS NOT NULL")),
    sa.Index("ix_workflow_event_session_id", "session_id", **_where("session_id IS NOT NULL")),
    sa.Index("ix_workflow_event_user_id", "user_id", **_where("user_id IS NOT NULL")),
)

workflow_state = sa.Table(
    "workflow_state",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("step_id", sa.Text, primary_key=True),
    sa.Column("ts", UtcTime, nullable=False),
    sa.Column("stamps", Json, nullable=False),
    *_flags("has_text"),
    sa.Index("ix_workflow_state_ts", "ts"),
    sa.Index("ix_workflow_state_text", "ts", **_where("has_text = 1", "has_text")),
)

workflow_seen = sa.Table(
    "workflow_seen",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("ts", UtcTime, nullable=False),
    sa.Index("ix_workflow_seen_ts", "ts"),
)

feedback = sa.Table(
    "feedback",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("ts", IsoTime, nullable=False),
    *_text("request_id", "trace_id", "session_id", "ip_hash"),
    sa.Column("verdict", sa.Text, nullable=False),
    *_text("query", "answer", "note", "model", "scope"),
    sa.Column("sources", Json),
    # The older module's names for two of them.
    sa.Column("sid", sa.Text, sa.Computed("session_id")),
    sa.Column("sources_json", sa.Text, sa.Computed("CAST(sources AS TEXT)")),
    sa.Index("ix_feedback_ts", "ts"),
    sa.Index("ix_feedback_text", "ts", **_where(FEEDBACK_TEXT)),
    sa.Index("ix_feedback_request_id", "request_id", **_where("request_id IS NOT NULL")),
    sa.Index("ix_feedback_session_id", "session_id", **_where("session_id IS NOT NULL")),
)

browser_event = sa.Table(
    "browser_event",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("ts", UtcTime, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    *_text("session_id", "user_agent", "ip_hash"),
    sa.Column("data", Json),
    sa.Index("ix_browser_event_ts", "ts"),
    sa.Index("ix_browser_event_type_ts", "type", "ts"),
    sa.Index("ix_browser_event_session_id", "session_id", **_where("session_id IS NOT NULL")),
)

trace_facts = sa.Table(
    "trace_facts",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("trace_key", sa.BigInteger, nullable=False),
    sa.Column("ts", UtcTime, nullable=False),
    *_flags("has_text"),
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("ix_trace_facts_trace_key", "trace_key"),
    sa.Index("ix_trace_facts_ts", "ts"),
    sa.Index("ix_trace_facts_text", "ts", **_where("has_text = 1", "has_text")),
)

request_claim = sa.Table(
    "request_claim",
    metadata,
    sa.Column("claimed_id", sa.Text, primary_key=True),
    sa.Column("place", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("trace_id", sa.Text, nullable=False),
    sa.Column("span_id", sa.Text, nullable=False),
    sa.Column("ts", UtcTime, nullable=False),
    sa.Index("ix_request_claim_ts", "ts"),
)

dead_letter = sa.Table(
    "dead_letter",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("ts", UtcTime, nullable=False),
    *_text("signal", "reason", "trace_id", "span_id", "service", "name"),
    sa.Column("item", Json),
)

kpi_value = sa.Table(
    "kpi_value",
    metadata,
    sa.Column("kpi", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("ts", UtcTime, nullable=False),
    *_text("trace_id"),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("labels", Json),
    sa.Index("ix_kpi_value_ts", "ts"),
    sa.Index("ix_kpi_value_kpi_ts", "kpi", "ts"),
    sa.Index("ix_kpi_value_trace_id", "trace_id"),
)

audit_log = sa.Table(
    "audit_log",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("public_key", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("ts", UtcTime, nullable=False),
)

audit_entry = sa.Table(
    "audit_entry",
    metadata,
    sa.Column("first", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

audit_tile = sa.Table(
    "audit_tile",
    metadata,
    sa.Column("level", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hashes", sa.LargeBinary, nullable=False),
)

audit_salt = sa.Table(
    "audit_salt",
    metadata,
    sa.Column("trace_id", sa.Text, primary_key=True),
    sa.Column("span_id", sa.Text, primary_key=True),
    sa.Column("ref", sa.LargeBinary, nullable=False),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("leaf", sa.BigInteger, nullable=False),
)

audit_checkpoint = sa.Table(
    "audit_checkpoint",
    metadata,
    sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("ts", UtcTime, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)

#: Tables that hold nothing of people, but random numbers and hashes.
AUDIT: Final = frozenset({audit_log, audit_entry, audit_tile, audit_salt, audit_checkpoint})
