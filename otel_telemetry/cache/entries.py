"""A stored value as bytes, with what it cost to make and a checksum that ties it to its key.

    otc1 <CRC-32 of the key and the rest, 4 bytes, big-endian> {"t":stored,"x":expires,"ms":took,"usd":cost,"v":value}

Times are seconds since 1970. The checksum (ISO 3309) finds what was cut off, changed or written by others, and the
answer to another key, which a connection gives that got out of step with its requests.
"""

import json
import struct
import zlib
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

_MAGIC: Final = b"otc1"
_read: Final = json.JSONDecoder().raw_decode
_HEAD: Final = struct.Struct(">4sI")


class Corrupt(Exception):
    """Stored bytes that are no entry of that key."""


class Entry(NamedTuple):
    """A value that was found. Times are seconds since 1970; what it took and cost to make is None where unknown."""

    value: Any
    stored_at: float
    expires_at: float
    took_ms: float | None = None
    cost_usd: Decimal | None = None


def is_ours(data: bytes | None) -> bool:
    """Return whether stored bytes are meant to be an entry."""
    return data is not None and data.startswith(_MAGIC)


def plain(data: bytes, seconds: float, now: float) -> Entry | None:
    """Return a value that is no more than JSON, as the older service left it, with so many seconds to live; or None."""
    try:
        return Entry(json.loads(data), now, now + seconds)
    except (ValueError, RecursionError):
        return None


def dump(value: Any) -> bytes | None:
    """Return a value as JSON, or None where reading that would not give the same value again."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        # 1 == 1.0 == True, but those JSON does tell apart; a tuple or a key that is no text does not come back equal.
        return text.encode("utf-8", "surrogatepass") if json.loads(text) == value else None
    except (TypeError, ValueError, RecursionError, OverflowError):
        return None


def load(text: bytes) -> Any:
    """Return the value of what `dump` gave."""
    return json.loads(text)


def pack(
    key: str, text: bytes, stored: float, *, expires: float, took_ms: float | None = None, usd: Decimal | None = None
) -> bytes:
    """Return the bytes to be stored for a value that is JSON already."""
    took = "null" if took_ms is None else f"{took_ms:.3f}"
    cost = "null" if usd is None else f'"{usd}"'
    head = f'{{"t":{stored:.3f},"x":{expires:.3f},"ms":{took},"usd":{cost},"v":'
    body = head.encode() + text + b"}"
    return _HEAD.pack(_MAGIC, _sum(key, body)) + body


def unpack(key: str, data: bytes) -> Entry:
    """Return the entry that is stored, or raise Corrupt."""
    body = memoryview(data)[_HEAD.size :]
    if len(data) < _HEAD.size or _HEAD.unpack_from(data) != (_MAGIC, _sum(key, body)):
        raise Corrupt
    try:
        text = str(body, "utf-8", "surrogatepass")
        found, end = _read(text)  # what `loads` does but for spaces around, of which there are none
        if end != len(text):
            raise Corrupt
        usd = found["usd"]
        return Entry(found["v"], found["t"], found["x"], found["ms"], None if usd is None else Decimal(usd))
    except (ValueError, RecursionError, KeyError, TypeError, InvalidOperation) as error:
        raise Corrupt from error


def _sum(key: str, body: bytes | memoryview) -> int:
    return zlib.crc32(body, zlib.crc32(key.encode("utf-8", "surrogatepass")))
