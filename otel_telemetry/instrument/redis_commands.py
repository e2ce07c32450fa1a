"""Cache results from the answers to Redis read commands: hits, misses, families, bytes. Keys are never stored.

Answers are as redis-py parses them: None, text or bytes, lists, maps, integers, and the results of a JSON decoder.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from otel_telemetry.instrument.families import Families

_MAX_NODES: Final = 10_000  # of a JSON document whose size is measured

Args = Sequence[Any]


class Lookup(NamedTuple):
    """One command's outcome. `family` is that of its first key for a command that has one; `size` in bytes."""

    command: str
    found: Mapping[str, tuple[int, int, int]]  # family -> hits, misses, bytes


def command_of(args: Args) -> str:
    """Return the command that is observed, in capitals, or ""."""
    name = args[0] if args else ""
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    if name in _READERS:
        return str(name)
    upper = name.upper() if isinstance(name, str) and len(name) < len("JSON.GET") + 1 else ""
    return upper if upper in _READERS else ""


def lookup(command: str, args: Args, answer: Any, families: Families) -> Lookup | None:
    """Return the result of a look-up from an answer, or None if it has none: an error, or an unknown shape."""
    if isinstance(answer, BaseException) or len(args) < 2:  # noqa: PLR2004 - a command and its key
        return None
    found = _READERS[command](args, answer, families)
    return None if found is None else Lookup(command, found)


_Found = Mapping[str, tuple[int, int, int]] | None


def _one(args: Args, answer: Any, families: Families) -> _Found:
    return {families.of(args[1]): (0, 1, 0) if answer is None else (1, 0, _size(answer))}


def _json(args: Args, answer: Any, families: Families) -> _Found:
    by_path = any(str(path).startswith("$") for path in args[2:])
    missing = answer is None or (by_path and answer == [])  # a path that leads nowhere
    return {families.of(args[1]): (0, 1, 0) if missing else (1, 0, _json_size(answer))}


def _mget(args: Args, answer: Any, families: Families) -> _Found:
    keys = args[1:]
    if not isinstance(answer, list) or len(answer) != len(keys):
        return None
    found: dict[str, tuple[int, int, int]] = {}
    for key, value in zip(keys, answer, strict=True):
        family = families.of(key)
        hits, misses, size = found.get(family, (0, 0, 0))
        if value is None:
            found[family] = (hits, misses + 1, size)
        else:
            found[family] = (hits + 1, misses, size + _size(value))
    return found


def _hmget(args: Args, answer: Any, families: Families) -> _Found:
    if not isinstance(answer, list):
        return None
    misses = answer.count(None)
    return {families.of(args[1]): (len(answer) - misses, misses, sum(map(_size, answer)))}


def _hgetall(args: Args, answer: Any, families: Families) -> _Found:
    if not isinstance(answer, Mapping | list):
        return None
    if isinstance(answer, Mapping):
        size = sum(map(_size, answer)) + sum(map(_size, answer.values()))
    else:
        size = sum(map(_size, answer))
    return {families.of(args[1]): (1, 0, size) if answer else (0, 1, 0)}


def _exists(args: Args, answer: Any, families: Families) -> _Found:
    keys = args[1:]
    if not isinstance(answer, int) or not 0 <= answer <= len(keys):
        return None
    names = {families.of(key) for key in keys}
    family = names.pop() if len(names) == 1 else "mixed"  # the answer does not say which of them are there
    return {family: (answer, len(keys) - answer, 0)}


def _size(value: Any) -> int:
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    return 0 if value is None else len(str(value)) if isinstance(value, int | float) else 0


def _json_size(value: Any) -> int:
    """Return about the bytes of a document that was decoded: texts, numbers, and the signs around them."""
    size, waiting, seen = 0, [value], 0
    while waiting and seen < _MAX_NODES:
        item = waiting.pop()
        seen += 1
        if isinstance(item, Mapping):
            size += 2 + sum(_size(name) + 4 for name in item)
            waiting.extend(item.values())
        elif isinstance(item, list):
            size += 2 + len(item)
            waiting.extend(item)
        else:
            size += _size(item) + 2 * isinstance(item, str)
    return size


_READERS: Final[Mapping[str, Callable[[Args, Any, Families], _Found]]] = {
    "GET": _one,
    "GETEX": _one,
    "HGET": _one,
    "JSON.GET": _json,
    "MGET": _mget,
    "HMGET": _hmget,
    "HGETALL": _hgetall,
    "EXISTS": _exists,
}
