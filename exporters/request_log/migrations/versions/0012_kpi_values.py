"""Values of the figures that users define of spans and log records, of which no rows are kept."""

import sqlalchemy as sa
from alembic import op

from otel_telemetry.exporters.request_log.db import column_types

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "kpi_value",
        sa.Column("kpi", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("ts", column_types.UtcTime(), nullable=False),
        sa.Column("trace_id", sa.Text()),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("labels", column_types.Json()),
        sa.PrimaryKeyConstraint("kpi", "id"),
    )
    op.create_index("ix_kpi_value_ts", "kpi_value", ["ts"])
    op.create_index("ix_kpi_value_kpi_ts", "kpi_value", ["kpi", "ts"])
    op.create_index("ix_kpi_value_trace_id", "kpi_value", ["trace_id"])
