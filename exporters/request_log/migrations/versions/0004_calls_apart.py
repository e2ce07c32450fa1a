"""What tells two spans of one model call from two calls: the id of the answer, and the calls above each span."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. Spans that are stored say nothing of ids: they count as they did."""
    op.add_column("span_node", sa.Column("of_log", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("span_node", sa.Column("response_id", sa.Text()))
    op.add_column("span_node", sa.Column("calls_above", sa.Text()))
