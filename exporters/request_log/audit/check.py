"""Verification: rows against commitments, leaves against tiles, tiles against checkpoints, checkpoints against anchors.

It needs the public key only. Every problem is a line that names what is wrong; no line means that everything matches.
The log and the rows are read once, in order; memory does not grow with them (side_table.py).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.audit import entries, merkle, trail
from otel_telemetry.exporters.request_log.audit.notes import BadNote, opened
from otel_telemetry.exporters.request_log.audit.side_table import SideTable
from otel_telemetry.exporters.request_log.audit.tiles import WIDTH, Growing, path
from otel_telemetry.exporters.request_log.db import schema

_ROWS: Final = 1_000
_BUNDLES: Final = 100
_HASH: Final = 32
_MOST: Final = 1_000
#: What a checkpoint is called, its text, and the size under which it is stored.
_Note = tuple[str, str, int | None]
_salt, _row = schema.audit_salt.c, schema.request_log.c


@dataclass(slots=True)
class Found:
    """What was verified, and what is wrong.

    `signed` leaves are in the newest checkpoint. Of `wrong` problems, `problems` has the first thousand.
    """

    leaves: int = 0
    rows: int = 0
    erased: int = 0
    checkpoints: int = 0
    signed: int | None = None
    wrong: int = 0
    problems: list[str] = field(default_factory=list)

    def problem(self, text: str) -> None:
        """Add a problem."""
        self.wrong += 1
        if len(self.problems) < _MOST:
            self.problems.append(text)


@dataclass(frozen=True, slots=True)
class _Log:
    """Where a log comes from: bundles of entries (number of the first leaf, how many, body), tiles, signed notes."""

    bundles: Iterable[tuple[int, int, bytes]]
    tile: Callable[[int, int, int], bytes]
    notes: Iterable[_Note]


def of_database(connection: sa.Connection, public: str | None, anchors: Iterable[str] = ()) -> Found:
    """Verify a database. Without a public key its own is taken, which its owner may have changed.

    The connection needs one view of all tables (database.snapshot), or what is written meanwhile looks like a fault.
    """
    found = Found()
    log = connection.execute(sa.select(schema.audit_log)).mappings().first()
    if log is None:
        found.problem("there is no trail in this database. next: otel-telemetry audit init")
        return found
    read = trail.stored(connection)

    def notes() -> Iterator[_Note]:
        table = schema.audit_checkpoint
        query = sa.select(table.c.size, table.c.note).order_by(table.c.size)
        for size, note in connection.execute(query.execution_options(yield_per=_ROWS)):
            yield f"the checkpoint of size {size}", note, size
        yield from _anchored(anchors)

    with closing(SideTable()) as side:
        _verify(
            _Log(entries_of(connection), lambda level, number, _: read(level, number), notes()),
            public or log["public_key"], side, found,
        )  # fmt: skip
        if found.leaves != log["size"]:
            found.problem(f"the log says {log['size']} leaves, and has {found.leaves}: it was cut")
        if found.signed is None:
            found.problem("nothing is signed yet. next: otel-telemetry audit checkpoint")
        _rows(connection, side, found)
    return found


def of_files(read: Callable[[str], bytes | None], public: str, anchors: Iterable[str] = ()) -> Found:
    """Verify exported files; `read` gives one by its name."""
    found = Found()
    note = (read("checkpoint") or b"").decode("utf-8", "replace")
    try:
        size = opened(note, public).size
    except BadNote as error:
        found.problem(f"checkpoint: {error}")
        return found

    def bundles() -> Iterator[tuple[int, int, bytes]]:
        for first in range(0, size, WIDTH):
            width = min(WIDTH, size - first)
            name = path("entries", first // WIDTH, width)
            body = read(name)
            if body is None:
                found.problem(f"{name} is missing")
            else:
                yield first, width, body

    def notes() -> Iterator[_Note]:
        yield "checkpoint", note, None
        yield from _anchored(anchors)

    with closing(SideTable()) as side:
        _verify(_Log(bundles(), lambda *tile: read(path(*tile)) or b"", notes()), public, side, found)
    return found


def entries_of(connection: sa.Connection) -> Iterator[tuple[int, int, bytes]]:
    """Yield the number of the first leaf, how many there are, and the entries themselves, in order."""
    table = schema.audit_entry
    query = sa.select(table.c.first, table.c.count, table.c.body).order_by(table.c.first)
    with connection.execute(query.execution_options(yield_per=_BUNDLES)) as found:
        for first, count, body in found:
            yield first, count, bytes(body)


def _anchored(anchors: Iterable[str]) -> Iterator[_Note]:
    for number, note in enumerate(anchors, 1):
        yield f"anchored checkpoint {number}", note, None


def _verify(log: _Log, public: str, side: SideTable, found: Found) -> None:
    """Compare leaves, tiles and signed checkpoints, in one pass over the leaves."""
    side.add_points(_points(log.notes, public, found))
    points = side.points()
    point = next(points, None)

    def tile(level: int, number: int, hashes: bytes) -> None:
        _tile((level, number), log.tile(level, number, len(hashes) // _HASH), hashes, found)

    tree = Growing(tile)
    for leaf in _leaves(log.bundles, tree, found):
        while point is not None and point[0] == tree.size:
            _point(point, tree, found)
            point = next(points, None)
        tree.add(merkle.leaf_hash(leaf))
        _take(leaf, tree.size - 1, side, found)
    while point is not None:
        _point(point, tree, found)
        point = next(points, None)
    tree.finish()
    side.finish()
    found.leaves = tree.size


def _points(notes: Iterable[_Note], public: str, found: Found) -> Iterator[tuple[int, bytes, str]]:
    """Yield what was signed by the key, as size, root and name."""
    for name, note, size in notes:
        try:
            point = opened(note, public)
        except BadNote as error:
            found.problem(f"{name}: {error}")
            continue
        if size not in {None, point.size}:
            found.problem(f"{name} holds one of size {point.size}: it was swapped")
        found.checkpoints += 1
        yield point.size, point.root, name


def _point(point: tuple[int, bytes, str], tree: Growing, found: Found) -> None:
    size, root, name = point
    if size > tree.size:
        problem = f"signed {size} leaves, there are {tree.size}: the log was rolled back or cut"
        found.problem(f"{name}: {problem}")
    elif tree.root() != root:
        found.problem(f"{name}: the first {size} leaves are not those that were signed")
    else:
        found.signed = size


def _leaves(given: Iterable[tuple[int, int, bytes]], tree: Growing, found: Found) -> Iterator[bytes]:
    """Yield the leaves one by one, up to where they are cut."""
    for first, count, body in given:
        if first != tree.size:
            found.problem(f"leaves {tree.size} to {first - 1} are missing: the log was cut")
            return
        try:
            leaves = entries.unbundled(body)
        except ValueError:
            found.problem(f"the entries from leaf {first} on are cut")
            return
        if len(leaves) != count:
            found.problem(f"there are {len(leaves)} entries from leaf {first} on, not {count}")
        yield from leaves


def _take(leaf: bytes, number: int, side: SideTable, found: Found) -> None:
    try:
        entry = entries.read(leaf)
    except ValueError as error:
        found.problem(f"leaf {number}: {error}")
        return
    if entry.kind != entries.ACT:
        side.add(entry.ref, number, entry.kind, entry.commitment)
        found.erased += entry.kind in {entries.ERASE, entries.EXPIRE}


def _tile(address: tuple[int, int], own: bytes, right: bytes, found: Found) -> None:
    """Compare a stored tile with the one that the entries make."""
    if own == right:
        return
    level, number = address
    name = path(level, number, len(right) // _HASH)
    if len(own) != len(right):
        found.problem(f"{name} is {'missing' if not own else 'cut'}: {len(own)} bytes, not {len(right)}")
    else:
        at = next(at for at in range(0, len(own), _HASH) if own[at : at + _HASH] != right[at : at + _HASH])
        what = f"leaf {number * WIDTH + at // _HASH}" if level == 0 else f"hash {at // _HASH}"
        found.problem(f"{name} was changed, or is another: {what} does not fit the entries")


def _rows(connection: sa.Connection, side: SideTable, found: Found) -> None:
    """Compare rows with their commitments, and missing rows with the leaves of their deletion."""
    columns = [_row[name] for name in entries.COLUMNS]
    joined = schema.request_log.outerjoin(
        schema.audit_salt, sa.and_(_salt.trace_id == _row.trace_id, _salt.span_id == _row.span_id)
    )
    query = sa.select(*columns, _salt.ref, _salt.salt, _salt.leaf).select_from(joined).order_by(_row.ts, _row.id)
    for chunk in connection.execute(query.execution_options(yield_per=_ROWS)).mappings().partitions():
        side.has_row([bytes(row["ref"]) for row in chunk if row["ref"] is not None])
        for row in chunk:
            found.rows += 1
            _compare(row, side, found)
    for number in side.without_row():
        found.problem(f"the row of leaf {number} is gone, and no leaf says why: it was deleted by hand")


def _compare(row: sa.RowMapping, side: SideTable, found: Found) -> None:
    if row["ref"] is None:
        found.problem(f"row {row['id']} has no leaf: put in by hand, or while the trail was off")
        return
    number, commitment = side.last(bytes(row["ref"]))
    if number != row["leaf"]:
        found.problem(f"row {row['id']}: leaf {row['leaf']} is not the last that the log has of it")
    elif commitment != entries.commitment(bytes(row["salt"]), row):  # type: ignore[arg-type]
        found.problem(f"row {row['id']} is not what leaf {number} commits to: it was changed")
