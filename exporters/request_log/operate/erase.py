"""Erases one person: deletes their rows and texts from every table, and from the bytes of the database's file.

`Search` (erase_search.py) finds the rows. They are deleted a few traces at a time, each trace in one transaction, so
that an interrupted run leaves no trace half deleted; the next run finds the rest. Afterwards the search is repeated,
for rows that were written meanwhile.

Bytes of deleted rows stay in the file: in free pages, and for rewritten rows in older copies. SQLite therefore rebuilds
its file (VACUUM) and empties its write-ahead log; PostgreSQL vacuums the tables, which frees the space for new rows
that overwrite it. The facts of a trace are rewritten without the deleted spans (facts_table.py).
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Self

import sqlalchemy as sa

from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.exporters.request_log.audit import trail
from otel_telemetry.exporters.request_log.db import bulk, database, outbox, rollups, schema
from otel_telemetry.exporters.request_log.operate.erase_search import Found, Key, Person, Progress, Search, key_of
from otel_telemetry.exporters.request_log.store.facts_table import FactsTable

_TRACES: Final = 200
_TIMES: Final = 3
_PATIENCE: Final = 10.0
_PAUSE: Final = 0.2

#: Told how many rows of which table are gone.
Gone = Callable[[str, int], None]


@dataclass(slots=True)
class Erased:
    """What an erasure did: rows deleted by table, and the traces of which nothing stays."""

    rows: Counter[str] = field(default_factory=Counter)
    traces: set[str] = field(default_factory=set)


class Eraser:
    """Erases one person from one database. Looking keeps no writer waiting: it has a connection of its own."""

    def __init__(self, url: str, person: Person) -> None:
        self._person = person
        self._reader = database.reader(url)  # first: a database that is not there is not made
        self._engine = database.connect(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.dispose()
        self._engine.dispose()

    def find(self, progress: Progress = lambda _: None) -> Found:
        """Return what is the person's. Changes nothing."""
        with self._reader.connect() as connection:
            return Search(connection, self._person, progress).run()

    def erase(self, found: Found, gone: Gone = lambda _, __: None) -> Erased:
        """Delete what was found, and what has come since; see `reclaim` for the bytes."""
        erased = Erased()
        for _ in range(_TIMES):
            erased.traces |= found.traces
            for table, count in self._delete(found):
                erased.rows[table] += count
                gone(table, count)
            found = self.find()
            if not found.counts():
                with self._engine.begin() as connection:
                    trail.act(
                        connection,
                        "erase",
                        {
                            "kind": self._person.kind,
                            "rows": {str(table): count for table, count in erased.rows.items()},
                        },
                    )
                return erased
        raise StoreUnavailable(
            "rows of this person keep coming in while they are erased. next: stop what sends them, and erase again"
        )

    def _delete(self, found: Found) -> Generator[tuple[str, int], None, None]:
        """Delete by trace, and last what is of no trace."""
        by_trace: dict[str | None, list[tuple[str, Key]]] = {}
        for table, keys in found.rows.items():
            for key, trace in keys.items():
                by_trace.setdefault(trace, []).append((table, key))
        loose = by_trace.pop(None, [])
        traces = iter(by_trace.values())
        while chunk := list(islice(traces, _TRACES)):
            yield from self._transact([row for rows in chunk for row in rows])
        rest = iter(loose)
        while rows := list(islice(rest, _TRACES * 10)):
            yield from self._transact(rows)

    def _transact(self, rows: list[tuple[str, Key]]) -> list[tuple[str, int]]:
        by_table: dict[str, list[Key]] = {}
        for table, key in rows:
            by_table.setdefault(table, []).append(key)
        with self._engine.begin() as connection:
            spans = _spans(connection, by_table.get(schema.request_log.name, ()))
            for name, keys in by_table.items():
                own = schema.metadata.tables[name]
                outbox.note_rows(connection, own, [key[0] for key in keys])
                if own is schema.trace_facts:
                    _forget(connection, set(keys))
                else:
                    bulk.bulk(connection).delete(own, key_of(own), keys)
                if own in (schema.request_log, schema.llm_call):
                    rollups.forget(connection, [ts for _, ts in keys])
            trail.follow(connection, spans)
        return [(table, len(keys)) for table, keys in by_table.items()]

    def reclaim(self, tables: Iterable[str]) -> None:
        """Make sure that deleted rows are not in the file any more; see the function of that name."""
        reclaim(self._engine, sorted(set(tables)))


def _spans(connection: sa.Connection, keys: Sequence[Key]) -> list[trail.Key]:
    """Return the spans of requests whose deletion must be recorded in the audit trail."""
    if not keys or not trail.exists(connection):
        return []
    row = schema.request_log.c
    query = sa.select(row.trace_id, row.span_id)
    found: list[trail.Key] = []
    for start in range(0, len(keys), _TRACES):
        ids = [key[0] for key in keys[start : start + _TRACES]]
        found += [(trace, span) for trace, span in connection.execute(query.where(row.id.in_(ids)))]
    return found


def _forget(connection: sa.Connection, spans: set[Key]) -> None:
    """Write what is known of traces without these spans."""
    table, traces = FactsTable(connection), {key[0] for key in spans}
    left = [
        [fact for fact in facts if (fact.trace_id, fact.span_id) not in spans] for facts in table.of(traces).values()
    ]
    table.replace(traces, [facts for facts in left if facts])


def reclaim(engine: sa.Engine, tables: Iterable[str]) -> None:
    """Make sure that what rows were before is not in the file any more, and give the disk its space back.

    Raises StoreUnavailable where others keep the file busy: what is deleted stays deleted, its bytes may be there.
    """
    raw: Any = engine.raw_connection()
    try:
        if engine.dialect.name == "postgresql":
            _vacuum(raw.driver_connection, [*tables, schema.audit_salt.name, rollups.rollup.name])
        else:
            rebuild(raw.driver_connection)
    finally:
        raw.close()


def _vacuum(raw: Any, tables: Iterable[str]) -> None:
    raw.rollback()
    raw.autocommit = True
    try:
        for name in tables:
            raw.execute(f"VACUUM {name}")
    finally:
        raw.autocommit = False


def rebuild(raw: sqlite3.Connection) -> None:
    """Write a SQLite file anew without what was ever deleted, and empty its write-ahead log."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            raw.execute("VACUUM")
            busy = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.OperationalError as error:
            problem = str(error)
        else:
            problem = "others are reading it" if busy else ""
        if not problem:
            return
        if time.monotonic() > deadline:
            raise StoreUnavailable(
                f"the rows are gone, but the file could not be rebuilt ({problem}): bytes of them may be in it. "
                "next: stop what reads and writes the database for a moment, then run this again"
            )
        time.sleep(_PAUSE)
