"""What is to be stored, each beside what it was made of, and what nothing can be made of.

All of a batch goes through one step before the next one begins: so the caches of the processor hold the code of that
step. It takes a fifth less time for a model call than all steps for each call in turn. If anything goes wrong, each
item is made by itself, so that the one at fault is found.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Built = TypeVar("Built")
#: Returns what items become, in their order.
Build = Callable[[Sequence[Item]], list[Built]]


def build_all(
    items: Sequence[Item], build: Build[Item, Built]
) -> tuple[list[tuple[Built, Item]], list[tuple[Item, str]]]:
    """Return what items become, and those that become nothing, each with the reason."""
    try:
        return list(zip(build(items), items, strict=True)), []
    except Exception:  # noqa: BLE001  # of one of them: it is found below
        return _one_by_one(items, build)


def _one_by_one(
    items: Sequence[Item], build: Build[Item, Built]
) -> tuple[list[tuple[Built, Item]], list[tuple[Item, str]]]:
    built: list[tuple[Built, Item]] = []
    dead: list[tuple[Item, str]] = []
    for item in items:
        try:
            built += zip(build([item]), (item,), strict=True)
        except Exception as error:  # noqa: BLE001  # whatever one item holds, the others go on
            dead.append((item, f"{type(error).__name__}: {error}"))
    return built, dead
