"""What is known of the spans of a trace that came whole has one row."""

import sqlalchemy as sa
from alembic import op

from otel_telemetry.exporters.request_log.db import column_types

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table. Spans that are stored already stay where they are."""
    op.create_table(
        "span_packed",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False, autoincrement=True),
        sa.Column("trace_key", sa.BigInteger(), nullable=False),
        sa.Column("ts", column_types.UtcTime(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_span_packed_trace_key", "span_packed", ["trace_key"])
    op.create_index("ix_span_packed_ts", "span_packed", ["ts"])
