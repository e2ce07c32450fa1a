"""Stores the data of traces as facts only, and the ids that apps gave in their own table.

Before, three tables held it: `span_node` the fields of a span and what was derived from them, `span_waiting` spans
without fields, `span_packed` both for complete traces. For a model call, the facts contain its row from `llm_call`. A
report that was a duplicate of another has no row there and stays a duplicate ("settled"). The source of a report was
not stored: two reports from before are one call if they were one then.
"""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from alembic import op

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.db import bulk, coerce, column_types, schema
from otel_telemetry.exporters.request_log.derive.facts import LEGACY, Fact
from otel_telemetry.exporters.request_log.store.facts_table import FactsTable

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_CHUNK: Final = 1_000
_SAY_SECONDS: Final = 5.0
#: The lists of `span_packed`: of a span that says something, and its flags.
_PACKED: Final = ("span_id", "parent_span_id", "service", "ts", "response_id", "facts")
_FLAGS: Final = ("local_root", "carrier", "call", "of_log", "call_below", "carrier_below", "is_request")
_NODE: Final = (
    *("trace_id", "span_id", "parent_span_id", "service", "ts", "local_root", "carrier", "call", "of_log"),
    *("response_id", "facts", "part", "call_below", "claimed_id", "is_request"),
)
_WAITING: Final = ("trace_id", "span_id", "parent_span_id", "service", "at_us", "local_root", "facts")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: `request_claim` as this step makes it.
_CLAIM: Final = sa.Table(
    "request_claim",
    sa.MetaData(),
    *(sa.Column(name, sa.Text) for name in ("claimed_id", "trace_id", "span_id")),
    sa.Column("ts", column_types.UtcTime),
)

_log = logging.getLogger("otel_telemetry.request_log")

Row = dict[str, Any]


def upgrade() -> None:
    """Make the tables, move what is known into them, and drop what it was in."""
    _make()
    connection = op.get_bind()
    moving = _Moving(connection)
    for rows in _packed(connection):
        moving.move(rows)
    for rows in _unpacked(connection):
        moving.move(rows)
    moving.done()
    for table in ("span_packed", "span_waiting", "span_node"):
        op.drop_table(table)


def _make() -> None:
    op.create_table(
        "trace_facts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False, autoincrement=True),
        sa.Column("trace_key", sa.BigInteger(), nullable=False),
        sa.Column("ts", column_types.UtcTime(), nullable=False),
        sa.Column("has_text", sa.Boolean(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "request_claim",
        sa.Column("claimed_id", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("span_id", sa.Text(), nullable=False),
        sa.Column("ts", column_types.UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("claimed_id", "trace_id", "span_id"),
    )
    op.create_index("ix_trace_facts_trace_key", "trace_facts", ["trace_key"])
    op.create_index("ix_trace_facts_ts", "trace_facts", ["ts"])
    op.create_index(
        "ix_trace_facts_text",
        "trace_facts",
        ["ts"],
        sqlite_where=sa.text("has_text = 1"),
        postgresql_where=sa.text("has_text"),
    )
    op.create_index("ix_request_claim_ts", "request_claim", ["ts"])


class _Moving:
    """Writes rows of spans as facts, and tells how far it is."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._bulk = bulk.bulk(connection)
        self._table = FactsTable(connection)
        there = {column["name"] for column in sa.inspect(connection).get_columns("llm_call")}
        self._call_columns = [column for column in schema.llm_call.c if column.name in there]  # later ones come later
        counts = [f"SELECT count(*) FROM {name}" for name in ("span_packed", "span_node", "span_waiting")]  # noqa: S608
        self._rows = sum(connection.exec_driver_sql(count).scalar_one() for count in counts)
        self._moved = 0
        self._told = time.monotonic()

    def move(self, traces: tuple[int, list[list[Row]]]) -> None:
        """Write what is known of these traces; `traces` begins with how many rows held it."""
        count, spans = traces
        calls = self._calls([span for trace in spans for span in trace])
        self._table.insert([[_fact(span, calls) for span in trace] for trace in spans if trace])
        claims = [span for trace in spans for span in trace if span.get("claimed_id") and span.get("is_request")]
        self._bulk.insert(
            _CLAIM,
            [(span["claimed_id"], span["trace_id"], span["span_id"], span["ts"]) for span in claims],
        )
        self._moved += count
        if time.monotonic() - self._told > _SAY_SECONDS:
            self._told = time.monotonic()
            _log.warning("moving what is known of traces into one table: %d of %d rows", self._moved, self._rows)

    def done(self) -> None:
        """Say that all is moved, where there was something to move."""
        if self._rows:
            _log.warning("moved what is known of traces into one table: %d rows", self._rows)

    def _calls(self, spans: Sequence[Row]) -> dict[str, records.LlmCall]:
        """Read the rows of model calls."""
        ids = [f"{span['trace_id']}-{span['span_id']}" for span in spans if span.get("call") and not span["call_below"]]
        found = {}
        for at in range(0, len(ids), _CHUNK):
            query = sa.select(*self._call_columns).where(schema.llm_call.c.id.in_(ids[at : at + _CHUNK]))
            for row in self._connection.execute(query).mappings():
                found[row["id"]] = records.LlmCall(**row)
        return found


def _fact(span: Row, calls: dict[str, records.LlmCall]) -> Fact:
    part = span.get("part") or {}
    call = calls.get(f"{span['trace_id']}-{span['span_id']}")
    start = coerce.nanoseconds(span["ts"])
    last = (part.get("last") or {}).get("")
    told = {column: said[2] for column, said in (part.get("told") or {}).items()} or None
    stage, lasted = _stage(part.get("sums") or {})
    if call is not None:
        stage = (call.meta or {}).get("stage")
        start = last[0] - lasted if stage and last is not None else start
    elif span.get("call"):
        call = _told_elsewhere(span)
    return Fact(
        span["trace_id"],
        span["span_id"],
        span["parent_span_id"],
        span["service"],
        start,
        last[0] if last is not None else start + lasted,
        bool(span["local_root"]),
        bool(span.get("carrier")),
        span["facts"],
        call,
        bool(span.get("of_log")),
        LEGACY if call is not None else "",
        stage,
        told,
        bool(span.get("call_below")) or (call is not None and not call.id),
    )


def _told_elsewhere(span: Row) -> records.LlmCall:
    """Return what is left of the row of a call that was reported by another span too, or whose row is trimmed."""
    return records.LlmCall(
        id="",
        trace_id=span["trace_id"],
        span_id=span["span_id"],
        parent_span_id=span["parent_span_id"],
        ts=span["ts"],
        provider_request_id=span.get("response_id"),
    )


def _stage(sums: dict[str, int]) -> tuple[str | None, int]:
    """Return the stage that a span is of, and how long it took in nanoseconds."""
    for name, lasted in sums.items():
        kind, _, stage = name.partition(":")
        if kind in ("span_ns", "call_ns"):
            return stage, lasted
    return None, 0


def _packed(connection: sa.Connection) -> Iterator[tuple[int, list[list[Row]]]]:
    after = 0
    query = sa.text("SELECT id, body FROM span_packed WHERE id > :after ORDER BY id LIMIT :most")
    while rows := connection.execute(query, {"after": after, "most": _CHUNK}).all():
        yield len(rows), [list(_spans(*json.loads(body))) for _, body in rows]
        after = rows[-1][0]


def _spans(trace_id: str, nodes: list[Any], quiet: list[Any]) -> Iterator[Row]:
    for node in nodes:
        flags, _, said = node[len(_PACKED) : len(_PACKED) + 3]
        span: Row = dict(zip(_PACKED, node, strict=False))
        span |= {name: bool(flags & 1 << bit) for bit, name in enumerate(_FLAGS)}
        span["trace_id"], span["ts"] = trace_id, datetime.fromisoformat(span["ts"]).astimezone(UTC)
        span["part"] = dict(zip(("sums", "last", "told"), said, strict=True)) if said is not None else None
        yield span
    for each in quiet:
        yield _quiet(dict(zip(_WAITING, [trace_id, *each], strict=True)))


def _quiet(span: Row) -> Row:
    return {**span, "ts": _EPOCH + timedelta(microseconds=span["at_us"])}


def _unpacked(connection: sa.Connection) -> Iterator[tuple[int, list[list[Row]]]]:
    """Yield the spans of the two other tables, each trace together."""
    node, waiting = _table("span_node", _NODE), _table("span_waiting", _WAITING)
    ids = sa.union(sa.select(node.c.trace_id), sa.select(waiting.c.trace_id)).subquery()
    after = ""
    while True:
        page = sa.select(ids.c.trace_id).where(ids.c.trace_id > after).order_by(ids.c.trace_id).limit(_CHUNK)
        traces = list(connection.execute(page).scalars())
        if not traces:
            return
        spans: dict[str, list[Row]] = {trace_id: [] for trace_id in traces}
        for table, made in ((node, dict), (waiting, _quiet)):
            of_page = table.c.trace_id > after, table.c.trace_id <= traces[-1]
            for row in connection.execute(sa.select(table).where(*of_page)).mappings():
                spans[row["trace_id"]].append(made(dict(row)))
        yield sum(map(len, spans.values())), list(spans.values())
        after = traces[-1]


def _table(name: str, columns: Sequence[str]) -> sa.Table:
    """Return a table as it was."""
    types: dict[str, Any] = {
        "ts": column_types.UtcTime,
        "facts": column_types.Json,
        "part": column_types.Json,
        "at_us": sa.BigInteger,
    }
    types |= dict.fromkeys((*_FLAGS,), sa.Boolean)
    return sa.Table(name, sa.MetaData(), *(sa.Column(column, types.get(column, sa.Text)) for column in columns))
