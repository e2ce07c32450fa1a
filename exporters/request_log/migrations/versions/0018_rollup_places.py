"""What rollups know more of their rows: the region, the largest values, and models that only calls have.

They are computed again, by the next process that writes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and forget what was summed up without them."""
    for table in ("rollup_done", "rollup"):
        op.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours
    op.add_column("rollup", sa.Column("region", sa.Text()))
    for name in ("most_ms", "most_usd"):
        op.add_column("rollup", sa.Column(name, sa.Double()))
    op.drop_index("ix_rollup_start", "rollup")
    op.create_index("ix_rollup_kind", "rollup", ["minutes", "kind", "start"])
