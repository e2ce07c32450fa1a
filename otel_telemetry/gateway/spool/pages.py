"""Reads rows from the pages of a damaged spool that SQLite can no longer read, as its command `.recover` does.

Each page that looks like a leaf of a table is read by itself, after sqlite.org/fileformat2.html, so that the header,
the tree above it and the pages beside it may be damaged. A committed page in the write-ahead log has priority over the
one in the file; free pages are left out. A page may be cut, or not be there: the log names pages behind the end of a
file that was cut. What the log still has of such a page from before is read then. The types of the columns identify the
table, because they differ for each of the spool's tables. The checksum of a batch decides whether its bytes are right.
"""

import itertools
import mmap
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Self

from otel_telemetry.gateway.spool import spool_file

_PAGE: Final = spool_file.PAGE_BYTES
_HEADER_BYTES: Final = 100
_TABLE_LEAF: Final = 0x0D
_INDEX_LEAF: Final = 0x0A
_INDEX_INNER: Final = 0x02
_TREE: Final = frozenset({_TABLE_LEAF, _INDEX_LEAF, _INDEX_INNER, 0x05})
_WAL_HEADER: Final = 32
_WAL_FRAME: Final = 24
_WAL_MAGIC: Final = (0x377F0682, 0x377F0683)
_MAP_STEP: Final = _PAGE // 5 + 1  # one page in so many says what the others are for
_INTEGER_BYTES: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_FIRST_TEXT: Final = 13
_FIRST_BLOB: Final = 12
_MOST_ROWS: Final = 1 << 62  # a rowid above that is none that the spool gave
#: The page that SQLite never writes: the bytes of its locks are there.
_LOCKS: Final = (1 << 30) // _PAGE + 1

#: The value of a column whose bytes are not there any more.
CUT: Final = object()

Value = object


class CellAddress(NamedTuple):
    """Where a row is: its page, and the cell in it."""

    page: int
    cell: int


@dataclass(slots=True, frozen=True)
class Row:
    """One row. `rowid` is 0 in a table without; a column that cannot be read is CUT."""

    rowid: int
    values: tuple[Value, ...]
    address: CellAddress

    def shape(self) -> str:
        """Return a letter for each column: n(ull), i(nteger), t(ext), b(lob), c(ut)."""
        return "".join(map(_letter, self.values))


@dataclass(slots=True)
class _Turn:
    """What the log got before SQLite began it anew: where each page is, and how many the whole file had then."""

    pages: dict[int, int] = field(default_factory=dict)
    last: int = 0


class Pages:
    """The pages of a file and of the log beside it. Raises OSError where the file cannot be read."""

    def __init__(self, path: Path) -> None:
        self._file = _mapped(path)
        self._log = _mapped(path.with_name(path.name + "-wal"))
        self.bytes = len(self._file) + len(self._log)
        self._in_log, *older = list(_committed(self._log)) or [_Turn()]
        self._outdated: dict[int, int] = {}
        self._whole = len(self._file) // _PAGE
        head = self._page(1)
        self._last = max(self._in_log.last, _number(head, 28))
        behind = {number for number in (*self._in_log.pages, _LOCKS) if number > self._whole}
        self._known = min(self._whole, self._last) + sum(number <= self._last for number in behind)
        self._outdated = _outdated(older, self._is_there, self._last)
        self._free = set(self._free_pages())
        self._followed: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for each in (self._file, self._log):
            if isinstance(each, mmap.mmap):
                each.close()

    def rows(self) -> Iterator[Row]:
        """Yield every row, without what lies outside of its own page: long columns are CUT."""
        for number in self._numbers():
            if number not in self._free and not _is_map(number):
                for cell in self._cells(number):
                    row = self._row(CellAddress(number, cell), whole=False)
                    if row is not None:
                        yield row

    def whole(self, address: CellAddress) -> Row | None:
        """Return a row with all of its columns, as far as they can be read."""
        return self._row(address, whole=True)

    def cut(self) -> bool:
        """Return whether the file should have pages that neither it nor the log has; false where its header is none."""
        head = self._page(1)
        return int.from_bytes(head[16:18]) == _PAGE and self._known < self._last

    def missing(self) -> bool:
        """Return whether pages are gone or say nothing, so that there may have been more rows than can be seen.

        Of use once all rows have been read whole: what they have on pages of their own is known then.
        """
        if self._known < self._last:
            return True
        return any(self._is_unreadable(number) for number in self._numbers())

    def _is_there(self, number: int) -> bool:
        return number <= self._whole or number in self._in_log.pages

    def _numbers(self) -> Iterator[int]:
        """Yield the pages of which there is anything, in order; a file may have millions."""
        cut = self._whole + (1 if len(self._file) % _PAGE else 0)
        behind = {number for number in (*self._in_log.pages, *self._outdated, cut, 1) if number > self._whole}
        for number in itertools.chain(range(1, self._whole + 1), sorted(behind)):
            if number != _LOCKS:
                yield number

    def _is_unreadable(self, number: int) -> bool:
        page = self._page(number)
        if len(page) < _PAGE:
            return True
        known = number == 1 or number in self._free or number in self._followed or _is_map(number)
        return not known and page[0] not in _TREE

    def _page(self, number: int) -> bytes:
        """Return a page, less of it where the file ends in it, and b"" where it is not there."""
        start = self._in_log.pages.get(number) or self._outdated.get(number)
        if start:
            return bytes(self._log[start : start + _PAGE])
        return bytes(self._file[(number - 1) * _PAGE : number * _PAGE])

    def _free_pages(self) -> Iterator[int]:
        """Yield the pages of the list of free ones, as far as it can be followed."""
        first = self._page(1)
        trunk = _number(first, 32) if len(first) >= _HEADER_BYTES else 0
        seen: set[int] = set()
        while trunk > 1 and trunk not in seen:
            seen.add(trunk)
            page = self._page(trunk)
            leaves = _number(page, 4) if len(page) == _PAGE else _PAGE
            if leaves > _PAGE // 4 - 2:  # damaged: what it names may well be in use
                return
            yield trunk
            yield from struct.unpack_from(f">{leaves}I", page, 8)
            trunk = _number(page, 0)

    def _cells(self, number: int) -> tuple[int, ...]:
        page = self._page(number)
        start = _HEADER_BYTES if number == 1 else 0
        if len(page) < start + 8 or page[start] not in (_TABLE_LEAF, _INDEX_LEAF, _INDEX_INNER):
            return ()
        count = int.from_bytes(page[start + 3 : start + 5])
        first = start + (12 if page[start] == _INDEX_INNER else 8)
        if count > (len(page) - first) // 2:
            return ()
        return struct.unpack_from(f">{count}H", page, first)

    def _row(self, address: CellAddress, *, whole: bool) -> Row | None:
        page = self._page(address.page)
        try:
            return self._decode(page, address, whole=whole)
        except (IndexError, ValueError, struct.error):  # no row
            return None

    def _decode(self, page: bytes, address: CellAddress, *, whole: bool) -> Row:
        kind = page[_HEADER_BYTES if address.page == 1 else 0]
        at = address.cell + (4 if kind == _INDEX_INNER else 0)
        size, at = _varint(page, at)
        rowid = 0
        if kind == _TABLE_LEAF:
            rowid, at = _varint(page, at)
        if rowid >= _MOST_ROWS:
            raise ValueError("no row of ours")
        local = _local(size, of_table=kind == _TABLE_LEAF)
        payload = page[at : at + local]
        if whole and len(payload) == local < size:
            payload += self._overflow(_number(page, at + local), size - local)
        return Row(rowid, tuple(_values(payload)), address)

    def _overflow(self, number: int, size: int) -> bytes:
        """Return what a row has on pages of its own; less than `size` where the chain is broken."""
        parts = []
        seen: set[int] = set()
        while size > 0 and number > 1 and number not in seen:
            seen.add(number)
            page = self._page(number)
            parts.append(page[4 : 4 + size])
            size -= len(parts[-1]) or size
            number = _number(page, 0) if len(page) == _PAGE else 0
        self._followed |= seen
        return b"".join(parts)


def _is_map(number: int) -> bool:
    return number % _MAP_STEP == 2  # noqa: PLR2004 - the second, and one after each stretch that it tells of


def _mapped(path: Path) -> mmap.mmap | bytes:
    if not path.exists() or not path.stat().st_size:
        return b""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _committed(log: mmap.mmap | bytes) -> Iterator[_Turn]:
    """Yield what each turn of writing the log has committed, the newest first.

    SQLite writes the log from its beginning again once all of it is in the file: what is behind the end of the newest
    turn is left of older ones, which have other salts.
    """
    if len(log) < _WAL_HEADER or _number(log, 0) not in _WAL_MAGIC:
        return
    salts = log[16:24]
    turn, waiting = _Turn(), dict[int, int]()
    for start in range(_WAL_HEADER, len(log) - _WAL_FRAME - _PAGE + 1, _WAL_FRAME + _PAGE):
        if log[start + 8 : start + 16] != salts:
            yield turn
            salts = log[start + 8 : start + 16]
            turn, waiting = _Turn(), {}
        if _number(log, start):
            waiting[_number(log, start)] = start + _WAL_FRAME
        pages = _number(log, start + 4)
        if pages:  # the last of a transaction
            turn.pages.update(waiting)
            turn.last = pages
            waiting = {}
    yield turn


def _outdated(turns: Sequence[_Turn], is_there: Callable[[int], bool], last: int) -> dict[int, int]:
    """Return where older turns of the log have pages of which there is nothing newer, up to the file's `last`."""
    found: dict[int, int] = {}
    for turn in turns:
        for page, start in turn.pages.items():
            if not is_there(page) and (page <= last or not last):
                found.setdefault(page, start)
    return found


def _local(size: int, *, of_table: bool) -> int:
    """Return how many bytes of a payload lie on the page of its cell."""
    most = _PAGE - 35 if of_table else (_PAGE - 12) * 64 // 255 - 23
    if size <= most:
        return size
    least = (_PAGE - 12) * 32 // 255 - 23
    local = least + (size - least) % (_PAGE - 4)
    return local if local <= most else least


def _values(payload: bytes) -> Iterator[Value]:
    end, at = _varint(payload, 0)
    if not at <= end <= min(len(payload), 200):  # the spool's widest table has nine columns
        raise ValueError("no record")
    types = []
    while at < end:
        kind, at = _varint(payload, at)
        types.append(kind)
    for kind in types:
        size = _size(kind)
        yield _value(kind, payload[at : at + size], size)
        at += size


def _size(kind: int) -> int:
    if kind >= _FIRST_BLOB:
        return (kind - _FIRST_BLOB) // 2
    return _INTEGER_BYTES.get(kind, 0)


def _value(kind: int, found: bytes, size: int) -> Value:
    if len(found) < size:
        return CUT
    if kind == 0:
        return None
    if kind in (8, 9):
        return kind - 8
    if kind in _INTEGER_BYTES:
        return int.from_bytes(found, signed=True)
    if kind >= _FIRST_TEXT and kind % 2:
        return found.decode()
    if kind >= _FIRST_BLOB:
        return found
    raise ValueError("a type that the spool does not use")


def _letter(value: Value) -> str:
    if value is CUT:
        return "c"
    return {type(None): "n", int: "i", str: "t", bytes: "b"}[type(value)]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for position in range(at, at + 8):
        byte = data[position]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004 - the first bit says that more follows
            return value, position + 1
    return value << 8 | data[at + 8], at + 9


def _number(data: mmap.mmap | bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4])
