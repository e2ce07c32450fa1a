"""Sums over quarters of an hour and days. They are computed from the rows afterwards, beside writers and readers."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_NAMES = ("service", "environment", "route", "model", "provider", "model_requested", "degraded", "user_id")
_SUMS = (
    *("rows", "ok", "degraded_rows", "cache_hits", "llm_calls"),
    *("prompt_tokens", "prompt_known", "cached_tokens", "cached_known", "completion_tokens", "completion_known"),
    *("cost_usd", "cost_pico", "cost_known", "unpriced"),
    *("saved_nano", "saved_known", "saved_us", "saved_us_known"),
)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "rollup",
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("minutes", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Text()) for name in _NAMES),
        sa.Column("is_ok", sa.Boolean(), nullable=False),
        sa.Column("is_hit", sa.Boolean(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _SUMS),
        sa.Column("latency", sa.Text(), nullable=False),
        sa.Column("ttfb", sa.Text(), nullable=False),
    )
    op.create_index("ix_rollup_start", "rollup", ["minutes", "start", "kind"])
    op.create_table(
        "rollup_done",
        sa.Column("minutes", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("minutes", "start"),
    )
