"""request_log, llm_call and what they are derived from.

A migration is a record of what was done: later changes of schema.py get a file of their own.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from otel_telemetry.exporters.request_log.db import column_types

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


_BY_TIME: dict[str, Any] = {"postgresql_partition_by": "RANGE (ts)"}


def _key() -> sa.PrimaryKeyConstraint:
    """Return the key of a table that PostgreSQL partitions by time: it must contain what decides the partition."""
    return sa.PrimaryKeyConstraint(*(("id", "ts") if op.get_context().dialect.name == "postgresql" else ("id",)))


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "dead_letter",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("ts", column_types.UtcTime(), nullable=False),
        sa.Column("signal", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("trace_id", sa.Text()),
        sa.Column("span_id", sa.Text()),
        sa.Column("service", sa.Text()),
        sa.Column("name", sa.Text()),
        sa.Column("item", column_types.Json()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "llm_call",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text()),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("span_id", sa.Text(), nullable=False),
        sa.Column("parent_span_id", sa.Text()),
        sa.Column("event_type", sa.Text()),
        sa.Column("ts", column_types.UtcTime(), nullable=False),
        sa.Column("organization_id", sa.Text()),
        sa.Column("project_id", sa.Text()),
        sa.Column("user_id", sa.Text()),
        sa.Column("request_organization_id", sa.Text()),
        sa.Column("request_project_id", sa.Text()),
        sa.Column("request_user_id", sa.Text()),
        sa.Column("application", sa.Text()),
        sa.Column("environment", sa.Text()),
        sa.Column("workflow_id", sa.Text()),
        sa.Column("workflow_name", sa.Text()),
        sa.Column("run_id", sa.Text()),
        sa.Column("step_id", sa.Text()),
        sa.Column("step_index", sa.BigInteger()),
        sa.Column("prompt_id", sa.Text()),
        sa.Column("prompt_version", sa.Text()),
        sa.Column("operation", sa.Text()),
        sa.Column("provider", sa.Text()),
        sa.Column("model_requested", sa.Text()),
        sa.Column("model", sa.Text()),
        sa.Column("chat_request", column_types.Json()),
        sa.Column("chat_response", column_types.Json()),
        sa.Column("finish_reason", sa.Text()),
        sa.Column("provider_request_id", sa.Text()),
        sa.Column("prompt_tokens", sa.BigInteger()),
        sa.Column("cached_tokens", sa.BigInteger()),
        sa.Column("cache_write_tokens", sa.BigInteger()),
        sa.Column("completion_tokens", sa.BigInteger()),
        sa.Column("reasoning_tokens", sa.BigInteger()),
        sa.Column("token_basis", sa.Text()),
        sa.Column("cost_usd", column_types.Money()),
        sa.Column("cost_input_usd", column_types.Money()),
        sa.Column("cost_cached_usd", column_types.Money()),
        sa.Column("cost_output_usd", column_types.Money()),
        sa.Column("cost_source", sa.Text()),
        sa.Column("price_version", sa.Text()),
        sa.Column("retries", sa.BigInteger(), nullable=False),
        sa.Column("rate_limited", sa.Boolean(), nullable=False),
        sa.Column("request_latency_ms", sa.Double()),
        sa.Column("total_latency_ms", sa.Double()),
        sa.Column("ttfb_ms", sa.Double()),
        sa.Column("tokens_per_second", sa.Double()),
        sa.Column("streamed", sa.Boolean()),
        sa.Column("error", sa.Text()),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.Column("dialect", sa.Text()),
        sa.Column("meta", column_types.Json()),
        sa.Column("response_meta", column_types.Json()),
        _key(),
        **_BY_TIME,
    )
    op.create_index("ix_llm_call_model_ts", "llm_call", ["model", "ts"])
    op.create_index("ix_llm_call_request_id", "llm_call", ["request_id"])
    op.create_index("ix_llm_call_ts", "llm_call", ["ts"])
    op.create_table(
        "request_log",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("ts", column_types.UtcTime(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("span_id", sa.Text(), nullable=False),
        sa.Column("service", sa.Text()),
        sa.Column("environment", sa.Text()),
        sa.Column("session_id", sa.Text()),
        sa.Column("conversation_id", sa.Text()),
        sa.Column("user_id", sa.Text()),
        sa.Column("ip_hash", sa.Text()),
        sa.Column("route", sa.Text()),
        sa.Column("router_source", sa.Text()),
        sa.Column("router_confidence", sa.Double()),
        sa.Column("models", column_types.Json()),
        sa.Column("model", sa.Text()),
        sa.Column("provider", sa.Text()),
        sa.Column("prompt_tokens", sa.BigInteger()),
        sa.Column("cached_tokens", sa.BigInteger()),
        sa.Column("cache_write_tokens", sa.BigInteger()),
        sa.Column("completion_tokens", sa.BigInteger()),
        sa.Column("reasoning_tokens", sa.BigInteger()),
        sa.Column("cost_usd", column_types.Money()),
        sa.Column("cost_input_usd", column_types.Money()),
        sa.Column("cost_cached_usd", column_types.Money()),
        sa.Column("cost_output_usd", column_types.Money()),
        sa.Column("cost_source", sa.Text()),
        sa.Column("latency_ms", sa.Double()),
        sa.Column("ttfb_ms", sa.Double()),
        sa.Column("tokens_per_second", sa.Double()),
        sa.Column("stage_ms", column_types.Json()),
        sa.Column("llm_calls", sa.BigInteger(), nullable=False),
        sa.Column("retries", sa.BigInteger(), nullable=False),
        sa.Column("escalated", sa.Boolean(), nullable=False),
        sa.Column("fallback_fired", sa.Boolean(), nullable=False),
        sa.Column("cache_hit", sa.Boolean(), nullable=False),
        sa.Column("ceiling_hit", sa.Boolean(), nullable=False),
        sa.Column("per_user_cap_hit", sa.Boolean(), nullable=False),
        sa.Column("rate_limited", sa.Boolean(), nullable=False),
        sa.Column("prompt_version", sa.Text()),
        sa.Column("provider_request_id", sa.Text()),
        sa.Column("scope", sa.Text()),
        sa.Column("allow_tps", sa.BigInteger()),
        sa.Column("normalized", sa.Text()),
        sa.Column("topk", column_types.Json()),
        sa.Column("degraded", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.Column("query_text", sa.Text()),
        sa.Column("answer_text", sa.Text()),
        sa.Column("meta", column_types.Json()),
        _key(),
        **_BY_TIME,
    )
    op.create_index("ix_request_log_route_ts", "request_log", ["route", "ts"])
    op.create_index(
        "ix_request_log_session_id",
        "request_log",
        ["session_id"],
        sqlite_where=sa.text("session_id IS NOT NULL"),
        postgresql_where=sa.text("session_id IS NOT NULL"),
    )
    op.create_index("ix_request_log_trace_id", "request_log", ["trace_id"])
    op.create_index("ix_request_log_ts", "request_log", ["ts"])
    op.create_index(
        "ix_request_log_user_id",
        "request_log",
        ["user_id"],
        sqlite_where=sa.text("user_id IS NOT NULL"),
        postgresql_where=sa.text("user_id IS NOT NULL"),
    )
    op.create_table(
        "span_node",
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("span_id", sa.Text(), nullable=False),
        sa.Column("parent_span_id", sa.Text()),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("ts", column_types.UtcTime(), nullable=False),
        sa.Column("local_root", sa.Boolean(), nullable=False),
        sa.Column("carrier", sa.Boolean(), nullable=False),
        sa.Column("call", sa.Boolean(), nullable=False),
        sa.Column("claimed_id", sa.Text()),
        sa.Column("facts", column_types.Json()),
        sa.Column("part", column_types.Json()),
        sa.Column("call_below", sa.Boolean(), nullable=False),
        sa.Column("carrier_below", sa.Boolean(), nullable=False),
        sa.Column("top", sa.Text()),
        sa.Column("root", sa.Text()),
        sa.Column("owner", sa.Text()),
        sa.Column("request_span_id", sa.Text()),
        sa.Column("direct_calls", sa.BigInteger(), nullable=False),
        sa.Column("is_request", sa.Boolean(), nullable=False),
        sa.Column("log_id", sa.Text()),
        sa.Column("rollup", column_types.Json()),
        sa.PrimaryKeyConstraint("trace_id", "span_id"),
    )
    op.create_index(
        "ix_span_node_claim",
        "span_node",
        ["claimed_id", "trace_id", "span_id"],
        sqlite_where=sa.text("claimed_id IS NOT NULL AND is_request = 1"),
        postgresql_where=sa.text("claimed_id IS NOT NULL AND is_request"),
    )
    op.create_index(
        "ix_span_node_loose",
        "span_node",
        ["trace_id", "service"],
        sqlite_where=sa.text("part IS NOT NULL AND owner IS NULL"),
        postgresql_where=sa.text("part IS NOT NULL AND owner IS NULL"),
    )
    op.create_index("ix_span_node_parent", "span_node", ["trace_id", "parent_span_id"])
    op.create_index(
        "ix_span_node_part",
        "span_node",
        ["trace_id", "request_span_id"],
        sqlite_where=sa.text("part IS NOT NULL"),
        postgresql_where=sa.text("part IS NOT NULL"),
    )
    op.create_index(
        "ix_span_node_request",
        "span_node",
        ["trace_id", "service", "span_id"],
        sqlite_where=sa.text("is_request = 1"),
        postgresql_where=sa.text("is_request"),
    )
    if op.get_context().dialect.name == "postgresql":
        for table in ("llm_call", "request_log"):
            op.execute(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT")
