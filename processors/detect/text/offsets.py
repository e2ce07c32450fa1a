"""Which character of a text each byte of its UTF-8 belongs to."""

from typing import Final

_CONTINUATION: Final = range(0x80, 0xC0)
#: One for each byte that goes on with a character, none for each that begins one.
_GOES_ON: Final = bytes(byte in _CONTINUATION for byte in range(256))


class Offsets:
    """Turns ascending byte offsets of UTF-8 into character offsets, in one pass over all hits."""

    def __init__(self, data: bytes) -> None:
        self._going_on = data.translate(_GOES_ON)
        self._byte = self._char = 0

    def of(self, start: int, end: int) -> tuple[int, int]:
        """Return the character that holds byte `start`, and the number of characters begun before byte `end`."""
        going_on = self._going_on
        char = self._char + end - self._byte - going_on.count(1, self._byte, end)
        self._char, self._byte = char, end
        return char - (end - start - going_on.count(1, start, end)) - going_on[start], char
