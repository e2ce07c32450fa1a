"""The indexes that hold all that `report` sums up, by time, route and model; the names in them of bounded length."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None

_SUMS = (
    *("ok", "llm_calls", "prompt_tokens", "cached_tokens", "completion_tokens"),
    *("cost_usd", "cost_source", "latency_ms", "ttfb_ms", "degraded", "cache_hit"),
)
_OF_CALLS = (
    *("model", "ts", "provider", "application", "ok", "prompt_tokens", "cached_tokens", "completion_tokens"),
    *("cost_usd", "cost_source", "total_latency_ms", "ttfb_ms"),
)
_NAMES = {"request_log": ("route", "service", "user_id", "degraded"), "llm_call": ("model", "provider", "application")}


def upgrade() -> None:
    """Shorten names that an index entry would not hold, and make the indexes in place of narrower ones."""
    for table, columns in _NAMES.items():
        shortened = ", ".join(f"{name} = substr({name}, 1, 128)" for name in columns)
        long = " OR ".join(f"length({name}) > 128" for name in columns)
        op.execute(f"UPDATE {table} SET {shortened} WHERE {long}")  # noqa: S608  # names of ours
    op.drop_index("ix_request_log_ts", "request_log")
    op.drop_index("ix_request_log_report", "request_log")
    op.create_index("ix_request_log_time", "request_log", ["ts", "route", "service", "user_id", *_SUMS])
    op.create_index("ix_request_log_report", "request_log", ["route", "ts", *_SUMS])
    hits: dict[str, Any] = {"sqlite_where": sa.text("cache_hit = 1"), "postgresql_where": sa.text("cache_hit")}
    op.create_index("ix_request_log_cache", "request_log", ["ts"], **hits)
    op.drop_index("ix_llm_call_model_ts", "llm_call")
    op.create_index("ix_llm_call_report", "llm_call", list(_OF_CALLS))
