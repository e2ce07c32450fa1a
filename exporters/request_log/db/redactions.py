"""The table of what redaction counted: findings, leak checks and leaks by quarters of an hour, in UTC, never a value.

Rows are added to (store/redactions.py), never computed again: what was redacted is nowhere else.
"""

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import schema

redaction_count = sa.Table(
    "redaction_count",
    schema.metadata,
    sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
    *(sa.Column(name, sa.Text, primary_key=True) for name in ("what", "type", "rule", "service")),
    sa.Column("number", sa.BigInteger, nullable=False),
)
