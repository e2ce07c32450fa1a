"""Spans of traces in which nothing is said of models or requests wait in a small table of their own."""

import sqlalchemy as sa
from alembic import op

from otel_telemetry.exporters.request_log.db import column_types

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table. Such spans that are stored already stay where they are."""
    op.create_table(
        "span_waiting",
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("span_id", sa.Text(), nullable=False),
        sa.Column("parent_span_id", sa.Text()),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("local_root", sa.Boolean(), nullable=False),
        sa.Column("facts", column_types.Json()),
        sa.PrimaryKeyConstraint("trace_id", "span_id"),
    )
    op.create_index("ix_span_waiting_at", "span_waiting", ["at_us"], postgresql_using="brin")
