"""The store: spans go in, rows of `request_log` and `llm_call` come out, a batch a transaction.

What was said in log records (said.py) becomes rows of the other tables in the same way. A batch is all or nothing.
Where one of its spans cannot be stored, the batch is halved until that span is alone; it goes to `dead_letter` with the
reason, the others are stored (the order of spans does not matter, nor does halving).
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite

from otel_telemetry import metrics, records
from otel_telemetry.errors import StoreUnavailable
from otel_telemetry.exporters.request_log import (
    counted,
    database,
    dead_letter,
    derive,
    rows,
    said_rows,
    schema,
)
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.graph import Graph
from otel_telemetry.exporters.request_log.node import Node, Quiet
from otel_telemetry.exporters.request_log.partitions import Partitions
from otel_telemetry.exporters.request_log.retention import Retention
from otel_telemetry.exporters.request_log.said_rows import Row
from otel_telemetry.exporters.request_log.tables import Tables
from otel_telemetry.exporters.request_log.turn import Turn
from otel_telemetry.exporters.request_log.waiting import Waiting
from otel_telemetry.exporters.request_log.workflow import Change, merge

_log = logging.getLogger("otel_telemetry.request_log")

_WRITES_BETWEEN_TRIMS: Final = 200
_TRIM_SECONDS: Final = 0.25
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_US: Final = 86_400_000_000
_INSERT: Final[dict[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}

Given = records.Span | Quiet | records.Said
Item = TypeVar("Item", bound=Given)
Built = TypeVar("Built")
Build = Callable[[Item], Built]
Transact = Callable[[Sequence[Built]], "Written"]


@dataclass(slots=True)
class Written:
    """What a write did: spans that were new, rows of model calls, of requests and of what was said, what went aside."""

    spans: int = 0
    llm_calls: int = 0
    requests: int = 0
    said: int = 0
    dead_letters: int = 0

    def add(self, other: Self) -> None:
        """Add up what parts of a batch did."""
        self.spans += other.spans
        self.llm_calls += other.llm_calls
        self.requests += other.requests
        self.said += other.said
        self.dead_letters += other.dead_letters


class Store:
    """One database, written by one thread at a time. After a fork, the child opens a connection of its own.

    With a `turn`, processes write one after the other.
    """

    def __init__(self, config: RequestLogSettings, turn: Turn | None = None, books: counted.Kept | None = None) -> None:
        self._config = config
        self._turn = turn or contextlib.nullcontext()
        self._given_books = books
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._engine: sa.Engine | None = None
        self._partitions: Partitions | None = None
        self._writes = 0
        #: Where what is committed counts.
        self.books = self._given_books or counted.Books(self._config.cost_budget_per_day_usd)

    def open(self) -> None:
        """Open the database and bring its schema up to date; see `database.connect` for what it raises."""
        with self._mine():
            self._opened()

    def _opened(self) -> sa.Engine:
        if self._engine is None:
            self._engine = database.connect(self._config.url)
            self._partitions = Partitions(self._engine) if self._engine.dialect.name == "postgresql" else None
        return self._engine

    def _mine(self) -> threading.Lock:
        """Return the lock of this process. A forked child must not even close the connection that it inherited."""
        if self._pid != os.getpid():
            _inherited.append(self._engine)
            self._forget()
        return self._lock

    def write(self, spans: Iterable[records.Span | Quiet]) -> Written:
        """Store spans and everything that follows from them; spans that were stored before change nothing.

        Raises StoreUnavailable where the same call may succeed later: then nothing of it is stored.
        """
        return self._store(spans, self._place, self._transact)

    def write_said(self, said: Iterable[records.Said]) -> Written:
        """Store what was said; what was stored before changes nothing. Raises StoreUnavailable, as `write` does."""
        return self._store(said, self._build, self._transact_said)

    def _place(self, span: records.Span | Quiet) -> Node | Quiet:
        return span if type(span) is Quiet else rows.place(span, store_text=self._config.store_text)

    def _build(self, said: records.Said) -> Row | Change:
        return said_rows.build(said, store_text=self._config.store_text)

    def _store(self, given: Iterable[Item], build: Build[Item, Built], transact: Transact[Built]) -> Written:
        """Build what each item becomes and store it; what cannot be built, or not be stored, goes aside."""
        built: list[tuple[Built, Item]] = []
        dead: list[tuple[Item, str]] = []
        for item in given:
            try:
                built.append((build(item), item))
            except Exception as error:  # noqa: BLE001  # whatever one item holds, the others go on
                dead.append((item, f"{type(error).__name__}: {error}"))
        with self._mine():  # from opening on, for who shares the store may close it at any time
            self._opened()
            written = self._in_parts(built, build, transact) if built else Written()
            written.dead_letters += self._bury(dead)
            self._trim()
        return written

    def _in_parts(
        self, built: Sequence[tuple[Built, Item]], build: Build[Item, Built], transact: Transact[Built]
    ) -> Written:
        """Store in one transaction, or in several where a part of it cannot be stored."""
        try:
            with self._turn:
                return transact([each for each, _ in built])
        except StoreUnavailable:
            raise
        except Exception as error:  # drivers, SQLAlchemy and conversions each raise their own
            passing = database.unavailable(error)
            if passing is not None:
                raise passing from error
            reason = _reason(error)
        if len(built) == 1:
            return Written(dead_letters=self._bury([(built[0][1], reason)]))
        fresh = [(build(item), item) for _, item in built]  # what was tried may have been worked on
        middle = len(fresh) // 2
        written = self._in_parts(fresh[:middle], build, transact)
        written.add(self._in_parts(fresh[middle:], build, transact))
        return written

    def _transact_said(self, built: Sequence[Row | Change]) -> Written:
        by_table: dict[sa.Table, list[dict[str, Any]]] = {}
        for row in built:
            if isinstance(row, Row):
                by_table.setdefault(row.table, []).append(row.values)
        with self._opened().begin() as connection:
            insert = _INSERT[connection.dialect.name]
            counts = {
                table.name: connection.execute(insert(table).on_conflict_do_nothing(), rows).rowcount
                for table, rows in by_table.items()
            }
            counts |= merge(connection, [change for change in built if isinstance(change, Change)])
        for table, count in counts.items():
            metrics.rows_written.add(count, {"table": table})
        return Written(said=sum(counts.values()))

    def _trim(self) -> None:
        """Trim after the first write and then every 200; what goes wrong with it concerns no row that was written."""
        self._writes += 1
        days = self._config.retention_days, self._config.text_retention_days
        if self._engine is None or days == (None, None) or self._writes % _WRITES_BETWEEN_TRIMS != 1:
            return
        now = datetime.now(UTC)
        rows_before, texts_before = (None if each is None else now - timedelta(days=each) for each in days)
        try:
            Retention(self._engine, rows_before, texts_before).run(_TRIM_SECONDS)
        except Exception:  # noqa: BLE001  # the write is done, whatever becomes of this
            metrics.write_failures.add(1, {"exporter": "request_log"})
            _log.warning("old rows could not be trimmed; it is tried again later", exc_info=True)

    def _transact(self, placed: Sequence[Node | Quiet]) -> Written:
        engine = self._opened()
        quiet = [each for each in placed if isinstance(each, Quiet)]
        nodes = [each for each in placed if isinstance(each, Node)]
        if self._partitions is not None:
            days = {each.at_us // _DAY_US for each in quiet}
            self._partitions.prepare([*(node.ts for node in nodes), *(_EPOCH + timedelta(days) for days in days)])
        with engine.begin() as connection:
            waiting = Waiting(connection)
            joined = waiting.join(nodes, quiet)
            graph = Graph(connection, waiting.fresh, waiting.whole)
            changes = derive.absorb(graph, joined)
            written = Written(len(changes.new) + waiting.added)
            tables = Tables(connection, graph)
            written.requests, written.llm_calls = tables.follow(changes)
            graph.flush()
            waiting.keep(graph)
        metrics.rows_written.add(written.llm_calls, {"table": "llm_call"})
        metrics.rows_written.add(written.requests, {"table": "request_log"})
        self.books.add(tables.ledger)
        return written

    def _bury(self, dead: Sequence[tuple[Given, str]]) -> int:
        """Put spans and records aside, each with its reason."""
        if not dead or self._engine is None:
            return 0
        now = datetime.now(UTC)
        try:
            with self._engine.begin() as connection:
                letters = [self._letter(each, reason, now) for each, reason in dead]
                insert = _INSERT[connection.dialect.name](schema.dead_letter)
                connection.execute(insert.on_conflict_do_nothing(), letters)
        except exc.DBAPIError as error:
            raise (database.unavailable(error) or StoreUnavailable(str(error.orig))) from error
        metrics.dead_lettered.add(len(dead), {"exporter": "request_log", "reason": "refused"})
        _log.warning("%d spans or records went to dead_letter: %s", len(dead), dead[0][1])
        return len(dead)

    def _letter(self, item: Given, reason: str, now: datetime) -> dict[str, Any]:
        if isinstance(item, records.Said):
            return said_rows.letter(item, reason, now, store_text=self._config.store_text)
        span = item.span() if isinstance(item, Quiet) else item
        return dead_letter.letter(span, reason, now, store_text=self._config.store_text)

    def close(self) -> None:
        """Close the database; a later write opens it again."""
        with self._mine():
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None


def _reason(error: Exception) -> str:
    """Return an error as a line, without the statement that SQLAlchemy shows with it."""
    cause = error.orig if isinstance(error, exc.StatementError) and error.orig is not None else error
    return f"{type(cause).__name__}: {cause}"


_inherited: list[sa.Engine | None] = []  # connections of a parent process: kept, so that nothing closes them


def open_store(config: RequestLogSettings) -> Store:
    """Return a store whose database is open and current; raises ConfigurationError, SchemaTooNew, StoreUnavailable."""
    store = Store(config)
    store.open()
    return store
