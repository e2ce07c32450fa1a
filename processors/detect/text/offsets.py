"""Which character of a text each byte of its UTF-8 belongs to."""

from typing import Final

_CONTINUATION: Final = bytes(range(0x80, 0xC0))


class Offsets:
    """Turns ascending byte offsets of UTF-8 into character offsets, in one pass over all hits."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._byte = self._char = 0

    def of(self, start: int, end: int) -> tuple[int, int]:
        """Return the character that holds byte `start`, and the number of characters begun before byte `end`."""
        passed = self._data[self._byte : end]
        self._char += len(passed) if passed.isascii() else _begun(passed)
        self._byte = end
        place = self._data[start:end]
        if place.isascii():
            return self._char - len(place), self._char
        return self._char - _begun(place) - (place[0] in _CONTINUATION), self._char


def _begun(data: bytes) -> int:
    """Return how many characters begin in bytes."""
    return len(data.translate(None, _CONTINUATION))
