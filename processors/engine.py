"""Locators: they find where any of many fixed-length triggers ends in a block of bytes, and decide nothing.

Two engines give the same places, in the same order: `hyperscan` walks all triggers in one pass, `re` is its twin for
platforms without a wheel. Which one runs is a setting; nothing outside this module knows the difference.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Protocol

from otel_telemetry.errors import ConfigurationError
from otel_telemetry.processors.patterns import longest_literal

#: One place: (end offset exclusive, number of the trigger).
Hit = tuple[int, int]
CASELESS: Final = "(?i)"


class Locator(Protocol):
    """Finds triggers in bytes. Safe to share between threads and across fork."""

    name: str

    def scan(self, data: bytes, limit: int) -> list[Hit]:
        """Return at most about `limit` places, sorted; one more than `limit` tells that there were too many."""

    def ends(self, data: bytes, limit: int) -> list[int]:
        """Return the end offsets alone, ascending, each once."""


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
    """The locator on Python's own `re`, one trigger after the other, each behind a search for its literal.

    Overlapping places count too, as in Hyperscan: a look-ahead visits every start.
    """

    name = "re"

    def __init__(self, triggers: Sequence[str]) -> None:
        self._cased: list[tuple[int, bytes, re.Pattern[bytes]]] = []
        self._caseless: list[tuple[int, bytes, re.Pattern[bytes]]] = []
        for number, trigger in enumerate(triggers):
            caseless = trigger.startswith(CASELESS)
            body = trigger.removeprefix(CASELESS)
            pattern = re.compile(f"(?=({body}))".encode("latin-1"), re.DOTALL | (re.IGNORECASE if caseless else 0))
            literal = longest_literal(body)
            if caseless:
                self._caseless.append((number, literal.lower(), pattern))
            else:
                self._cased.append((number, literal, pattern))

    def scan(self, data: bytes, limit: int) -> list[Hit]:
        """See Locator."""
        hits: list[Hit] = []
        lowered = data.lower()
        for entries, block in ((self._cased, data), (self._caseless, lowered)):
            for number, literal, pattern in entries:
                if literal and literal not in block:
                    continue
                for match in pattern.finditer(data):
                    hits.append((match.end(1), number))
                    if len(hits) > limit * 8:
                        break
        hits.sort()
        return hits[: limit + 1]

    def ends(self, data: bytes, limit: int) -> list[int]:
        """See Locator."""
        return sorted({end for end, _ in self.scan(data, limit)})
