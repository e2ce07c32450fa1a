"""Verification: rows against commitments, leaves against tiles, tiles against checkpoints, checkpoints against anchors.

It needs the public key only. Every problem is a line that names what is wrong; no line means that everything matches.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.audit import entries, merkle
from otel_telemetry.exporters.request_log.audit.notes import BadNote, Checkpoint, opened
from otel_telemetry.exporters.request_log.audit.tiles import Tiles, path, widths
from otel_telemetry.exporters.request_log.db import schema

_CHUNK: Final = 1_000
_HASH: Final = 32
_salt, _row = schema.audit_salt.c, schema.request_log.c


@dataclass(slots=True)
class Found:
    """What was looked at, and what is wrong."""

    leaves: int = 0
    rows: int = 0
    erased: int = 0
    checkpoints: int = 0
    newest: Checkpoint | None = None
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Trail:
    """The leaves as they were read: of each ref its last, by number and kind."""

    hashes: list[bytes] = field(default_factory=list)
    last: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)
    commitments: dict[int, bytes] = field(default_factory=dict)


def of_database(connection: sa.Connection, public: str | None, anchors: Sequence[str] = ()) -> Found:
    """Verify a database. Without a public key its own is taken, which its owner may have changed."""
    found = Found()
    log = connection.execute(sa.select(schema.audit_log)).mappings().first()
    if log is None:
        found.problems.append("there is no trail in this database. next: otel-telemetry audit init")
        return found
    trail = _read(entries_of(connection), found)
    if len(trail.hashes) != log["size"]:
        found.problems.append(f"the log says {log['size']} leaves, and has {len(trail.hashes)}: it was cut")
    tree = _rebuilt(trail.hashes)
    _tiles(_stored(connection), tree, len(trail.hashes), found)
    key = public or log["public_key"]
    table = schema.audit_checkpoint
    for size, note in connection.execute(sa.select(table.c.size, table.c.note).order_by(table.c.size)):
        _checkpoint(f"the checkpoint of size {size}", note, key, tree, found)
    for number, note in enumerate(anchors, 1):
        _checkpoint(f"anchored checkpoint {number}", note, key, tree, found)
    if found.newest is None:
        found.problems.append("nothing is signed yet. next: otel-telemetry audit checkpoint")
    _rows(connection, trail, found)
    return found


def of_files(read: Callable[[str], bytes | None], public: str, anchors: Sequence[str] = ()) -> Found:
    """Verify exported files; `read` gives one by its name."""
    found = Found()
    note = (read("checkpoint") or b"").decode("utf-8", "replace")
    try:
        now = opened(note, public)
    except BadNote as error:
        found.problems.append(f"checkpoint: {error}")
        return found
    bundles = [(number, width) for level, number, width in widths(now.size) if level == 0]
    trail = _read(_files(read, bundles, found), found)
    tree = _rebuilt(trail.hashes)

    def stored(level: int, number: int) -> bytes:
        width = next(each for one, two, each in widths(now.size) if (one, two) == (level, number))
        return read(path(level, number, width)) or b""

    _tiles(stored, tree, len(trail.hashes), found)
    _checkpoint("checkpoint", note, public, tree, found)
    for number, each in enumerate(anchors, 1):
        _checkpoint(f"anchored checkpoint {number}", each, public, tree, found)
    return found


def entries_of(connection: sa.Connection) -> Iterator[tuple[int, int, bytes]]:
    """Yield the number of the first leaf, how many there are, and the entries themselves, in order."""
    table = schema.audit_entry
    query = sa.select(table.c.first, table.c.count, table.c.body).order_by(table.c.first)
    with connection.execute(query.execution_options(yield_per=_CHUNK)) as found:
        for first, count, body in found:
            yield first, count, bytes(body)


def _files(
    read: Callable[[str], bytes | None], bundles: Iterable[tuple[int, int]], found: Found
) -> Iterator[tuple[int, int, bytes]]:
    for number, width in bundles:
        name = path("entries", number, width)
        body = read(name)
        if body is None:
            found.problems.append(f"{name} is missing")
        else:
            yield number * 256, width, body


def _read(given: Iterable[tuple[int, int, bytes]], found: Found) -> _Trail:
    trail = _Trail()
    for first, count, body in given:
        if first != len(trail.hashes):
            found.problems.append(f"leaves {len(trail.hashes)} to {first - 1} are missing: the log was cut")
            break
        try:
            leaves = entries.unbundled(body)
        except ValueError:
            found.problems.append(f"the entries from leaf {first} on are cut")
            break
        if len(leaves) != count:
            found.problems.append(f"there are {len(leaves)} entries from leaf {first} on, not {count}")
        for leaf in leaves:
            _take(leaf, trail, found)
    found.leaves = len(trail.hashes)
    return trail


def _take(leaf: bytes, trail: _Trail, found: Found) -> None:
    number = len(trail.hashes)
    trail.hashes.append(merkle.leaf_hash(leaf))
    try:
        entry = entries.read(leaf)
    except ValueError as error:
        found.problems.append(f"leaf {number}: {error}")
        return
    if entry.kind != entries.ACT:
        trail.last[entry.ref] = number, entry.kind
        trail.commitments[number] = entry.commitment
        found.erased += entry.kind in {entries.ERASE, entries.EXPIRE}


def _rebuilt(hashes: list[bytes]) -> Tiles:
    tree = Tiles(lambda _, __: b"")
    tree.append(0, hashes)
    return tree


def _stored(connection: sa.Connection) -> Callable[[int, int], bytes]:
    table = schema.audit_tile
    rows = connection.execute(sa.select(table.c.level, table.c.number, table.c.hashes))
    held = {(level, number): bytes(hashes) for level, number, hashes in rows}
    return lambda level, number: held.get((level, number), b"")


def _tiles(stored: Callable[[int, int], bytes], tree: Tiles, size: int, found: Found) -> None:
    for level, number, width in widths(size):
        own, right = stored(level, number), tree.tile(level, number)[: width * _HASH]
        if own == right:
            continue
        name = path(level, number, width)
        if len(own) != len(right):
            found.problems.append(f"{name} is {'missing' if not own else 'cut'}: {len(own)} bytes, not {len(right)}")
        else:
            at = next(at for at in range(0, len(own), _HASH) if own[at : at + _HASH] != right[at : at + _HASH])
            what = f"leaf {number * 256 + at // _HASH}" if level == 0 else f"hash {at // _HASH}"
            found.problems.append(f"{name} was changed, or is another: {what} does not fit the entries")


def _checkpoint(name: str, note: str, public: str, tree: Tiles, found: Found) -> None:
    size = found.leaves
    try:
        point = opened(note, public)
    except BadNote as error:
        found.problems.append(f"{name}: {error}")
        return
    found.checkpoints += 1
    if point.size > size:
        problem = f"signed {point.size} leaves, there are {size}: the log was rolled back or cut"
        found.problems.append(f"{name}: {problem}")
    elif merkle.root(tree.node, point.size) != point.root:
        found.problems.append(f"{name}: the first {point.size} leaves are not those that were signed")
    elif found.newest is None or point.size > found.newest.size:
        found.newest = point


def _rows(connection: sa.Connection, trail: _Trail, found: Found) -> None:
    """Compare rows with their commitments, and rows that are gone with the leaves that say why."""
    left = {ref for ref, (_, kind) in trail.last.items() if kind not in {entries.ERASE, entries.EXPIRE}}
    columns = [_row[name] for name in entries.COLUMNS]
    joined = schema.request_log.outerjoin(
        schema.audit_salt, sa.and_(_salt.trace_id == _row.trace_id, _salt.span_id == _row.span_id)
    )
    query = sa.select(*columns, _salt.ref, _salt.salt, _salt.leaf).select_from(joined).order_by(_row.ts, _row.id)
    for row in connection.execute(query.execution_options(yield_per=_CHUNK)).mappings():
        found.rows += 1
        if row["ref"] is None:
            found.problems.append(f"row {row['id']} has no leaf: put in by hand, or while the trail was off")
            continue
        ref, leaf = bytes(row["ref"]), row["leaf"]
        left.discard(ref)
        if trail.last.get(ref, (-1, b""))[0] != leaf:
            found.problems.append(f"row {row['id']}: leaf {leaf} is not the last that the log has of it")
        elif trail.commitments.get(leaf) != entries.commitment(bytes(row["salt"]), row):  # type: ignore[arg-type]
            found.problems.append(f"row {row['id']} is not what leaf {leaf} commits to: it was changed")
    for ref in sorted(left, key=lambda each: trail.last[each][0]):
        number, _ = trail.last[ref]
        found.problems.append(f"the row of leaf {number} is gone, and no leaf says why: it was deleted by hand")
