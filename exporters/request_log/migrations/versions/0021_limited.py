"""An index of the requests that met a rate limit: they are few, and a page of them read all rows."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index."""
    where = {"sqlite_where": sa.text("rate_limited = 1"), "postgresql_where": sa.text("rate_limited")}
    op.create_index("ix_request_log_limited", "request_log", ["ts"], **where)  # type: ignore[arg-type]
