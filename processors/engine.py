"""Locators: they find where any of many fixed-length triggers ends in a block of bytes, and decide nothing.

Two engines give the same places, in the same order: `hyperscan` walks all triggers in one pass, `re` is its twin for
platforms without a wheel. Which one runs is a setting; nothing outside this module knows the difference.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Final, Protocol

from otel_telemetry.errors import ConfigurationError
from otel_telemetry.processors.patterns import literals

#: One place: (end offset exclusive, number of the trigger).
Hit = tuple[int, int]
CASELESS: Final = "(?i)"


class Locator(Protocol):
    """Finds triggers in bytes. Safe to share between threads and across fork."""

    name: str

    def scan(self, data: bytes, limit: int) -> list[Hit]:
        """Return at most about `limit` places, sorted; one more than `limit` tells that there were too many."""


@lru_cache(maxsize=4)
def make_locator(name: str, triggers: tuple[str, ...]) -> Locator:
    """Compile `triggers` (bytes-wise regular expressions of fixed length; `(?i)` in front: any case) for an engine.

    `auto` takes hyperscan where it can be imported. Equal triggers share one locator: compiling takes a good while.
    """
    if name in ("auto", "hyperscan"):
        try:
            from otel_telemetry.processors.engine_hyperscan import HyperscanLocator  # noqa: PLC0415  # native: on demand
        except ImportError as error:
            if name == "hyperscan":
                raise ConfigurationError(
                    "redaction.engine",
                    f"hyperscan cannot be imported: {error}",
                    "pip install hyperscan, or set it to re",
                ) from None
        else:
            return HyperscanLocator(triggers)
    return ReLocator(triggers)


class ReLocator:
    """The locator on Python's own `re`, one trigger after the other, each only where one of its literals is there.

    Overlapping places count too, as in Hyperscan: a look-ahead visits every start.
    """

    name = "re"

    def __init__(self, triggers: Sequence[str]) -> None:
        self._triggers = tuple(triggers)
        self._pairs: list[tuple[re.Pattern[bytes], re.Pattern[bytes]] | None] = [None] * len(triggers)
        self._always: list[int] = []
        self._cased: dict[bytes, list[int]] = {}
        self._caseless: dict[bytes, list[int]] = {}
        for number, trigger in enumerate(triggers):
            caseless = trigger.startswith(CASELESS)
            index = self._caseless if caseless else self._cased
            texts = literals(trigger.removeprefix(CASELESS))
            if not texts:
                self._always.append(number)
            for text in texts:
                index.setdefault((text.lower() if caseless else text).encode("latin-1"), []).append(number)

    def scan(self, data: bytes, limit: int) -> list[Hit]:
        """See Locator."""
        numbers = set(self._always)
        for index, block in ((self._cased, data), (self._caseless, data.lower())):
            for literal, having in index.items():
                if literal in block:
                    numbers.update(having)
        hits: list[Hit] = []
        for number in numbers:
            plain, everywhere = self._compiled(number)
            first = plain.search(data)
            if first is not None:
                found = ((match.end(1), number) for match in everywhere.finditer(data, first.start()))
                hits += islice(found, limit + 1)
        hits.sort()
        return hits[: limit + 1]

    def _compiled(self, number: int) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
        """Return the pattern of a trigger as it is, which `re` is quick to search, and as a look-ahead."""
        pair = self._pairs[number]
        if pair is None:
            trigger = self._triggers[number]
            flags = re.DOTALL | (re.IGNORECASE if trigger.startswith(CASELESS) else 0)
            body = trigger.removeprefix(CASELESS).encode("latin-1")
            pair = self._pairs[number] = re.compile(body, flags), re.compile(b"(?=(" + body + b"))", flags)
        return pair
