"""The store: turns spans into rows of `request_log` and `llm_call`, one transaction for each batch.

Events from log records (events/app_events.py) become rows of the other tables in the same way. What a transaction
writes is all or nothing; on PostgreSQL a batch may take several (shares.py). If a span cannot be stored, its part is
halved until that span is alone; it goes to `dead_letter` with the reason, the others are stored (neither the order of
spans nor halving matters).
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite

from otel_telemetry.base import metrics, records
from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable
from otel_telemetry.exporters.request_log.audit import keys, trail
from otel_telemetry.exporters.request_log.audit.notes import Signer
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import (
    database,
    outbox,
    postgres,
    schema,
)
from otel_telemetry.exporters.request_log.db.partitions import Partitions
from otel_telemetry.exporters.request_log.db.write_lock import WriteLock
from otel_telemetry.exporters.request_log.derive.facts import Fact, IrrelevantSpan
from otel_telemetry.exporters.request_log.events import event_rows
from otel_telemetry.exporters.request_log.events.event_rows import Row
from otel_telemetry.exporters.request_log.events.workflow import merge
from otel_telemetry.exporters.request_log.events.workflow_subject import Change
from otel_telemetry.exporters.request_log.kpis import observed
from otel_telemetry.exporters.request_log.kpis.config import TABLES
from otel_telemetry.exporters.request_log.kpis.measures import active
from otel_telemetry.exporters.request_log.read import span_facts
from otel_telemetry.exporters.request_log.rollup.thread import Rollups
from otel_telemetry.exporters.request_log.store import counts, dead_letter
from otel_telemetry.exporters.request_log.store.batch import Batch, TraceCache
from otel_telemetry.exporters.request_log.store.building import Build, build_all
from otel_telemetry.exporters.request_log.store.retention import Retention
from otel_telemetry.exporters.request_log.store.shares import Shares
from otel_telemetry.exporters.request_log.store.tables import Tables

_log = logging.getLogger("otel_telemetry.request_log")

_WRITES_BETWEEN_TRIMS: Final = 200
_TRIM_SECONDS: Final = 0.25
_STEP: Final = 7
#: Batches for which it is remembered that another writer was met.
_LATELY: Final = 50
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_US: Final = 86_400_000_000
_DAY_NS: Final = _DAY_US * 1_000
_SOURCES: Final = {name: source for source, name in TABLES.items()}
_INSERT: Final[dict[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}

Given = records.Span | IrrelevantSpan | records.AppEvent
Item = TypeVar("Item", bound=Given)
Built = TypeVar("Built")
#: Writes in a transaction; returns what it wrote, and what is to be done once that is committed.
Transact = Callable[[sa.Connection, Sequence[Built]], tuple["Written", Callable[[], None]]]


@dataclass(slots=True)
class Written:
    """The result of a write: numbers of new spans, of rows of model calls, requests and events, and of dead letters."""

    spans: int = 0
    llm_calls: int = 0
    requests: int = 0
    events: int = 0
    dead_letters: int = 0

    def add(self, other: Self) -> None:
        """Add up what parts of a batch did."""
        self.spans += other.spans
        self.llm_calls += other.llm_calls
        self.requests += other.requests
        self.events += other.events
        self.dead_letters += other.dead_letters


class Store:
    """One database, written by one thread at a time. After a fork, the child opens a connection of its own.

    With a `write_lock`, processes write one after the other.
    """

    def __init__(
        self,
        config: RequestLogSettings,
        write_lock: WriteLock | None = None,
        counters: counts.DeferredCounters | None = None,
    ) -> None:
        self._config = config
        self._write_lock = write_lock or contextlib.nullcontext()
        self._given_counters = counters
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._engine: sa.Engine | None = None
        self._partitions: Partitions | None = None
        self._writes = 0
        #: The bucket to begin with: another one for each process.
        self._first = self._pid * _STEP % postgres.BUCKETS
        self._beside_others = 0
        self._trace_cache = TraceCache()
        self._signing: Signer | None = None
        self._to_outbox = False
        self._timer: threading.Timer | None = None
        #: Who writes for another process leaves rollups to that one.
        self._rollups = None if self._given_counters else Rollups(self._config.url)
        #: Where what is committed counts.
        self.counters = self._given_counters or counts.Counters(self._config.cost_budget_per_day_usd)

    def open(self) -> None:
        """Open the database and bring its schema up to date; see `database.connect` for what it raises."""
        with self._process_lock():
            self._opened()

    def _opened(self) -> sa.Engine:
        if self._engine is None:
            engine = database.connect(self._config.url)
            try:
                self._signing = self._trail(engine)
                with engine.begin() as connection:
                    self._to_outbox = outbox.is_wanted(connection)
            except BaseException:
                engine.dispose()
                raise
            self._partitions = Partitions(engine) if engine.dialect.name == "postgresql" else None
            self._engine = engine
        return self._engine

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """Begin a transaction beside other writers of PostgreSQL, alone on SQLite."""
        engine = self._opened()
        alone = self._write_lock if self._partitions is None else contextlib.nullcontext()
        with alone, postgres.sharing(engine).begin() as connection:
            yield connection

    def _trail(self, engine: sa.Engine) -> Signer | None:
        """Return the key that signs the trail, where one is to be kept; raises ConfigurationError."""
        if not self._config.audit.enabled:
            return None
        with engine.begin() as connection:
            if not trail.exists(connection):
                problem = "this database has no trail yet"
                raise ConfigurationError("request_log.audit.enabled", problem, "otel-telemetry audit init begins it")
        return keys.signer(self._config.audit)

    def _arm(self) -> None:
        """Have what was written signed after a while. Helpers leave that to the process that they work for."""
        if self._signing is not None and self._timer is None:
            self._timer = threading.Timer(self._config.audit.checkpoint_seconds, self._sign_later)
            self._timer.daemon = True
            self._timer.start()

    def _sign_later(self) -> None:
        with self._process_lock():
            self._timer = None
            self._sign()

    def _sign(self) -> None:
        """Sign how the trail is now. What goes wrong with it concerns no row: the next time signs it too."""
        if self._signing is None or self._engine is None:
            return
        try:
            with self._write_lock, self._engine.begin() as connection:
                note = trail.sign(connection, self._signing)
        except Exception:  # noqa: BLE001  # the rows are written, whatever becomes of this
            metrics.write_failures.add(1, {"exporter": "request_log"})
            _log.warning("the audit trail could not be signed; it is tried again later", exc_info=True)
            self._arm()
            return
        if note is not None:
            keys.anchor(self._config.audit, note)

    def _process_lock(self) -> threading.Lock:
        """Return the lock of this process. A forked child must not even close the connection that it inherited."""
        if self._pid != os.getpid():
            _inherited.append(self._engine)
            self._forget()
        return self._lock

    def write(self, spans: Iterable[records.Span | IrrelevantSpan]) -> Written:
        """Store spans and everything that follows from them; spans that were stored before change nothing.

        Raises StoreUnavailable where the same call may succeed later: what of it is stored then changes nothing.
        """
        return self._store(spans, self._to_facts, self._transact)

    def write_events(self, events: Iterable[records.AppEvent]) -> Written:
        """Store events; one that is already stored changes nothing. Raises StoreUnavailable, as `write` does."""
        return self._store(events, self._build, self._transact_events)

    def _to_facts(self, spans: Sequence[records.Span | IrrelevantSpan]) -> list[Fact | IrrelevantSpan]:
        return span_facts.to_facts(spans, store_text=self._config.store_text)

    def _build(self, events: Sequence[records.AppEvent]) -> list[Row | Change]:
        return [event_rows.build(event, store_text=self._config.store_text) for event in events]

    def _store(self, given: Iterable[Item], build: Build[Item, Built], transact: Transact[Built]) -> Written:
        """Build what each item becomes and store it; what cannot be built, or not be stored, goes aside."""
        built, dead = build_all(list(given), build)
        with self._process_lock():  # from opening on, for who shares the store may close it at any time
            self._opened()
            written = self._in_parts(built, build, transact) if built else Written()
            written.dead_letters += self._dead_letter(dead)
            self._trim()
        return written

    def _in_parts(
        self, built: Sequence[tuple[Built, Item]], build: Build[Item, Built], transact: Transact[Built]
    ) -> Written:
        """Store in one transaction, or in several; where a part of it cannot be stored, in ever smaller ones."""
        written = Written()
        shares = Shares(built, self._first, beside_others=self._beside_others > 0)
        while shares:
            part: Sequence[tuple[Built, Item]] = ()
            try:
                self._make_partitions(built)
                with self._transaction() as connection:
                    part = shares.take(connection)
                    done, finish = transact(connection, [each for each, _ in part])
            except StoreUnavailable:
                raise
            except Exception as error:  # drivers, SQLAlchemy and conversions each raise their own
                passing = database.unavailable(error)
                if passing is not None:
                    raise passing from error
                written.add(self._halved(part or shares.rest(), build, transact, _reason(error)))
            else:
                finish()
                written.add(done)
        self._beside_others = _LATELY if shares.met else max(0, self._beside_others - 1)
        return written

    def _halved(
        self, part: Sequence[tuple[Built, Item]], build: Build[Item, Built], transact: Transact[Built], reason: str
    ) -> Written:
        """Store the halves of what could not be stored, each by itself; one item alone goes aside."""
        if len(part) == 1:
            return Written(dead_letters=self._dead_letter([(part[0][1], reason)]))
        items = [item for _, item in part]
        fresh = list(zip(build(items), items, strict=True))  # what was tried may have been worked on
        middle = len(fresh) // 2
        written = self._in_parts(fresh[:middle], build, transact)
        written.add(self._in_parts(fresh[middle:], build, transact))
        return written

    def _make_partitions(self, built: Sequence[tuple[Any, Any]]) -> None:
        if self._partitions is None:
            return
        days = {each.at_us // _DAY_US for each, _ in built if type(each) is IrrelevantSpan}
        days |= {each.start_ns // _DAY_NS for each, _ in built if type(each) is Fact}
        self._partitions.prepare(_EPOCH + timedelta(day) for day in days)

    def _transact_events(
        self, connection: sa.Connection, built: Sequence[Row | Change]
    ) -> tuple[Written, Callable[[], None]]:
        by_table: dict[sa.Table, list[dict[str, Any]]] = {}
        for row in built:
            if isinstance(row, Row):
                by_table.setdefault(row.table, []).append(row.values)
        insert = _INSERT[connection.dialect.name]
        counted = {"preserve_rowcount": True}  # else nobody knows of several rows, with psycopg
        counts, new = {}, {}
        for table, rows in by_table.items():
            adding = insert(table).on_conflict_do_nothing()
            if active.wants(source := _SOURCES[table.name]):
                added = set(connection.execute(adding.returning(table.c.id), rows).scalars())
                new[source] = [row for row in {row["id"]: row for row in rows}.values() if row["id"] in added]
                counts[table.name] = len(added)
            else:
                counts[table.name] = connection.execute(adding, rows, execution_options=counted).rowcount
        counts |= merge(connection, [change for change in built if isinstance(change, Change)])

        def finish() -> None:
            for name, count in counts.items():
                metrics.rows_written.add(count, {"table": name})
            for source, rows in new.items():
                active.came(source, rows)

        return Written(events=sum(counts.values())), finish

    def keep_seen(self, seen: Iterable[observed.Seen]) -> list[observed.Seen]:
        """Keep what spans and log records are in users' own figures; return what is new."""
        with self._process_lock():
            try:
                with self._transaction() as connection:
                    return observed.write(connection, seen)
            except exc.DBAPIError as error:
                raise (database.unavailable(error) or error) from error

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

    def _transact(
        self, connection: sa.Connection, placed: Sequence[Fact | IrrelevantSpan]
    ) -> tuple[Written, Callable[[], None]]:
        batch = Batch(connection, self._trace_cache)
        tables = Tables(connection, to_outbox=self._to_outbox)
        written = Written(batch.take_in(placed))
        written.requests, written.llm_calls = tables.follow(batch.traces)
        batch.write()
        postgres.announce(connection, tables.ids)
        if self._signing is not None:
            trail.follow(connection, tables.spans)

        def finish() -> None:
            self._arm()
            batch.remember()
            if self._rollups is not None:
                self._rollups.written()
            metrics.rows_written.add(written.llm_calls, {"table": "llm_call"})
            metrics.rows_written.add(written.requests, {"table": "request_log"})
            self.counters.add(tables.delta)

        return written, finish

    def _dead_letter(self, dead: Sequence[tuple[Given, str]]) -> int:
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
        if isinstance(item, records.AppEvent):
            return event_rows.letter(item, reason, now, store_text=self._config.store_text)
        span = item.span() if isinstance(item, IrrelevantSpan) else item
        return dead_letter.letter(span, reason, now, store_text=self._config.store_text)

    def close(self) -> None:
        """Close the database; a later write opens it again."""
        with self._process_lock():
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._sign()
            if self._rollups is not None:
                self._rollups.stop()
                self._rollups = Rollups(self._config.url)
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
