"""Proofs that a leaf is in the log, and the log as static files that any verifier of tlog-tiles reads."""

import base64
import os
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.exporters.request_log.audit import check, entries, merkle, trail
from otel_telemetry.exporters.request_log.audit.notes import opened
from otel_telemetry.exporters.request_log.audit.tiles import WIDTH, path, widths
from otel_telemetry.exporters.request_log.db import schema

_HASH: Final = 32
_log, _salt, _point, _entry = (
    schema.audit_log.c,
    schema.audit_salt.c,
    schema.audit_checkpoint.c,
    schema.audit_entry.c,
)


def leaves_of_row(connection: sa.Connection, row_id: str) -> list[int]:
    """Return the leaves of a request's row, oldest first; none where there is no such row, or none of it."""
    row = schema.request_log.c
    joined = sa.and_(_salt.trace_id == row.trace_id, _salt.span_id == row.span_id)
    ref = connection.execute(
        sa.select(_salt.ref).select_from(schema.request_log.join(schema.audit_salt, joined)).where(row.id == row_id)
    ).scalar()
    return [] if ref is None else leaves_of_ref(connection, bytes(ref))


def leaves_of_ref(connection: sa.Connection, ref: bytes) -> list[int]:
    """Return the leaves of a row that may be erased: by the ref that an earlier proof of it shows."""
    found = []
    query = sa.select(_entry.first, _entry.body).order_by(_entry.first)
    for first, body in connection.execute(query.execution_options(yield_per=100)):
        if ref in bytes(body):
            for number, leaf in enumerate(entries.unbundled(bytes(body)), first):
                entry = entries.read(leaf)
                if entry.ref == ref:
                    found.append(number)
    return found


def prove(connection: sa.Connection, index: int) -> dict[str, Any]:
    """Return a leaf, its contents, its proof and the checkpoint that covers it; raises ConfigurationError."""
    query = sa.select(_point.note).where(_point.size > index).order_by(_point.size).limit(1)
    note = connection.execute(query).scalar()
    if note is None:
        hint = "otel-telemetry audit checkpoint signs it"
        raise ConfigurationError("audit prove", f"leaf {index} is in no checkpoint yet", hint)
    public = connection.execute(sa.select(_log.public_key)).scalar_one()
    point = opened(note, public)
    leaf = _leaf(connection, index)
    proof = merkle.inclusion(trail.tiles(connection).node, index, point.size)
    if not merkle.includes(merkle.leaf_hash(leaf), index, point.size, proof, point.root):
        raise ConfigurationError(
            "audit prove", f"leaf {index} does not fit its checkpoint", "otel-telemetry audit verify"
        )
    entry = entries.read(leaf)
    return {
        "leaf": index,
        "what": entries.KINDS[entry.kind],
        "time": entry.time.isoformat(),
        "ref": entry.ref.hex() or None,
        "act": entry.details or None,
        "entry": base64.b64encode(leaf).decode(),
        "proof": [base64.b64encode(each).decode() for each in proof],
        "checkpoint": note,
        "public_key": public,
    }


def _leaf(connection: sa.Connection, index: int) -> bytes:
    query = sa.select(_entry.first, _entry.body).where(_entry.first <= index).order_by(_entry.first.desc()).limit(1)
    row = connection.execute(query).first()
    leaves = entries.unbundled(bytes(row[1])) if row is not None else []
    if row is None or index - row[0] >= len(leaves):
        raise ConfigurationError("audit prove", f"there is no leaf {index}", "otel-telemetry audit verify says more")
    found: bytes = leaves[index - row[0]]
    return found


def export(connection: sa.Connection, folder: Path) -> int:
    """Write the newest signed state as files; return its size. Files that are there already stay."""
    note = connection.execute(sa.select(_point.note).order_by(_point.size.desc()).limit(1)).scalar()
    if note is None:
        raise ConfigurationError("--export", "nothing is signed yet", "write something first")
    size = opened(note, connection.execute(sa.select(_log.public_key)).scalar_one()).size
    read = trail.stored(connection)
    for level, number, width in widths(size):
        _put(folder / path(level, number, width), read(level, number)[: width * _HASH])
    pending: list[bytes] = []
    number = 0
    for _, _, body in check.entries_of(connection):
        pending += entries.unbundled(body)
        while len(pending) >= WIDTH and (number + 1) * WIDTH <= size:
            _put(folder / path("entries", number), entries.bundle(pending[:WIDTH]))
            pending, number = pending[WIDTH:], number + 1
    rest = size - number * WIDTH
    if rest:
        _put(folder / path("entries", number, rest), entries.bundle(pending[:rest]))
    _put(folder / "checkpoint", note.encode(), again=True)
    return size


def _put(file: Path, data: bytes, *, again: bool = False) -> None:
    if file.exists() and not again:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.{os.getpid()}")
    with new.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    new.replace(file)
