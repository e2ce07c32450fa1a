"""The tree as tiles of 256 hashes (C2SP tlog-tiles): how they grow, how they are named, and nodes read from them.

Tile N of level L holds the hashes of complete trees over 256^L leaves each; one level up there are the hashes of full
tiles alone.
"""

from collections.abc import Callable, Iterator
from typing import Final

from otel_telemetry.exporters.request_log.audit.merkle import EMPTY, node_hash

WIDTH: Final = 256
_HEIGHT: Final = 8
_HASH: Final = 32
_GROUP: Final = 1_000

#: Gives the hashes of a tile, one behind the other; empty where there is none.
Read = Callable[[int, int], bytes]
Tile = tuple[int, int]


class Tiles:
    """A tree, of which tiles are read when they are needed; `changed` has those to be written."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._held: dict[Tile, bytes] = {}
        #: What was changed, to be written.
        self.changed: dict[Tile, bytes] = {}

    def tile(self, level: int, number: int) -> bytes:
        """Return the hashes of a tile."""
        found = self._held.get((level, number))
        if found is None:
            found = self._held[level, number] = self._read(level, number)
        return found

    def append(self, size: int, leaves: list[bytes]) -> None:
        """Add hashes of leaves behind the `size` that there are."""
        level, position, new = 0, size, leaves
        while new:
            full: list[bytes] = []
            number = position // WIDTH
            hashes = self.tile(level, number)[: position % WIDTH * _HASH] + b"".join(new)
            for start in range(0, len(hashes), WIDTH * _HASH):
                part = hashes[start : start + WIDTH * _HASH]
                self._held[level, number] = self.changed[level, number] = part
                if len(part) == WIDTH * _HASH:
                    full.append(_top(part))
                number += 1
            level, position, new = level + 1, position // WIDTH, full

    def node(self, level: int, index: int) -> bytes:
        """Return the hash of a complete tree over 2^level leaves. Raises MissingTile where its tile is too short."""
        own, below = level // _HEIGHT, level % _HEIGHT
        first = index << below
        number, offset = divmod(first, WIDTH)
        part = self.tile(own, number)[offset * _HASH : (offset + (1 << below)) * _HASH]
        if len(part) != _HASH << below:
            raise MissingTile(own, number)
        return _top(part)


class MissingTile(Exception):
    """A tile that is not there, or is cut."""

    def __init__(self, level: int, number: int) -> None:
        self.level, self.number = level, number
        super().__init__(f"tile {level}/{number} is missing or cut")


class Growing:
    """A tree that grows leaf by leaf, for reading it once: it holds one unfinished tile of each level, no more."""

    def __init__(self, full: Callable[[int, int, bytes], None]) -> None:
        self._full = full
        self.size = 0
        #: Of each level the number of its unfinished tile, and the hashes in that.
        self._open: list[tuple[int, bytearray]] = []
        #: The hashes of complete trees side by side, the largest first: one for each bit of the size.
        self._peaks: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        """Add the hash of a leaf; tiles that are full by now are given to `full`."""
        self.size += 1
        self._put(0, leaf)
        found, rest, height = leaf, self.size, 0
        while rest % 2 == 0:
            found = node_hash(self._peaks.pop(), found)
            rest, height = rest // 2, height + 1
            if height % _HEIGHT == 0:
                self._put(height // _HEIGHT, found)
        self._peaks.append(found)

    def root(self) -> bytes:
        """Return the hash of the tree as it is now."""
        found = self._peaks[-1] if self._peaks else EMPTY
        for peak in self._peaks[-2::-1]:
            found = node_hash(peak, found)
        return found

    def finish(self) -> None:
        """Give the tiles that are not full to `full`, too."""
        for level, (number, hashes) in enumerate(self._open):
            if hashes:
                self._full(level, number, bytes(hashes))

    def _put(self, level: int, found: bytes) -> None:
        if level == len(self._open):
            self._open.append((0, bytearray()))
        number, hashes = self._open[level]
        hashes += found
        if len(hashes) == WIDTH * _HASH:
            self._full(level, number, bytes(hashes))
            self._open[level] = number + 1, bytearray()


def _top(hashes: bytes) -> bytes:
    row = [hashes[at : at + _HASH] for at in range(0, len(hashes), _HASH)]
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


def widths(size: int) -> Iterator[tuple[int, int, int]]:
    """Yield level, number and width of every tile of a tree, leaves first."""
    level = 0
    while size:
        for number in range(-(-size // WIDTH)):
            yield level, number, min(WIDTH, size - number * WIDTH)
        level, size = level + 1, size // WIDTH


def path(level: int | str, number: int, width: int = WIDTH) -> str:
    """Return the name of a tile's file; `entries` is the level of entries."""
    digits = []
    rest = number
    while True:
        rest, last = divmod(rest, _GROUP)
        digits.append(f"{last:03d}")
        if not rest:
            break
    name = "/".join([*(f"x{each}" for each in digits[:0:-1]), digits[0]])
    return f"tile/{level}/{name}" + (f".p/{width}" if width < WIDTH else "")
