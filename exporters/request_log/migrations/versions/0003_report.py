"""The index that holds all that `report` sums up, in place of the one by route and time."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_COLUMNS = (
    *("route", "ts", "ok", "llm_calls", "prompt_tokens", "cached_tokens", "completion_tokens"),
    *("cost_usd", "cost_source", "latency_ms", "ttfb_ms"),
)


def upgrade() -> None:
    """Replace the index."""
    op.drop_index("ix_request_log_route_ts", "request_log")
    op.create_index("ix_request_log_report", "request_log", list(_COLUMNS))
