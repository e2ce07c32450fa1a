"""Yields requests as their rows are committed, by any process.

SQLite is polled every quarter of a second for commits (`PRAGMA data_version`, which reads no row), and then for rows
after the last one. On PostgreSQL writers notify a channel with the ids of the rows they wrote. If notifications do not
arrive (a pooler between, a standby, an older writer), the latest rows are read every two seconds, and also after a lost
connection. A row that is rewritten (late spans) is yielded again.
"""

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import sqlalchemy as sa
from sqlalchemy import exc

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.db import database, schema
from otel_telemetry.exporters.request_log.db.postgres import CHANNEL, MANY

_LOOK_SECONDS: Final = 0.25
_POLL_SECONDS: Final = 2.0
#: As many rows are remembered, so that none comes twice; of them as many are looked at again.
_REMEMBERED: Final = 5_000
_AGAIN: Final = 500
_IDS: Final = 500

_log: Final = schema.request_log.c


@dataclass(frozen=True, slots=True)
class Filter:
    """Which requests: all, or those of a route, those that a model answered, those that failed or were degraded."""

    route: str | None = None
    model: str | None = None
    failed: bool = False

    def condition(self) -> sa.ColumnElement[bool]:
        """Return it as a condition."""
        conditions: list[sa.ColumnElement[bool]] = [sa.true()]
        if self.route is not None:
            conditions.append(_log.route == self.route)
        if self.model is not None:
            conditions.append(_log.model == self.model)
        if self.failed:
            conditions.append(sa.or_(sa.not_(_log.ok), _log.degraded.is_not(None)))
        return sa.and_(*conditions)


class Tail:
    """Follows one database. Use as a context manager."""

    def __init__(self, url: str, wanted: Filter) -> None:
        self._engine = database.reader(url)
        self._query = sa.select(schema.request_log).where(wanted.condition())
        self._seen: OrderedDict[str, int] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.dispose()

    def last(self, count: int) -> list[records.Request]:
        """Return the latest requests, oldest first. `follow` does not return these again."""
        with self._engine.connect() as connection:
            latest = list(self._latest(connection, max(count, _AGAIN)))
        return latest[len(latest) - count :] if count else []

    def follow(self, waited: Callable[[], None] = lambda: None) -> Iterator[records.Request]:
        """Yield requests from now on, for good; `waited` is called each time that nothing came for a while."""
        source = self._notified if self._engine.dialect.name == "postgresql" else self._looked
        while True:
            try:
                yield from source(waited)
            except exc.OperationalError as error:
                if database.unavailable(error) is None:
                    raise
                time.sleep(_POLL_SECONDS)
                waited()

    # --- SQLite -----------------------------------------------------------------------------------------------------
    def _looked(self, waited: Callable[[], None]) -> Iterator[records.Request]:
        row_id: Any = sa.literal_column("request_log.rowid")
        newest = sa.select(sa.func.max(row_id)).select_from(schema.request_log)
        with self._engine.connect() as connection:
            version = None
            last = connection.execute(newest).scalar() or 0
            while True:
                now = connection.exec_driver_sql("PRAGMA data_version").scalar()
                if now == version:
                    time.sleep(_LOOK_SECONDS)
                    waited()
                    continue
                version = now
                # Rows that were rewritten took new places at the end; those that were the last took the same again.
                query = self._query.where(row_id > last - _AGAIN).order_by(row_id)
                yield from self._fresh(connection, query)
                last = connection.execute(newest).scalar() or 0  # a rebuilt file counts from one

    # --- PostgreSQL -------------------------------------------------------------------------------------------------
    def _notified(self, waited: Callable[[], None]) -> Iterator[records.Request]:
        raw = self._engine.raw_connection()
        try:
            listening: Any = raw.driver_connection
            listening.autocommit = True
            listens = _listen(listening)
            while True:
                notes = _notes(listening) if listens else _slept()
                with self._engine.connect() as connection:
                    if notes and MANY not in notes:
                        yield from self._named(
                            connection, [json.loads(line) for note in notes for line in note.splitlines()]
                        )
                    else:
                        yield from self._latest(connection, _AGAIN)
                if not notes:
                    waited()
        finally:
            raw.invalidate()  # it is still listening: nobody else gets it
            raw.close()

    def _named(self, connection: sa.Connection, ids: Sequence[str]) -> Iterator[records.Request]:
        for start in range(0, len(ids), _IDS):
            query = self._query.where(_log.id.in_(ids[start : start + _IDS])).order_by(_log.ts, _log.id)
            yield from self._fresh(connection, query)

    # --- both -------------------------------------------------------------------------------------------------------
    def _latest(self, connection: sa.Connection, count: int) -> Iterator[records.Request]:
        """Yield those of the latest requests that are new, oldest first."""
        latest = self._query.order_by(_log.ts.desc(), _log.id).limit(count).subquery()
        yield from self._fresh(connection, sa.select(latest).order_by(latest.c.ts, latest.c.id))

    def _fresh(self, connection: sa.Connection, query: sa.Select[Any]) -> Iterator[records.Request]:
        """Yield the rows that are new, or not as they were."""
        rows: Iterable[Any] = connection.execute(query).mappings().all()
        for row in rows:
            content = hash(str(row))
            if self._seen.get(row["id"]) == content:
                continue
            self._seen[row["id"]] = content
            self._seen.move_to_end(row["id"])
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
            yield records.Request(**row)


def _listen(raw: Any) -> bool:
    """Start to listen for notifications; return False on a standby, which refuses that."""
    try:
        raw.execute(f"LISTEN {CHANNEL}")
    except raw.Error as error:
        if error.sqlstate is None:
            raise
        return False
    return True


def _notes(raw: Any) -> list[str]:
    """Wait for notifications and return their payloads; none after the time limit."""
    return [note.payload for note in raw.notifies(timeout=_POLL_SECONDS, stop_after=1)]


def _slept() -> list[str]:
    time.sleep(_POLL_SECONDS)
    return []
