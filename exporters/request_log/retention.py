"""Retention: rows older than a time are deleted, texts older than another removed, and the disk gets its space back.

It works in small transactions, and stops where its caller wants: after a write it gets a quarter of a second at most,
and goes on after a later one. Rows go by their own time. What is known of a trace's spans (`span_node`, or one row of
`span_packed`) goes when its newest span is old enough, all at once: with half of it missing, a late span would be
understood wrongly. Runs and steps of workflows go by the time of the last event that spoke of them (workflow_trim.py).

SQLite hands free pages back by incremental vacuum, and cuts its write-ahead log; PostgreSQL drops the partitions whose
months are over, and deletes row by row only in the month that the time falls into.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc

from otel_telemetry import metrics
from otel_telemetry.exporters.request_log import graph, partitions, requests, schema, workflow_trim

_CHUNK: Final = 2_000
_PAGES: Final = 500
_CHECKPOINT_MS: Final = 100
_BY_ROW: Final = (
    *(schema.request_log, schema.llm_call, schema.dead_letter),
    *(schema.workflow_event, schema.workflow_seen, schema.feedback, schema.browser_event),
    schema.span_packed,
)
_TEXTS: Final = {
    schema.request_log: (schema.REQUEST_TEXT, requests.TEXT_COLUMNS),
    schema.llm_call: (schema.CALL_TEXT, ("chat_request", "chat_response")),
    schema.dead_letter: ("item IS NOT NULL", ("item",)),
    schema.feedback: (schema.FEEDBACK_TEXT, ("query", "answer", "note")),
}


@dataclass(slots=True, frozen=True)
class Step:
    """What one transaction did: `what` is row, text or page (given back to the disk)."""

    table: str
    what: str
    count: int


class Retention:
    """Trims one database. `rows_before` and `texts_before` are times in UTC; None keeps everything."""

    def __init__(self, engine: sa.Engine, rows_before: datetime | None, texts_before: datetime | None) -> None:
        self._engine = engine
        self._postgres = engine.dialect.name == "postgresql"
        self._rows_before = rows_before
        self._texts_before = texts_before

    def run(self, seconds: float) -> None:
        """Trim for about so long."""
        deadline = time.monotonic() + seconds
        for _ in self.steps():
            if time.monotonic() > deadline:
                return

    def due(self) -> dict[tuple[str, str], int]:
        """Count what is to be trimmed: {(table, what): rows}. Changes nothing."""
        with self._engine.begin() as connection:
            return {key: count for key, query in self._counts() if (count := connection.execute(query).scalar_one())}

    def _counts(self) -> Iterator[tuple[tuple[str, str], sa.Select[Any]]]:
        def count(table: sa.Table, *conditions: Any) -> sa.Select[Any]:
            return sa.select(sa.func.count()).select_from(table).where(*conditions)

        if self._rows_before is not None:
            for table in _BY_ROW:
                yield (table.name, "row"), count(table, table.c.ts < self._rows_before)
            nodes = schema.span_node.c
            over = sa.select(nodes.trace_id).group_by(nodes.trace_id).having(sa.func.max(nodes.ts) < self._rows_before)
            yield ("span_node", "row"), count(schema.span_node, nodes.trace_id.in_(over))
            yield ("span_waiting", "row"), count(schema.span_waiting, _waiting_before(self._rows_before))
            for table, is_old in workflow_trim.rows(self._rows_before):
                yield (table.name, "row"), count(table, is_old)
        if self._texts_before is not None:
            for table, (condition, _) in _TEXTS.items():
                kept = table.c.ts >= self._rows_before if self._rows_before is not None else sa.true()
                yield (
                    (table.name, "text"),
                    count(table, table.c.ts < self._texts_before, sa.text(f"({condition})"), kept),
                )
            for table, has_text in workflow_trim.texts(self._texts_before, self._rows_before):
                yield (table.name, "text"), count(table, has_text)

    def steps(self) -> Iterator[Step]:
        """Trim, a step at a time; ends when nothing is left to do."""
        for step in self._all():
            if step.count and step.what != "page":
                metrics.rows_trimmed.add(step.count, {"table": step.table, "what": step.what})
            if step.count:
                yield step

    def _all(self) -> Iterator[Step]:
        if self._rows_before is not None:
            if self._postgres:
                yield from self._drop_partitions(self._rows_before)
            for table in _BY_ROW:
                yield from self._repeated(table, "row", self._delete(table, self._rows_before))
            yield from self._forget_traces(self._rows_before)
            waiting = sa.delete(schema.span_waiting).where(
                _chunk(schema.span_waiting, _waiting_before(self._rows_before))
            )
            yield from self._repeated(schema.span_waiting, "row", waiting)
            yield from self._together(workflow_trim.delete(self._rows_before, _CHUNK), "row")
        if self._texts_before is not None:
            for table, (condition, columns) in _TEXTS.items():
                yield from self._repeated(table, "text", self._clear(table, condition, columns, self._texts_before))
            yield from self._repeated(schema.span_node, "text", self._clear_facts(self._texts_before))
            yield from self._together(workflow_trim.clear(self._texts_before, _CHUNK), "text")
        if not self._postgres:
            yield from self._give_back()

    def _drop_partitions(self, before: datetime) -> Iterator[Step]:
        for table in partitions.TABLES:
            with self._engine.begin() as connection:
                names = list(partitions.expired(connection, table, before))
            for name in names:
                try:
                    yield Step(table, "row", self._drop(name))
                except exc.OperationalError as error:
                    if error.connection_invalidated:
                        raise
                    return  # somebody is reading it: another time

    def _drop(self, name: str) -> int:
        with self._engine.begin() as connection:
            connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
            count: int = connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one()  # noqa: S608  # ours
            connection.exec_driver_sql(f"DROP TABLE {name}")
        return count

    def _repeated(self, table: sa.Table, what: str, statement: sa.Executable) -> Iterator[Step]:
        """Execute a statement over at most a chunk of rows until it finds no full one."""
        count = _CHUNK
        while count >= _CHUNK:
            with self._engine.begin() as connection:
                count = connection.execute(statement).rowcount
            yield Step(table.name, what, count)

    def _together(self, statements: workflow_trim.Statements, what: str) -> Iterator[Step]:
        """Execute statements over a chunk in one transaction; the last of them tells how full the chunk was."""
        full = True
        while full:
            with self._engine.begin() as connection:
                counts = [(table.name, connection.execute(statement).rowcount) for table, statement in statements]
            for name, count in counts:
                yield Step(name, what, count)
            full = counts[-1][1] >= _CHUNK

    def _delete(self, table: sa.Table, before: datetime) -> sa.Delete:
        return sa.delete(table).where(_chunk(table, table.c.ts < before))

    def _clear(self, table: sa.Table, condition: str, columns: tuple[str, ...], before: datetime) -> sa.Update:
        chunk = _chunk(table, table.c.ts < before, sa.text(f"({condition})"))
        return sa.update(table).where(chunk).values(dict.fromkeys(columns, sa.null()))

    def _clear_facts(self, before: datetime) -> sa.Update:
        table = schema.span_node
        facts: Any = sa.type_coerce(table.c.facts, sa.Text)
        if self._postgres:
            for name in requests.TEXT_COLUMNS:
                facts = facts.op("-")(sa.literal_column(f"'{name}'"))
        else:
            facts = sa.func.json_remove(facts, *(f"$.{name}" for name in requests.TEXT_COLUMNS))
        chunk = _chunk(table, table.c.ts < before, table.c.has_text)
        return (
            sa.update(table).where(chunk).values(facts=sa.type_coerce(facts, table.c.facts.type), has_text=sa.false())
        )

    def _forget_traces(self, before: datetime) -> Iterator[Step]:
        """Delete the spans of traces that are over, going up in time."""
        nodes, after = schema.span_node.c, None
        while True:
            later = nodes.ts > after if after is not None else sa.true()
            oldest = (
                sa.select(nodes.trace_id, nodes.ts).where(nodes.ts < before, later).order_by(nodes.ts).limit(_CHUNK)
            )
            with self._engine.begin() as connection:
                found = connection.execute(oldest).all()
                pairs = [(trace_id, None) for trace_id in {row.trace_id for row in found}]
                delete = graph.forget(connection.dialect.name, before)
                count = connection.execute(delete, {"pairs": json.dumps(pairs)}).rowcount if pairs else 0
            yield Step("span_node", "row", count)
            if len(found) < _CHUNK:
                return
            if not count:  # a chunk of nothing but traces that go on
                after = found[-1].ts

    def _give_back(self) -> Iterator[Step]:
        """Cut free pages off the end of a SQLite file, then empty its write-ahead log."""
        raw: Any = self._engine.raw_connection()

        def ask(pragma: str) -> int:
            found: int = raw.driver_connection.execute(f"PRAGMA {pragma}").fetchone()[0]
            return found

        try:
            free, gone = ask("freelist_count"), 0
            patience = ask("busy_timeout")
            while free and ask("auto_vacuum"):
                # As a script: only that steps on through a statement without columns; else it ends after one page.
                raw.driver_connection.executescript(f"PRAGMA incremental_vacuum({_PAGES})")
                left = ask("freelist_count")
                free, gone = (left, gone + free - left) if left < free else (0, gone)
                yield Step("", "page", gone)
            if gone:
                ask(f"busy_timeout={_CHECKPOINT_MS}")  # readers are not waited for: the next time will do
                ask("wal_checkpoint(TRUNCATE)")
                ask(f"busy_timeout={patience}")
        finally:
            raw.close()


def _waiting_before(before: datetime) -> sa.ColumnElement[bool]:
    """Return the condition of a waiting span whose trace is over: no span of it is newer."""
    table, newer, us = schema.span_waiting, schema.span_waiting.alias(), round(before.timestamp() * 1e6)
    goes_on = sa.select(newer.c.trace_id).where(newer.c.trace_id == table.c.trace_id, newer.c.at_us >= us).exists()
    return sa.and_(table.c.at_us < us, ~goes_on)


def _chunk(table: sa.Table, *conditions: Any) -> sa.ColumnElement[bool]:
    """Return the condition of being among the oldest rows that these conditions name."""
    names: tuple[str, ...] = ("id", "ts")
    if table in (schema.span_node, schema.span_waiting):
        names = ("trace_id", "span_id")
    elif table in (schema.span_packed, schema.dead_letter):
        names = ("id",)
    key = [table.c[name] for name in names]
    return sa.tuple_(*key).in_(
        sa.select(*key)
        .where(*conditions)
        .order_by(table.c["at_us" if table is schema.span_waiting else "ts"])
        .limit(_CHUNK)
    )
