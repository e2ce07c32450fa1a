"""The region in which a request was handled, and a call made: `cloud.region` of the reporting service."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. What is stored already knows none."""
    for table in ("request_log", "llm_call"):
        op.add_column(table, sa.Column("region", sa.Text()))
