"""What retention needs: spans by time, and which rows hold texts."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_REQUEST_TEXT = "query_text IS NOT NULL OR answer_text IS NOT NULL OR normalized IS NOT NULL"
_CALL_TEXT = "chat_request IS NOT NULL OR chat_response IS NOT NULL"


def upgrade() -> None:
    """Add the column and the indexes."""
    op.add_column("span_node", sa.Column("has_text", sa.Boolean(), nullable=False, server_default=sa.false()))
    texts = " OR ".join(
        f"CAST(facts AS TEXT) LIKE '%\"{name}\"%'" for name in ("query_text", "answer_text", "normalized")
    )
    op.execute(f"UPDATE span_node SET has_text = {_true()} WHERE {texts}")  # noqa: S608  # names of ours
    op.create_index("ix_span_node_ts", "span_node", ["ts"], postgresql_using="brin")
    _partial("ix_span_node_text", "span_node", "has_text = 1", "has_text")
    _partial("ix_request_log_text", "request_log", _REQUEST_TEXT, _REQUEST_TEXT)
    _partial("ix_llm_call_text", "llm_call", _CALL_TEXT, _CALL_TEXT)


def _true() -> str:
    return "true" if op.get_context().dialect.name == "postgresql" else "1"


def _partial(name: str, table: str, sqlite: str, postgresql: str) -> None:
    op.create_index(name, table, ["ts"], sqlite_where=sa.text(sqlite), postgresql_where=sa.text(postgresql))
