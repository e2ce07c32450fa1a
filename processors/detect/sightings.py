"""What one scan saw in many strings that were joined to one block: which place is in which string."""

from collections.abc import Mapping, Sequence
from typing import Final

from otel_telemetry.processors.detect.engines.locator import Hit

_NO_HITS: Final[Sequence[Hit]] = ()


class Sightings:
    """What one scan saw in many strings. The string of a position is only computed on demand."""

    __slots__ = ("_data", "_hits", "_places", "_scanned", "_texts")

    def __init__(
        self,
        texts: Sequence[str],
        hits: Mapping[str, Sequence[Hit] | None] | None,
        places: Sequence[Hit] = (),
        data: bytes = b"",
    ) -> None:
        """`hits`, or all `places` in the `data` in which the strings stand, each with a separator behind it."""
        self._texts = texts
        self._hits = hits
        self._places = places
        self._data = data
        self._scanned: frozenset[str] | None = None

    @property
    def hits(self) -> Mapping[str, Sequence[Hit] | None]:
        """Those with triggers in them, each with its places from its first byte; None: to be scanned by itself."""
        if self._hits is None:
            self._hits = distributed(self._places, self._data, self._texts)
        return self._hits

    def first_is_clean(self) -> bool:
        """Return whether the first string has no match, at little cost."""
        return self._hits is None and self._places[0][0] > self._data.find(b"\0") + 1

    def of(self, text: str) -> Sequence[Hit] | None:
        """Return the places in a string: none where it is clean, None where it was not among those scanned."""
        if text in self.hits:
            return self.hits[text]
        if self._scanned is None:
            self._scanned = frozenset(self._texts)
        return _NO_HITS if text in self._scanned else None


def distributed(hits: Sequence[Hit], data: bytes, texts: Sequence[str]) -> dict[str, Sequence[Hit] | None]:
    """Give each string the hits that end in it, counted from its first byte. The separator is two zeros."""
    sightings: dict[str, Sequence[Hit] | None] = {}
    zeros = at = start = 0
    own: list[Hit] = []
    for end, number in hits:
        passed = data.count(b"\0", at, end - 1)
        if passed or not own:
            zeros += passed
            start = data.rfind(b"\0", at, end - 1) + 1 if passed else start
            sightings[texts[zeros // 2]] = own = []
        at = end - 1
        own.append((end - start, number))
    return sightings
