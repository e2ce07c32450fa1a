"""What redaction counted, by quarters of an hour."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_KEY = ("start", "what", "type", "rule", "service")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "redaction_count",
        sa.Column("start", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in _KEY[1:]),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(*_KEY),
    )
