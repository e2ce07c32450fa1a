"""Names of rows that are to be sent on to another database."""

import sqlalchemy as sa
from alembic import op

from otel_telemetry.exporters.request_log.db import column_types

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False, autoincrement=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "outbox_target",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("ts", column_types.UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
