"""The index of rollups holds how many requests each user had, so that pages find the first of them in it alone."""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index anew, with two more columns."""
    op.drop_index("ix_rollup_kind", "rollup")
    op.create_index("ix_rollup_kind", "rollup", ["minutes", "kind", "start", "user_id", "rows"])
