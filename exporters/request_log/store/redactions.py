"""Stores what redaction counts: adds it to `redaction_count`, by quarters of an hour, from a thread of its own.

Each process that redacts has one. It adds, so that any number of processes and gateways count in one database, and no
transaction is added twice: where a connection breaks while it commits, PostgreSQL is asked what became of it. While the
database is away, counts wait in memory, for the quarter in which they were counted. A process that is killed takes
with it what it counted in the last ten seconds.

It never makes or upgrades a database: that is up to who writes the rows.
"""

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

import sqlalchemy as sa
from opentelemetry.instrumentation.utils import suppress_instrumentation
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite

from otel_telemetry.base import metrics
from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable
from otel_telemetry.base.redaction_counts import Counts, Key, counts
from otel_telemetry.exporters.request_log.db import coerce, database, postgres, rollups
from otel_telemetry.exporters.request_log.db.redactions import redaction_count

_PAUSE_SECONDS: Final = 10.0
_PATIENCE_SECONDS: Final = 2.0  # for the last write, when the process ends
#: So many counts wait for a database that is away; then those of the oldest quarter become the next one's.
_MOST: Final = 20_000
_INSERT: Final[dict[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
#: Characters of a name; PostgreSQL refuses keys that are too long.
_LONGEST: Final = 200

_inherited: list[sa.Engine] = []  # connections of a parent process: kept, so that nothing closes them
_log = logging.getLogger("otel_telemetry.request_log")

#: When the quarter begins, and what was counted in it.
Waiting = Counter[tuple[int, Key]]


class Redactions:
    """Writes the counts of this process to one database."""

    def __init__(
        self,
        url: str,
        given: Counts = counts,
        *,
        pause: float = _PAUSE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        self._given = given
        self._pause = pause
        self._clock = clock
        self._engine: sa.Engine | None = None
        self._forget()

    def _forget(self) -> None:
        """Begin anew: in a process that was forked, all of this is its parent's, and nothing of that is closed."""
        if self._engine is not None:
            _inherited.append(self._engine)
        self._pid = os.getpid()
        self._engine = None
        self._waiting: Waiting = Counter()
        self._sent: Waiting = Counter()
        self._number: int | None = None
        self._told = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Write from now on, every ten seconds if there is something; may be called again, also after a fork."""
        if self._pid != os.getpid():
            self._forget()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="otel-telemetry-redactions", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Write once more, and end for good; waits two seconds for that at most."""
        if self._pid != os.getpid():
            return  # the thread is the parent's
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE_SECONDS)

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            self._try()
        self._try()
        self.close()

    def close(self) -> None:
        """Let go of the database; a later write opens it again."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _try(self) -> None:
        try:
            with suppress_instrumentation():
                self.write()
        except ConfigurationError:
            return  # there is no database yet, or not with this table: it comes with the first rows
        except Exception as error:  # noqa: BLE001  # what was counted waits; telemetry goes on
            metrics.instrumentation_errors.add(1, {"component": "redaction_counts"})
            if not self._told:
                _log.warning("counts of redaction wait until they can be written: %s", error)
            self._told = True
        else:
            self._told = False

    def write(self) -> None:
        """Add what was counted; raises ConfigurationError where there is no place for it, else what the driver does."""
        now = rollups.start_of(datetime.fromtimestamp(self._clock(), UTC))
        for key, number in self._given.take().items():
            self._waiting[now, _stored(key)] += number
        self._limit()
        if not self._waiting and not self._sent:
            return
        try:
            with postgres.sharing(self._opened()).begin() as connection:
                self._settle(connection)
                self._send(connection)
        except exc.DBAPIError as error:
            if database.lacks_schema(error):
                raise ConfigurationError("request_log.url", "has an older schema", "start what writes rows") from error
            raise
        self._sent.clear()
        self._number = None

    def _opened(self) -> sa.Engine:
        if self._engine is None:
            self._engine = database.attach(self._url)
        return self._engine

    def _settle(self, connection: sa.Connection) -> None:
        """Find out what became of the transaction before, if it did not say; what it did not write waits on."""
        if self._number is not None and self._sent:
            status = connection.exec_driver_sql("SELECT txid_status(%s)", (self._number,)).scalar()
            if status == "in progress":
                raise StoreUnavailable("the database is still busy with what was sent before")
            if status == "committed":
                self._sent.clear()
        self._waiting.update(self._sent)
        self._sent.clear()
        self._number = None

    def _send(self, connection: sa.Connection) -> None:
        insert = _INSERT[connection.dialect.name](redaction_count)
        more = {"number": redaction_count.c.number + insert.excluded.number}
        adding = insert.on_conflict_do_update(index_elements=list(redaction_count.primary_key), set_=more)
        # In order: of two writers that add to the same rows, one waits for the other.
        rows = [{"start": start, **key._asdict(), "number": n} for (start, key), n in sorted(self._waiting.items())]
        if rows:
            connection.execute(adding, rows)
        if connection.dialect.name == "postgresql":
            self._number = connection.exec_driver_sql("SELECT txid_current()").scalar_one()
        self._sent, self._waiting = self._waiting, Counter()

    def _limit(self) -> None:
        starts = sorted({start for start, _ in self._waiting})
        for first, second in pairwise(starts):
            if len(self._waiting) <= _MOST:
                break
            for key in [key for start, key in self._waiting if start == first]:
                self._waiting[second, key] += self._waiting.pop((first, key))


def _stored(key: Key) -> Key:
    """Return a key as any database stores it: services name themselves."""
    type_, rule, service = (coerce.clean(word)[:_LONGEST] for word in key[1:])
    return Key(key.what, type_, rule, service)
