"""Numbers the claims of each id that apps gave: a writer that locks number 0 is alone with that id."""

import sqlalchemy as sa
from alembic import op

from otel_telemetry.exporters.request_log.db import column_types

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Write the table anew with its numbers."""
    op.drop_index("ix_request_claim_ts", "request_claim")
    op.rename_table("request_claim", "request_claim_before")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER INDEX request_claim_pkey RENAME TO request_claim_before_pkey")
    op.create_table(
        "request_claim",
        sa.Column("claimed_id", sa.Text(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("span_id", sa.Text(), nullable=False),
        sa.Column("ts", column_types.UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("claimed_id", "place"),
    )
    op.execute(
        "INSERT INTO request_claim (claimed_id, place, trace_id, span_id, ts) "
        "SELECT claimed_id, row_number() OVER (PARTITION BY claimed_id ORDER BY trace_id, span_id) - 1, "
        "trace_id, span_id, ts FROM request_claim_before"
    )
    op.drop_table("request_claim_before")
    op.create_index("ix_request_claim_ts", "request_claim", ["ts"])
