"""The format of a leaf, and of the commitment to a row.

0x01 kind time ref commitment   of a row: insert, change, erase (by a person's request), expire (by retention)
0x01 'a' time JSON              an act of an operator

Time is in microseconds since 1970, 8 bytes. `ref` is 16 random bytes that identify a row and reveal nothing about it.
The commitment is HMAC-SHA-256 over the row's canonical bytes, with 32 random bytes as the key. The key is deleted with
the row: without it nobody can test guesses of the row's content. Of an erased row the commitment is zeroes.
"""

import hmac
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import orjson

from otel_telemetry.exporters.request_log.db import column_types, schema

INSERT, CHANGE, ERASE, EXPIRE, ACT = b"i", b"c", b"e", b"x", b"a"
KINDS: Final = {INSERT: "insert", CHANGE: "change", ERASE: "erase", EXPIRE: "expire", ACT: "act"}
NOTHING: Final = bytes(32)
_VERSION: Final = b"\1"
_HEAD: Final = struct.Struct(">cc q")
_REF: Final = 16
_LONGEST: Final = 60_000
#: The columns that commitments cover. Ones that are added later come with a version of their own.
COLUMNS: Final = tuple(schema.request_log.c.keys())
_PICO: Final = Decimal(1).scaleb(-column_types.PICO)


@dataclass(frozen=True, slots=True)
class Entry:
    """A leaf, read."""

    kind: bytes
    time: datetime
    ref: bytes
    commitment: bytes
    details: dict[str, Any]


def of_row(kind: bytes, now_us: int, ref: bytes, commitment: bytes = NOTHING) -> bytes:
    """Return the leaf of a row."""
    return _HEAD.pack(_VERSION, kind, now_us) + ref + commitment


def of_act(now_us: int, details: Mapping[str, Any]) -> bytes:
    """Return the leaf of an act."""
    text = column_types.encode({str(name): value for name, value in details.items()}).encode()
    if len(text) > _LONGEST:
        text = column_types.encode({"act": details.get("act"), "by": details.get("by"), "cut": True}).encode()
    return _HEAD.pack(_VERSION, ACT, now_us) + text


def read(entry: bytes) -> Entry:
    """Return the contents of a leaf; raises ValueError if it is not one."""
    try:
        version, kind, time_us = _HEAD.unpack_from(entry)
    except struct.error as error:
        raise ValueError("a leaf is cut") from error
    rest = entry[_HEAD.size :]
    if version != _VERSION or kind not in KINDS or (kind != ACT and len(rest) != _REF + len(NOTHING)):
        raise ValueError("a leaf of an unknown form")
    at = datetime.fromtimestamp(time_us / 1e6, UTC)
    if kind == ACT:
        return Entry(kind, at, b"", b"", orjson.loads(rest))
    return Entry(kind, at, rest[:_REF], rest[_REF:], {})


def commitment(salt: bytes, row: Mapping[str, Any]) -> bytes:
    """Return the commitment to a row as the database gives it."""
    return hmac.digest(salt, canonical(row), "sha256")


def canonical(row: Mapping[str, Any]) -> bytes:
    """Return a row's bytes: each value by its type, so that NULL, empty, 1 and 1.0 all differ."""
    parts = [_VERSION]
    for name in COLUMNS:
        value = _bytes(row[name], is_json=isinstance(schema.request_log.c[name].type, column_types.Json))
        parts += (struct.pack(">I", len(value)), value)
    return b"".join(parts)


def _bytes(value: Any, *, is_json: bool) -> bytes:
    if value is None:
        return b"n"
    if is_json:
        return b"j" + column_types.encode(value).encode()
    if isinstance(value, bool):
        return b"t" if value else b"f"
    if isinstance(value, int):
        return b"i%d" % value
    if isinstance(value, float):
        return b"d" + value.hex().encode()
    if isinstance(value, Decimal):
        return b"m" + str(value.quantize(_PICO)).encode()
    if isinstance(value, datetime):
        return b"z%d" % round(value.timestamp() * 1e6)
    return b"s" + str(value).encode("utf-8", "surrogatepass")


def bundle(entries: list[bytes]) -> bytes:
    """Return entries one behind the other, each with its length before it (tlog-tiles)."""
    return b"".join(struct.pack(">H", len(entry)) + entry for entry in entries)


def unbundled(body: bytes) -> list[bytes]:
    """Return the entries of a bundle; raises ValueError where it is cut."""
    found, at = [], 0
    while at < len(body):
        (length,) = struct.unpack_from(">H", body, at) if at + 2 <= len(body) else (-1,)
        if length < 0 or at + 2 + length > len(body):
            raise ValueError("entries are cut")
        found.append(body[at + 2 : at + 2 + length])
        at += 2 + length
    return found
