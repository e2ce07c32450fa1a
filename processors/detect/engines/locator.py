"""Locators: they find where any of many fixed-length triggers ends in a block of bytes, and decide nothing.

Three engines return the same positions, in the same order: `hyperscan` finds all triggers in one pass; `re2` does so
too where Hyperscan has no wheel; `re`, which is always available, is the slow last resort. A setting chooses; code
outside this module does not depend on the choice.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Final, Protocol

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.processors.detect.engines.patterns import literals

#: One place: (end offset exclusive, number of the trigger).
Hit = tuple[int, int]
CASELESS: Final = "(?i)"


class Locator(Protocol):
    """Finds triggers in bytes. Safe to share between threads and across fork."""

    name: str

    def scan(self, data: bytes, limit: int) -> list[Hit]:
        """Return sorted positions, at most about `limit`; more than `limit` of them means that there were too many."""


@lru_cache(maxsize=4)
def make_locator(name: str, triggers: tuple[str, ...]) -> Locator:
    """Compile `triggers` (bytes-wise regular expressions of fixed length; `(?i)` in front: any case) for an engine.

    `auto` takes the first of them that can be imported. Equal triggers share one locator: compiling takes a good while.
    """
    for engine, package, make in _ENGINES:
        if name in ("auto", engine):
            try:
                return make(triggers)
            except ImportError as error:
                if name == engine:
                    raise ConfigurationError(
                        "redaction.engine",
                        f"{engine} cannot be imported: {error}",
                        f"pip install {package}, or set it to re",
                    ) from None
    return ReLocator(triggers)


def _hyperscan(triggers: Sequence[str]) -> Locator:
    from otel_telemetry.processors.detect.engines.hyperscan import HyperscanLocator  # noqa: PLC0415  # native: on demand

    return HyperscanLocator(triggers)


def _re2(triggers: Sequence[str]) -> Locator:
    from otel_telemetry.processors.detect.engines.re2 import Re2Locator  # noqa: PLC0415  # the same

    return Re2Locator(triggers)


_ENGINES: Final[tuple[tuple[str, str, Callable[[Sequence[str]], Locator]], ...]] = (
    ("hyperscan", "hyperscan", _hyperscan),
    ("re2", "google-re2", _re2),
)


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
                literal = text.encode("latin-1")
                index.setdefault(literal.lower() if caseless else literal, []).append(number)

    def scan(self, data: bytes, limit: int) -> list[Hit]:
        """See Locator."""
        numbers = set(self._always)
        for index, block in ((self._cased, data), (self._caseless, data.lower())):
            for literal, having in index.items():
                if literal in block:
                    numbers.update(having)
        hits: list[Hit] = []
        for number in numbers:
            hits += islice(self.places(data, number), limit + 1)
        hits.sort()
        return hits[: limit + 1]

    def places(self, data: bytes, number: int) -> Iterator[Hit]:
        """Yield every place of one trigger."""
        plain, everywhere = self._compiled(number)
        first = plain.search(data)
        if first is not None:
            for match in everywhere.finditer(data, first.start()):
                yield match.end(1), number

    def is_place(self, data: bytes, number: int) -> bool:
        """Return whether bytes are a place of one trigger, all of them."""
        return self._compiled(number)[0].fullmatch(data) is not None

    def _compiled(self, number: int) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
        """Return the pattern of a trigger as it is, which `re` is quick to search, and as a look-ahead."""
        pair = self._pairs[number]
        if pair is None:
            trigger = self._triggers[number]
            flags = re.DOTALL | (re.IGNORECASE if trigger.startswith(CASELESS) else 0)
            body = trigger.removeprefix(CASELESS).encode("latin-1")
            pair = self._pairs[number] = re.compile(body, flags), re.compile(b"(?=(" + body + b"))", flags)
        return pair
