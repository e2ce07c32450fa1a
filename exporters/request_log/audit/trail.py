"""The trail in a database: leaves are appended in the transaction of the rows that they commit to.

A database has a trail if `start` made one. Code that changes requests then names them (`follow`), last in the
transaction, so that writers on PostgreSQL wait for each other no longer than a commit takes.

    audit_log          one row: name, public key, number of leaves
    audit_entry        the leaves, those of a transaction in one row
    audit_tile         the hashes of the tree, 256 in a row at most
    audit_salt         of each request its salt, its ref and its last leaf; deleted with the row
    audit_checkpoint   every checkpoint that was signed
"""

import getpass
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.audit import entries, merkle
from otel_telemetry.exporters.request_log.audit.notes import Checkpoint, Signer
from otel_telemetry.exporters.request_log.audit.tiles import Read, Tiles
from otel_telemetry.exporters.request_log.db import bulk, schema

Key = tuple[str, str]
_LOCK: Final = 0x6F746C_61756474
_CHUNK: Final = 400
_SPAN: Final = ("trace_id", "span_id")
_log, _salt, _row = schema.audit_log.c, schema.audit_salt.c, schema.request_log.c


def exists(connection: sa.Connection) -> bool:
    """Return whether this database has a trail."""
    return connection.execute(sa.select(_log.id)).first() is not None


def start(connection: sa.Connection, signer: Signer) -> None:
    """Begin a trail, where there is none."""
    if not exists(connection):
        values = {"id": 1, "origin": signer.name, "public_key": signer.public, "size": 0, "ts": datetime.now(UTC)}
        connection.execute(sa.insert(schema.audit_log).values(values))


def follow(connection: sa.Connection, spans: Iterable[Key], *, gone: bytes = entries.ERASE) -> int:
    """Append leaves for the requests with these spans; `gone` is the reason why missing ones were deleted."""
    keys = sorted(set(spans))
    if not keys:
        return 0
    _lock(connection)
    now = time.time_ns() // 1_000
    leaves: list[bytes] = []
    salts: list[tuple[Any, ...]] = []
    size = _size(connection)
    lost: list[Key] = []
    for chunk in _chunks(keys):
        rows = {(row["trace_id"], row["span_id"]): row for row in _rows(connection, chunk)}
        before = dict(_refs(connection, chunk))
        for key in chunk:
            ref = before.get(key)
            if key in rows:
                salt = secrets.token_bytes(32)
                kind = entries.INSERT if ref is None else entries.CHANGE
                ref = ref or secrets.token_bytes(16)
                salts.append((*key, ref, salt, size + len(leaves)))
                leaves.append(entries.of_row(kind, now, ref, entries.commitment(salt, rows[key])))
            elif ref is not None:
                leaves.append(entries.of_row(gone, now, ref))
                lost.append(key)
    _forget(connection, [*lost, *(row[:2] for row in salts)])
    if salts:
        names = ("trace_id", "span_id", "ref", "salt", "leaf")
        connection.execute(sa.insert(schema.audit_salt), [dict(zip(names, row, strict=True)) for row in salts])
    _append(connection, size, leaves)
    return len(leaves)


def act(connection: sa.Connection, what: str, details: Mapping[str, Any]) -> None:
    """Append an operator's act, where there is a trail: what was done, by which user of the machine, and how much."""
    if not exists(connection):
        return
    _lock(connection)
    entry = entries.of_act(time.time_ns() // 1_000, {"act": what, "by": _user(), **details})
    _append(connection, _size(connection), [entry])


def sign(connection: sa.Connection, signer: Signer) -> str | None:
    """Sign how the trail is now; None where that is signed already."""
    _lock(connection)
    size = _size(connection)
    table = schema.audit_checkpoint
    if connection.execute(sa.select(table.c.size).where(table.c.size == size)).first():
        return None
    note = signer.sign(Checkpoint(signer.name, size, merkle.root(tiles(connection).node, size)).text())
    connection.execute(sa.insert(table).values(size=size, ts=datetime.now(UTC), note=note))
    return note


def tiles(connection: sa.Connection) -> Tiles:
    """Return the tree, for reading some of it."""
    return Tiles(stored(connection))


def stored(connection: sa.Connection) -> Read:
    """Return what reads a tile by its level and number."""
    table = schema.audit_tile

    def read(level: int, number: int) -> bytes:
        query = sa.select(table.c.hashes).where(table.c.level == level, table.c.number == number)
        return bytes(connection.execute(query).scalar() or b"")

    return read


def _lock(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":  # on SQLite a transaction that writes is alone
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


def _size(connection: sa.Connection) -> int:
    return int(connection.execute(sa.select(_log.size)).scalar_one())


def _append(connection: sa.Connection, size: int, leaves: Sequence[bytes]) -> None:
    if not leaves:
        return
    tree = tiles(connection)
    tree.append(size, [merkle.leaf_hash(leaf) for leaf in leaves])
    body = {"first": size, "count": len(leaves), "body": entries.bundle(list(leaves))}
    connection.execute(sa.insert(schema.audit_entry).values(body))
    table = schema.audit_tile
    for (level, number), hashes in tree.changed.items():
        where = table.c.level == level, table.c.number == number
        if not connection.execute(sa.update(table).where(*where).values(hashes=hashes)).rowcount:
            connection.execute(sa.insert(table).values(level=level, number=number, hashes=hashes))
    connection.execute(sa.update(schema.audit_log).values(size=size + len(leaves)))


def _rows(connection: sa.Connection, chunk: Sequence[Key]) -> Iterator[Mapping[str, Any]]:
    by_trace = _row.trace_id.in_({trace for trace, _ in chunk})
    query = sa.select(*(_row[name] for name in entries.COLUMNS)).where(by_trace)
    yield from connection.execute(query).mappings()  # type: ignore[misc]


def _refs(connection: sa.Connection, chunk: Sequence[Key]) -> Iterator[tuple[Key, bytes]]:
    by_trace = _salt.trace_id.in_({trace for trace, _ in chunk})
    for trace, span, ref in connection.execute(sa.select(_salt.trace_id, _salt.span_id, _salt.ref).where(by_trace)):
        yield (trace, span), bytes(ref)


def _forget(connection: sa.Connection, keys: Sequence[Key]) -> None:
    bulk.bulk(connection).delete(schema.audit_salt, _SPAN, keys)


def _chunks(keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
    for start_at in range(0, len(keys), _CHUNK):
        yield keys[start_at : start_at + _CHUNK]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return "?"
