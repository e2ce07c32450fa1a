"""Imports the rows of an older database.

All rows are read and checked before the first is written: an error in the old database stops the import with nothing
imported. Then each batch is redacted and becomes rows in its own transaction. The ids of the new rows are made from the
old ones, so that an interrupted import is simply started again, and a repeated one adds only new rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, Protocol

from otel_telemetry.base.destinations import runs
from otel_telemetry.base.errors import ConfigurationError, MalformedTelemetry, StoreError
from otel_telemetry.exporters.request_log.db.older import BOT, CHRONICLE, MODULE, System
from otel_telemetry.exporters.request_log.store.store import Written
from otel_telemetry.gateway.receive.rest.records import Record
from otel_telemetry.older import bot, chronicle, module
from otel_telemetry.older.items import Item, OldSpan, bodies
from otel_telemetry.older.source import BadRow, OldRow, Source, url_of
from otel_telemetry.older.values import Row

_AT_ONCE: Final = 200
_MOST_SHOWN: Final = 10

Signal = Literal["traces", "logs"]
Read = Callable[[str, Row, str | None], Sequence[Item]]
_READ: Final[dict[System, Read]] = {MODULE: module.items_of, BOT: bot.items_of, CHRONICLE: chronicle.items_of}


class Clean(Protocol):
    """A request without personal data, and how many items had to be left out of it."""

    @property
    def body(self) -> bytes:
        """The request."""

    @property
    def rejected(self) -> int:
        """How many items could not be redacted."""


Redact = Callable[[Signal, bytes], Clean]
Write = Callable[[str, Sequence[bytes]], Written]


@dataclass(slots=True)
class Tally:
    """What became of one older table: `rows` of it were read, `new` ones came over, the others were there before.

    `skipped` are rows that are none of their table, `lost` those that redaction or the database did not take.
    """

    system: System
    rows: int = 0
    new: int = 0
    skipped: int = 0
    lost: int = 0
    oldest_ns: int | None = None
    not_understood: list[str] = field(default_factory=list)


class SourceChanged(StoreError):
    """The old file changed while it was read."""


class Import:
    """One older database on its way. With `skip_bad_rows`, rows that cannot be read are left out, and listed."""

    def __init__(self, source: Source, *, service: str | None = None, skip_bad_rows: bool = False) -> None:
        self._source = source
        self._service = service
        self._skip = skip_bad_rows
        self.tallies = {table: Tally(system) for table, system in source.tables.items()}
        #: The first rows that are left out.
        self.bad: list[BadRow] = []

    def size(self) -> int:
        """Return how many rows there are."""
        return sum(map(self._source.count, self.tallies))

    def check(self) -> Iterator[str]:
        """Read all rows, yielding the table of each; raises BadRow for one that cannot come over, and Changed."""
        for table, tally in self.tallies.items():
            for old in self._source.rows(table):
                if not tally.rows:
                    tally.not_understood = _not_understood(old)
                tally.rows += 1
                self._check(old, tally)
                yield table
        if self._source.has_changed():
            raise SourceChanged(
                "the old file changed while it was read; nothing was brought over. "
                "next: stop the program that writes it, and run this again"
            )

    def _check(self, old: OldRow, tally: Tally) -> None:
        try:
            items = self._read(old)
            bodies(items)
        except BadRow as bad:
            if not self._skip:
                raise
            tally.skipped += 1
            self.bad = [*self.bad, bad][:_MOST_SHOWN]
            return
        at = min(item.start_ns if isinstance(item, OldSpan) else _time(item) for item in items)
        tally.oldest_ns = at if tally.oldest_ns is None else min(at, tally.oldest_ns)

    def _read(self, old: OldRow) -> Sequence[Item]:
        try:
            return _READ[old.system](old.table, old.values, self._service)
        except (ValueError, MalformedTelemetry, OverflowError) as error:
            raise BadRow(old.table, old.row_name, str(error)) from None

    def bring(self, redact: Redact, write: Write) -> Iterator[tuple[str, int]]:
        """Bring all rows over, yielding the table and the number of rows of each batch; raises StoreUnavailable.

        `check` comes first. Raises Changed in the end where the file changed meanwhile.
        """
        for table, tally in self.tallies.items():
            for batch in runs(self._source.rows(table), lambda _: 1, _AT_ONCE):
                items = [item for old in batch for item in self._read_again(old)]
                for signal, body in bodies(items):
                    clean = redact(signal, body)
                    written = write(signal, [clean.body])
                    tally.new += written.spans + written.events
                    tally.lost += clean.rejected + written.dead_letters
                yield table, len(batch)
        if self._source.has_changed():
            raise SourceChanged(
                "the old file changed while it was brought over: what it held at the beginning is here. "
                "next: stop the program that writes it, and run this again for the rest; nothing comes twice"
            )

    def _read_again(self, old: OldRow) -> Sequence[Item]:
        try:
            return self._read(old)
        except BadRow:
            if not self._skip:
                raise
            return ()

    def beyond(self, days: int | None) -> list[str]:
        """Return the tables with rows that retention deletes as soon as they are here."""
        if days is None:
            return []
        before = (datetime.now(UTC) - timedelta(days=days)).timestamp() * 1e9
        return [table for table, tally in self.tallies.items() if tally.oldest_ns and tally.oldest_ns < before]


def _time(record: Record) -> int:
    return record.time_ns or record.observed_ns


def _not_understood(old: OldRow) -> list[str]:
    if old.system is BOT:
        return bot.not_understood(old.values)
    known = (module.COLUMNS if old.system is MODULE else chronicle.COLUMNS)[old.table]
    return [name for name in old.values if name not in known]


def refuse_same(old: str, into: str) -> None:
    """Raise ConfigurationError where both are one database."""
    if url_of(old) == into:
        raise ConfigurationError("--into", "is the old database itself", "name a new one: sqlite:///telemetry.db")
