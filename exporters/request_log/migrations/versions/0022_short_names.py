"""Facts of traces are written with short names of columns (derive/chunks.py); those of before are read as they are.

No table changes. The number alone does: a program of an earlier version, which cannot read such facts, refuses the
database instead of setting aside the spans of these traces.
"""

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change nothing: what is written from now on is new."""
