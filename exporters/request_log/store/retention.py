"""Retention: deletes rows older than a time, removes texts older than another, and returns the space to the disk.

It works in small transactions, and stops when its caller wants: after a write it gets a quarter of a second at most,
and continues after a later one. The age of a row is its own time. The facts of a trace (`trace_facts`) are deleted all
together when its newest span is old enough: with half of them missing, a late span would be interpreted wrongly. Runs
and steps of workflows are deleted by the time of their last event (workflow_trim.py).

SQLite returns free pages by incremental vacuum, and truncates its write-ahead log; PostgreSQL drops the partitions
whose months are over, and deletes row by row only in the month of the limit.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc

from otel_telemetry.base import metrics
from otel_telemetry.exporters.request_log.audit import trail
from otel_telemetry.exporters.request_log.audit.entries import EXPIRE
from otel_telemetry.exporters.request_log.db import partitions, rollups, schema
from otel_telemetry.exporters.request_log.db.redactions import redaction_count
from otel_telemetry.exporters.request_log.derive import requests
from otel_telemetry.exporters.request_log.store import facts_table, workflow_trim

_CHUNK: Final = 2_000
_PAGES: Final = 500
_CHECKPOINT_MS: Final = 100
_BY_ROW: Final = (
    *(schema.request_log, schema.llm_call, schema.dead_letter),
    *(schema.workflow_event, schema.workflow_seen, schema.feedback, schema.browser_event),
    *(schema.request_claim, schema.kpi_value),
)
_ROLLED: Final = (schema.request_log, schema.llm_call)
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
        self._audited = False

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
            yield (redaction_count.name, "row"), count(redaction_count, _counted_before(self._rows_before))
            yield ("trace_facts", "row"), count(schema.trace_facts, _is_over(self._rows_before))
            for table, is_old in workflow_trim.rows(self._rows_before):
                yield (table.name, "row"), count(table, is_old)
        if self._texts_before is not None:
            for table, (condition, _) in _TEXTS.items():
                has_row = table.c.ts >= self._rows_before if self._rows_before is not None else sa.true()
                yield (
                    (table.name, "text"),
                    count(table, table.c.ts < self._texts_before, sa.text(f"({condition})"), has_row),
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
        with self._engine.connect() as connection:
            self._audited = trail.exists(connection)
        if self._rows_before is not None:
            if self._postgres:
                yield from self._drop_partitions(self._rows_before)
            for table in _BY_ROW:
                yield from self._repeated(table, "row", self._delete(table, self._rows_before))
            facts = sa.delete(schema.trace_facts).where(_chunk(schema.trace_facts, _is_over(self._rows_before)))
            yield from self._repeated(schema.trace_facts, "row", facts)
            yield from self._together(workflow_trim.delete(self._rows_before, _CHUNK), "row")
            with self._engine.begin() as connection:
                old = sa.delete(redaction_count).where(_counted_before(self._rows_before))
                count = connection.execute(old).rowcount
            yield Step(redaction_count.name, "row", count)
        if self._texts_before is not None:
            for table, (condition, columns) in _TEXTS.items():
                yield from self._repeated(table, "text", self._clear(table, condition, columns, self._texts_before))
            yield from self._clear_facts(self._texts_before)
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
            spans: list[tuple[str, str]] = []
            if self._audited and name.startswith(schema.request_log.name):
                found = connection.exec_driver_sql(f"SELECT trace_id, span_id FROM {name}")  # noqa: S608  # ours
                spans = [(trace, span) for trace, span in found]
            connection.exec_driver_sql(f"DROP TABLE {name}")
            trail.follow(connection, spans, gone=EXPIRE)
            if self._rows_before:
                rollups.forget_before(connection, self._rows_before)
        return count

    def _repeated(self, table: sa.Table, what: str, statement: sa.Delete | sa.Update) -> Iterator[Step]:
        """Execute a statement over at most a chunk of rows until it finds no full one."""
        count = _CHUNK
        while count >= _CHUNK:
            with self._engine.begin() as connection:
                if self._audited and table is schema.request_log:
                    spans = connection.execute(statement.returning(table.c.trace_id, table.c.span_id)).all()
                    count = len(spans)
                    trail.follow(connection, [(trace, span) for trace, span in spans], gone=EXPIRE)
                else:
                    count = connection.execute(statement).rowcount
                if count and what == "row" and self._rows_before and table in _ROLLED:
                    rollups.forget_before(connection, self._rows_before)
            yield Step(table.name, what, count)

    def _together(self, statements: workflow_trim.Statements, what: str) -> Iterator[Step]:
        """Execute statements over a chunk in one transaction; return the row count of the last one."""
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

    def _clear_facts(self, before: datetime) -> Iterator[Step]:
        """Remove texts from what is known of traces, a page at a time."""
        full = True
        while full:
            with self._engine.begin() as connection:
                count = facts_table.FactsTable(connection).clear_texts(before)
            yield Step(schema.trace_facts.name, "text", count)
            full = count >= facts_table.PAGE

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


def _counted_before(before: datetime) -> sa.ColumnElement[bool]:
    """Return the condition of counts of redaction that begin before a time."""
    return redaction_count.c.start < int(before.timestamp())


def _is_over(before: datetime) -> sa.ColumnElement[bool]:
    """Return the condition of facts whose trace is over: none of it is newer."""
    table, newer = schema.trace_facts, schema.trace_facts.alias()
    goes_on = sa.select(newer.c.id).where(newer.c.trace_key == table.c.trace_key, newer.c.ts >= before).exists()
    return sa.and_(table.c.ts < before, ~goes_on)


def _chunk(table: sa.Table, *conditions: Any) -> sa.ColumnElement[bool]:
    """Return the condition of being among the oldest rows that these conditions name."""
    names = tuple(table.primary_key.columns.keys())
    if table in (schema.request_log, schema.llm_call):
        names = ("id", "ts")
    key = [table.c[name] for name in names]
    return sa.tuple_(*key).in_(sa.select(*key).where(*conditions).order_by(table.c.ts).limit(_CHUNK))
