"""Cache keys: a readable form for people, and a digest that differs for any two calls.

    tool:{tool}:{name}:{value}:...:{digest}

Readable form: names sorted; floats at two decimals; texts lower-cased, every character outside a-z0-9 replaced by `_`,
cut at 50 characters. It is made from the redacted arguments, so a key contains nothing personal. As a whole it is cut
at 500 characters.

Digest: BLAKE2b (RFC 7693) of the tool and the arguments in full, before redaction, in an encoding that is different for
any two different calls: each value is written with its type and its length. If a secret is given, the digest is keyed
with it: otherwise a person's number could be found by trying all of them.

Arguments may be None, bool, int, float, str, bytes, date and time, Decimal, UUID, an enumeration's member, and lists,
tuples, sets and dicts of those. For anything else equality is not defined: Unkeyable.
"""

import datetime as dt
import hashlib
import re
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

TEXT_LIMIT: Final = 50
READABLE_LIMIT: Final = 500
MAX_DEPTH: Final = 64
_DIGEST_SIZE: Final = 20
_KNOWN_NAMES: Final = 1_000
_REMEMBERED: Final = 4_096
_LOOKED_AT: Final = 1_024  # characters of a text whose beginning is shown: enough for what begins there to be known
_WORD: Final = "word"
_NUMBERS: Final = (int, float, bool, type(None))
_OUTSIDE: Final = re.compile(r"[^a-z0-9]")
_ASCII: Final = "".join(c.lower() if c.isascii() and c.isalnum() else "_" for c in map(chr, range(128)))
_ZONES: Final = (type(None), dt.timezone, zoneinfo.ZoneInfo)


class Unkeyable(Exception):
    """An argument that cannot be part of a key, because its type does not define when two values are equal.

    `kind` is the name of that type.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(kind)


def cache_key(
    tool: str,
    arguments: Mapping[str, Any],
    *,
    redact: Callable[[Any], Any] | None = None,
    secret: bytes | None = None,
) -> str:
    """Return the key of a call. Raises Unkeyable."""
    return KeyMaker(redact, secret).key(tool, arguments)


class KeyMaker:
    """Makes keys. What it learns of the names of parameters it keeps: they are few, and the same in each call."""

    def __init__(self, redact: Callable[[Any], Any] | None = None, secret: bytes | None = None) -> None:
        self._redact = redact
        self._secret = hashlib.sha256(secret).digest() if secret else b""
        self._names: dict[str, tuple[str, bool]] = {}
        self._made: dict[str, str] = {}  # by digest: keys that are asked for again need not be written again

    def key(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Return the key of a call. Raises Unkeyable."""
        names = sorted(arguments)
        whole = [_canonical(tool, 0)]
        for name in names:
            whole += (_canonical(name, 0), _canonical(arguments[name], 0))
        digest = hashlib.blake2b(b"".join(whole), digest_size=_DIGEST_SIZE, key=self._secret).hexdigest()
        key = self._made.get(digest)
        if key is None:
            if len(self._made) >= _REMEMBERED:
                self._made.clear()
            key = self._made[digest] = f"{self._readable(tool, names, arguments)}:{digest}"
        return key

    def _readable(self, tool: str, names: Sequence[str], arguments: Mapping[str, Any]) -> str:
        parts = ["tool", _text(tool)]
        for name in names:
            shown, plain = self._names.get(name) or self._learn(name)
            parts += (shown, self._shown(name, arguments[name], plain))
        return ":".join(parts)[:READABLE_LIMIT]

    def _learn(self, name: str) -> tuple[str, bool]:
        """Return how a name is shown, and whether it is neutral: not `ssn`, not `user_id`."""
        known = (_text(name), True)
        if self._redact is not None:
            clean = self._redact({name: _WORD})
            known = (_text(next(iter(clean), "")), clean == {name: _WORD})
        if len(self._names) < _KNOWN_NAMES:
            self._names[name] = known
        return known

    def _shown(self, name: str, value: Any, plain: bool) -> str:
        kind = type(value)
        if self._redact is not None:
            if not plain:
                value = next(iter(self._redact({name: value}).values()), "")
            elif kind is str:
                value = self._redact(value[:_LOOKED_AT])
            elif kind not in _NUMBERS:
                value = self._redact(value)
            kind = type(value)
        if kind is str:
            return _text(value)
        if kind is float:
            return f"{value:.2f}"
        if kind is int:
            return str(value) if abs(value) < 10**TEXT_LIMIT else "int"
        return _text(_plain(value))


def _text(text: str) -> str:
    # Cut before and after: lower-casing may make a text longer, and a prompt may be long.
    head = text[:TEXT_LIMIT]
    return head.translate(_ASCII) if head.isascii() else _OUTSIDE.sub("_", head.lower())[:TEXT_LIMIT]


def _plain(value: Any) -> str:
    """Return about what `str` does, in one order: that of a set differs from process to process."""
    if isinstance(value, dict):
        return "{" + ", ".join(sorted(f"{_plain(name)}: {_plain(item)}" for name, item in value.items())) + "}"
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(_plain, value))) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_plain, value)) + "]"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:x}" if abs(value) >= 10**TEXT_LIMIT else str(value)  # Python limits decimal digits
    return repr(value) if isinstance(value, str) else str(value)


def _canonical(value: Any, depth: int) -> bytes:
    """Return bytes that are different for any two values that differ in type or content.

    They are self-delimiting, so different sequences of them differ too.
    """
    kind = type(value)
    if kind is str:
        data = value.encode("utf-8", "surrogatepass")
        return b"s%d:%b" % (len(data), data)
    if depth > MAX_DEPTH:
        raise Unkeyable("nested too deep")
    write = _WRITERS.get(kind)
    if write is not None:
        return write(value, depth)
    if isinstance(value, Enum):
        return _framed(b"e", [f"{kind.__module__}.{kind.__qualname__}.{value.name}".encode()])
    raise Unkeyable(kind.__qualname__)


def _framed(tag: bytes, parts: list[bytes]) -> bytes:
    """Join parts with their lengths, so that different parts give different bytes."""
    return tag + b"%d:" % len(parts) + b"".join(b"%d:%b" % (len(part), part) for part in parts)


def _atom(tag: bytes) -> Callable[[Any, int], bytes]:
    return lambda value, _: b"%b%b;" % (tag, repr(value).encode())  # no number's repr holds a semicolon


def _int(value: int, _: int) -> bytes:
    return b"i%x;" % value if value >= 0 else b"j%x;" % -value


def _items(tag: bytes) -> Callable[[Any, int], bytes]:
    return lambda value, depth: _framed(tag, [_canonical(item, depth + 1) for item in value])


def _set(value: Any, depth: int) -> bytes:
    return _framed(b"S", sorted(_canonical(item, depth + 1) for item in value))


def _dict(value: dict[Any, Any], depth: int) -> bytes:
    pairs = sorted((_canonical(name, depth + 1), _canonical(item, depth + 1)) for name, item in value.items())
    return _framed(b"D", [part for pair in pairs for part in pair])


def _moment(value: Any, _: int) -> bytes:
    zone = getattr(value, "tzinfo", None)
    if type(zone) not in _ZONES:
        raise Unkeyable(type(zone).__qualname__)
    return _framed(b"T", [type(value).__name__.encode(), repr(value).encode()])


_WRITERS: Final[Mapping[type, Callable[[Any, int], bytes]]] = {
    type(None): lambda _, __: b"n",
    bool: lambda value, _: b"b1" if value else b"b0",
    int: _int,
    float: _atom(b"f"),
    bytes: lambda value, _: _framed(b"B", [value]),
    Decimal: _atom(b"d"),
    UUID: _atom(b"u"),
    list: _items(b"L"),
    tuple: _items(b"t"),
    set: _set,
    frozenset: lambda value, depth: b"F" + _set(value, depth),
    dict: _dict,
    dt.datetime: _moment,
    dt.date: _moment,
    dt.time: _moment,
    dt.timedelta: _moment,
}
