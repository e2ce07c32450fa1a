"""Walks through an object and the objects that it contains, to find what foreign wrappers wrap."""

from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, Final

_MOST: Final = 20_000
"""How many objects are looked at at most."""


def fields(each: Any) -> Iterator[Any]:
    """Yield the values of an object's own attributes."""
    yield from getattr(each, "__dict__", {}).values()
    for slot in getattr(type(each), "__slots__", ()):
        if hasattr(each, slot):
            yield getattr(each, slot)


def fields_and_items(each: Any) -> Iterator[Any]:
    """Yield the values of an object's own attributes, or the items of a tuple or list."""
    yield from each if isinstance(each, tuple | list) else fields(each)


def within(start: Any, depth: int, held: Callable[[Any], Iterable[Any]] = fields) -> Iterator[Any]:
    """Yield an object, what it holds, what that holds, and so on, `depth` levels of them, each object once."""
    seen: set[int] = set()
    level = [start]
    for _ in range(depth):
        fresh = []
        for each in level:
            if id(each) not in seen and len(seen) < _MOST and not isinstance(each, type | ModuleType):
                seen.add(id(each))
                fresh.append(each)
        yield from fresh
        level = [inner for each in fresh for inner in held(each)]
