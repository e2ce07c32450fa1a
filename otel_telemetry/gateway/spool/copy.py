"""Copies the readable contents of a damaged spool into a new one, and counts what is lost.

SQLite reads it first, table by table, batches in runs that are halved until the bad ones are found. What SQLite cannot
read is searched for in the pages of the file. A step that fails in a way that nobody foresaw costs what it would have
copied, not the other steps.
"""

import contextlib
import logging
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from otel_telemetry.gateway.spool import spool_file
from otel_telemetry.gateway.spool.pages import CellAddress, Pages, Row

#: What SQLite says of a damaged file; a damaged text may not even be one.
_UNREADABLE: Final = (sqlite3.DatabaseError, UnicodeDecodeError)
_RUN: Final = 16  # batches read at one time
_COMMIT_BYTES: Final = 64 << 20
_SIGNALS: Final = frozenset({"traces", "logs", "metrics"})
#: How a row of each table looks in a page: the types of its columns (those at the end may lie on other pages).
_SHAPES: Final = {"total": "niiiii", "cursor": "tiiii", "outcome": "ttii", "attached": "t", "dead_total": "tiii"}
_BATCH_SHAPES: Final = frozenset({"ntiibi", "ntiibn", "ntiib", "ntiicc", "ntiic", "ntiicn", "ntiici"})
_WHOLE_BATCH: Final = frozenset({"ntiibi", "ntiibn", "ntiib"})
_LETTER_SHAPE: Final = "ntitiiit"
_LOSS_COLUMNS: Final = 8
_LEAST_ROW: Final = 16  # bytes of a batch in the file
_LEAST_FILE: Final = 16 << 20  # what a file that was cut may have had, at least

#: What a cursor has behind it: all that ever came, less what is still before it.
_RECOUNT: Final = """
UPDATE cursor SET (batches, items, bytes) = (
    SELECT t.batches - count(b.seq), t.items - coalesce(sum(b.items), 0), t.bytes - coalesce(sum(length(b.body)), 0)
    FROM total t LEFT JOIN batch b ON b.seq > cursor.seq GROUP BY t.id)
"""

_log = logging.getLogger("otel_telemetry.gateway.spool")


@dataclass(slots=True)
class SalvageResult:
    """The result of copying a damaged file.

    `lost` are the batches that should exist and cannot be read, with their items where these are known. `unknown`: more
    may be lost than is known.
    """

    batches: int = 0
    dead_letters: int = 0
    lost: dict[int, int] = field(default_factory=dict)
    lost_letters: int = 0
    unknown: bool = False

    def __str__(self) -> str:
        perhaps = "; there may have been more in it" if self.unknown else ""
        letters = f" ({self.lost_letters} of them could not be read)" if self.lost_letters else ""
        return (
            f"{self.batches} batches were saved from it, {len(self.lost)} could not be read and are lost to who had"
            f" not got them, {self.dead_letters} dead letters were saved{letters}{perhaps}"
        )

    def next_step(self) -> str:
        """Return what is to be done about it, "" where nothing is lost."""
        lossy = self.lost or self.lost_letters or self.unknown
        return "; /health is degraded until `otel-telemetry spool acknowledge`" if lossy else ""

    def note_unknown(self, target: sqlite3.Connection) -> None:
        """Note in the new file the dead letters that are lost, and that more may be than is known."""
        if self.lost_letters or self.unknown:
            target.execute(
                "INSERT INTO loss (at_ns, batches, items, letters, unknown) VALUES (?, 0, 0, ?, ?)",
                (time.time_ns(), self.lost_letters, self.unknown),
            )


class _Head(NamedTuple):
    """A batch without its body; `address` is where the body is in the file."""

    address: CellAddress
    items: int


class _Found:
    """What the pages of a file show: rows of the small tables, and where batches and dead letters are."""

    def __init__(self) -> None:
        self.tables: defaultdict[str, list[tuple[object, ...]]] = defaultdict(list)
        self.batches: defaultdict[int, list[_Head]] = defaultdict(list)
        self.letters: dict[int, CellAddress] = {}

    def look_through(self, pages: Pages) -> None:
        """Look at each row that can be seen in the pages."""
        names = {shape: name for name, shape in _SHAPES.items()}
        for row in pages.rows():
            shape = row.shape()
            if shape in names:
                self.tables[names[shape]].append(row.values)
            elif shape in _BATCH_SHAPES and row.values[1] in _SIGNALS:
                items = row.values[3]
                self.batches[row.rowid].append(_Head(row.address, items if isinstance(items, int) else 0))
            elif shape.startswith(_LETTER_SHAPE):
                self.letters[row.rowid] = row.address
            elif shape.startswith("niiiii") and len(shape) == _LOSS_COLUMNS:
                self.tables["loss"].append((row.rowid, *row.values[1:]))
            elif shape == "nt":
                self.tables["replay"].append((row.rowid, row.values[1]))

    def rows(self, table: str) -> list[tuple[object, ...]]:
        """Return the rows of a table, each key once.

        Of two pages with the same cursor the one that is further behind counts: better twice than never.
        """
        found = sorted(self.tables[table], key=repr)
        if table == "total":
            return [(1, *max((row[1:] for row in found), key=lambda row: row[0]))] if found else []  # type: ignore[arg-type,return-value] # integers, by their shape
        if table == "cursor":
            found.sort(key=lambda row: -row[1])  # type: ignore[operator] # integers, by their shape
        return found


class Copy:
    """Copies one damaged file: `source` reads it through SQLite, `pages` reads its bytes."""

    def __init__(self, source: sqlite3.Connection, pages: Pages, target: sqlite3.Connection) -> None:
        self._source = source
        self._pages = pages
        self._target = target
        self._found = _Found()
        self._saved = SalvageResult()
        self._bytes = 0
        self._totals_known = False
        self._expected = 1 << 62  # from this number on, each batch should be there

    def run(self) -> SalvageResult:
        """Copy all that can be read, and count the rest."""
        tables = ("total", "cursor", "outcome", "replay", "attached", "loss")
        with spool_file.transaction(self._target):
            self._try("pages", lambda: self._found.look_through(self._pages))
            for table in tables:
                self._try(table, partial(self._table, table))
            for step in (self._dead_letters, self._count_letters, self._all_batches, self._missing_batches):
                self._try(step.__name__.strip("_"), step)
            self._account()
        return self._saved

    def _try(self, what: str, step: Callable[[], None]) -> None:
        """Do a step; where it fails in a way that nobody foresaw, go on without, and say that more may be lost."""
        try:
            step()
        except Exception as error:
            if spool_file.is_of_surroundings(error):
                raise
            _log.exception("the damaged spool could not be read to its end (%s); what is left of it is saved", what)
            self._saved.unknown = True

    def _table(self, table: str) -> None:
        """Copy a small table."""
        try:
            rows = self._source.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - names of our own
        except _UNREADABLE:
            rows = self._found.rows(table)
        for row in rows:
            marks = ",".join("?" * len(row))
            try:
                self._target.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)  # noqa: S608
            except sqlite3.IntegrityError:  # the disk did not keep a value that has to be there
                self._saved.unknown = True
        if table == "total":
            self._totals_known = bool(rows)

    # --- dead letters -----------------------------------------------------------------------------------------------
    def _dead_letters(self) -> None:
        try:
            for row in self._source.execute("SELECT * FROM dead_letter ORDER BY id"):
                self._keep_letter(row)
        except _UNREADABLE:
            for number, address in sorted(self._found.letters.items()):
                found = self._pages.whole(address)
                if found is not None and found.shape() == f"{_LETTER_SHAPE}b":
                    self._keep_letter((number, *found.values[1:]))

    def _keep_letter(self, row: Sequence[object]) -> None:
        inserted = self._target.execute(
            "INSERT OR IGNORE INTO dead_letter VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", tuple(row)
        )
        self._saved.dead_letters += inserted.rowcount

    def _count_letters(self) -> None:
        """Compare what was saved with how many there were."""
        try:
            there = self._source.execute("SELECT sink, letters FROM dead_total").fetchall()
        except _UNREADABLE:
            there = [row[:2] for row in self._found.rows("dead_total")]
            self._saved.unknown |= not there and self._pages.missing()
        known = sum(int(letters) for _, letters in there)
        self._saved.lost_letters = max(0, known - self._saved.dead_letters)

    # --- batches ----------------------------------------------------------------------------------------------------
    def _range(self) -> tuple[int, int]:
        """Return the first and the behind-the-last number that there may be.

        There are gaps only where something was lost before; what some sink has not got yet is always looked for.
        """
        last, count = self._target.execute("SELECT seq, batches - trimmed FROM total").fetchone()
        there = self._found.batches
        given = self._given()
        if given is not None and given != last:  # one of the two is damaged, and a loss is only what both tell of
            last = min(given, last)
            self._saved.unknown = True
        ends = [last - count + 1 if self._totals_known else min(there, default=1), max(there, default=last)]
        ends[0] = min(ends[0], self._delivered() + 1)
        for position, order in enumerate(("ASC", "DESC")):
            with contextlib.suppress(*_UNREADABLE):
                row = self._source.execute(f"SELECT seq FROM batch ORDER BY seq {order} LIMIT 1").fetchone()  # noqa: S608
                ends[position] = row[0] if row else ends[position]
        (delivered,) = self._target.execute("SELECT min(seq) FROM cursor").fetchone()
        if delivered is not None:
            self._expected = delivered + 1
            ends[0] = min(ends[0], self._expected)
        return ends[0], max(ends[1], last) + 1

    def _given(self) -> int | None:
        """Return the number that SQLite gave last; None where it cannot be read."""
        with contextlib.suppress(*_UNREADABLE):
            row = self._source.execute("SELECT seq FROM sqlite_sequence WHERE name = 'batch'").fetchone()
            return int(row[0]) if row and isinstance(row[0], int) else None
        return None

    def _all_batches(self) -> None:
        """Copy each batch that SQLite can read, and note the others as lost.

        Where the numbers are further apart than the file has room for, one of them is damaged: only what is seen in the
        pages is looked for then.
        """
        first, end = self._range()
        if end - first <= max(self._pages.bytes, _LEAST_FILE) // _LEAST_ROW:
            for start in range(first, end, _RUN):
                self._batches(start, min(start + _RUN, end) - 1)
            return
        self._saved.unknown = True
        for seq in sorted(self._found.batches):
            self._batches(seq, seq)

    def _batches(self, first: int, last: int) -> None:
        query = "SELECT seq, signal, received_ns, items, body, crc FROM batch WHERE seq BETWEEN ? AND ?"
        try:
            rows = self._source.execute(query, (first, last)).fetchall()
        except _UNREADABLE:
            if first == last:
                self._saved.lost[first] = 0
                return
            middle = (first + last) // 2
            self._batches(first, middle)
            self._batches(middle + 1, last)
            return
        missing = set(range(max(first, self._expected), last + 1))
        for row in rows:
            missing.discard(row[0])
            if not self._keep(row):
                self._saved.lost[row[0]] = row[3]
        self._saved.lost |= dict.fromkeys(missing, 0)  # SQLite passes over zeros in the place of a row

    def _missing_batches(self) -> None:
        """Look into the pages for the batches that SQLite cannot read."""
        for seq in list(self._saved.lost):
            heads = self._found.batches.get(seq, [])
            if any(self._keep(row) for row in self._rows_of(seq, heads)):
                del self._saved.lost[seq]
            elif heads:
                self._saved.lost[seq] = heads[0].items

    def _rows_of(self, seq: int, heads: Sequence[_Head]) -> Iterator[tuple[object, ...]]:
        for head in heads:
            found: Row | None = self._pages.whole(head.address)
            if found is not None and found.shape() in _WHOLE_BATCH:
                yield (seq, *found.values[1:5], *(found.values[5:] or (None,)))

    def _keep(self, row: Sequence[object]) -> bool:
        body = row[4]
        if not isinstance(body, bytes) or None in row[:5]:
            return False
        if row[5] is not None and spool_file.checksum(body) != row[5]:
            return False
        inserted = self._target.execute(
            "INSERT OR IGNORE INTO batch (seq, signal, received_ns, items, body, crc) VALUES (?, ?, ?, ?, ?, ?)",
            tuple(row),
        )
        self._saved.batches += inserted.rowcount
        self._bytes += len(body)
        if self._bytes >= _COMMIT_BYTES:
            self._target.execute("COMMIT")
            self._target.execute("BEGIN")
            self._bytes = 0
        return True

    # --- numbers ----------------------------------------------------------------------------------------------------
    def _account(self) -> None:
        """Make the numbers fit what is there now, and count what is lost for each sink that had not got it."""
        ends = ("seq FROM batch", "seq FROM total", "seq FROM cursor")
        last = max(self._scalar(f"SELECT coalesce(max(seq), 0) FROM (SELECT {end})") for end in ends)  # noqa: S608
        self._forget_known(last)
        self._saved.unknown |= not self._totals_known
        count, items, size = self._target.execute(
            "SELECT count(*), coalesce(sum(items), 0), coalesce(sum(length(body)), 0) FROM batch"
        ).fetchone()
        self._target.execute(
            "UPDATE total SET seq = ?, batches = max(batches, ?), trimmed = max(batches, ?) - ?,"
            " items = max(items, ?), bytes = max(bytes, ?)",
            (last, count, count, count, items, size),
        )
        self._target.execute(_RECOUNT)
        self._target.execute("DELETE FROM sqlite_sequence WHERE name = 'batch'")
        self._target.execute("INSERT INTO sqlite_sequence VALUES ('batch', ?)", (last,))  # no number is given twice
        self._log_saved()

    def _delivered(self) -> int:
        """Return the number up to which all sinks have everything; 0 where no cursor came over."""
        return self._scalar("SELECT coalesce(min(seq), 0) FROM cursor")

    def _forget_known(self, last: int) -> None:
        """Leave out of what is lost what all sinks have, and what was lost and counted before."""
        known = {seq for (seq,) in self._target.execute("SELECT seq FROM loss WHERE seq IS NOT NULL")}
        expected = range(self._delivered() + 1, last + 1)
        lost = self._saved.lost.items()
        self._saved.lost = {seq: items for seq, items in lost if seq in expected and seq not in known}

    def _log_saved(self) -> None:
        saved = self._saved
        for sink, at in self._target.execute("SELECT sink, seq FROM cursor").fetchall():
            missed = [items for seq, items in saved.lost.items() if seq > at]
            if missed:
                spool_file.count_outcome(self._target, sink, "unreadable", len(missed), sum(missed))
        for seq, items in saved.lost.items():
            spool_file.count_loss(self._target, seq, items)
        saved.note_unknown(self._target)

    def _scalar(self, query: str) -> int:
        return int(self._target.execute(query).fetchone()[0])
