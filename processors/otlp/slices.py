"""Cuts a large request into smaller ones, so that no step of the work takes a multiple of its whole size.

A parsed request takes 4 to 85 times its bytes. One larger than a slice is cut between resources, scopes or items: each
slice is a request itself, with the parts of resource and scope that its items need. A request with more items than any
real request, or an item with more parts, is refused before any of it is parsed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from otel_telemetry.base.errors import TooDense
from otel_telemetry.processors.otlp import wire

SLICE_BYTES: Final = 512 << 10
_MOST_SHELL: Final = SLICE_BYTES // 4  # of a resource or scope that each of its slices has to have
MOST_ITEMS: Final = 1_000_000
MOST_GROUPS: Final = 100_000  # resources and scopes: an empty one is two bytes, and takes ten microseconds
MOST_ITEM_BYTES: Final = 16 << 20  # it is parsed, scanned and written as a whole, each time in a copy
MOST_PARTS: Final = 100_000  # fields in one item that is larger than a slice: 1 kB each, if all are redacted
#: Numbers of one byte on the wire where many stand in one field (`bucket_counts`), and of 8 to 24 in memory.
_VARINTS: Final = frozenset(
    getattr(FieldDescriptor, f"TYPE_{name}")
    for name in "INT32 INT64 UINT32 UINT64 SINT32 SINT64 BOOL ENUM".split()  # noqa: SIM905
)
_NUMBERS_OF_A_PART: Final = 32  # they take what one field takes that is redacted
_GROUPS, _SCOPES, _ITEMS = 1, 2, 2
_PATH: Final = re.compile(r"(\w+)\[(\d+)\](?:\.(\w+)\[(\d+)\](?:\.(\w+)\[(\d+)\])?)?")


@dataclass(slots=True, frozen=True)
class Slice:
    """A part of a request. `at`: which of its resources, scopes and items its own first ones are.

    What it holds are resources; where `group` is given scopes of the resource whose other fields that is; and where
    `scope` is given items of such a scope.
    """

    whole: bytes
    start: int
    end: int
    at: tuple[int, int, int]
    group: bytes | None = None
    scope: bytes | None = None
    problem: str = ""  # with its path: why the one item in it cannot be taken

    @property
    def body(self) -> bytes:
        """Make a request of it."""
        if self.group is None:
            return self.whole[self.start : self.end]
        if self.scope is None:
            return wire.length_delimited(_GROUPS, self.group + self._only(_SCOPES))
        items = wire.length_delimited(_SCOPES, self.scope + self._only(_ITEMS))
        return wire.length_delimited(_GROUPS, self.group + items)

    def _only(self, inner: int) -> bytes:
        """Return the fields of that number; the others are in `group` or `scope`."""
        others = [field for field in wire.fields(self.whole, self.start, self.end) if not field.holds(inner)]
        splice = wire.Splice(self.whole, self.start, self.end)
        for field in others:
            splice.replace(field, None)
        rest = splice.result()
        return self.whole[self.start : self.end] if rest is None else rest

    def path(self, problem: str) -> str:
        """Return a problem of one of its items, with the item's path in the whole request."""
        found = _PATH.match(problem)
        if found is None or self.at == (0, 0, 0):
            return problem
        steps = []
        moved = True  # only what is in the first resource begins at another scope, and so on
        for name, index, begin in zip(found.groups()[::2], found.groups()[1::2], self.at, strict=True):
            if name is not None:
                steps.append(f"{name}[{int(index) + (begin if moved else 0)}]")
                moved = moved and index == "0"
        return ".".join(steps) + problem[found.end() :]


def cut(request: type[Message], body: bytes) -> list[Slice]:
    """Return an Export*ServiceRequest in slices, which are made when they are asked for their bodies.

    Raises TooDense for what has too many parts.
    """
    root: Any = request.DESCRIPTOR
    return list(_Cutter(root, body).request())


@dataclass(slots=True)
class _Run:
    """Fields that follow each other, from the first one's tag on."""

    start: int
    first: int  # which of the messages that it holds its first one is
    end: int = 0


class _Cutter:
    """One pass over one request."""

    def __init__(self, root: Descriptor, body: bytes) -> None:
        self._body = body
        self._item_type = _inner(_inner(_inner(root, _GROUPS), _SCOPES), _ITEMS)
        self._root = root
        kinds = (root, _inner(root, _GROUPS), _inner(_inner(root, _GROUPS), _SCOPES))
        numbers = (_GROUPS, _SCOPES, _ITEMS)
        self._names = [kind.fields_by_number[number].name for kind, number in zip(kinds, numbers, strict=True)]
        self._items = self._shared = 0

    def request(self) -> Iterator[Slice]:
        for run, large in self._runs(0, len(self._body), _GROUPS):
            if large:
                yield from self._group(large, run.first)
            else:
                yield Slice(self._body, run.start, run.end, (run.first, 0, 0))

    def _group(self, group: wire.Field, number: int) -> Iterator[Slice]:
        shell = self._shell(group, _SCOPES)
        if shell is None:
            self._refuse_dense(group, _inner(self._root, _GROUPS))
            yield Slice(self._body, group.tag, group.end, (number, 0, 0))
            return
        for run, large in self._runs(group.start, group.end, _SCOPES):
            if large:
                yield from self._scope(large, shell, (number, run.first))
            else:
                yield Slice(self._body, run.start, run.end, (number, run.first, 0), shell)

    def _scope(self, scope: wire.Field, outer: bytes, at: tuple[int, int]) -> Iterator[Slice]:
        shell = self._shell(scope, _ITEMS)
        if shell is None:
            self._refuse_dense(scope, _inner(_inner(self._root, _GROUPS), _SCOPES))
            yield Slice(self._body, scope.tag, scope.end, (*at, 0), outer)
            return
        for run, large in self._runs(scope.start, scope.end, _ITEMS, of_items=True):
            problem = self._refused_item(large, (*at, run.first)) if large else ""
            yield Slice(self._body, run.start, run.end, (*at, run.first), outer, shell, problem)

    def _refused_item(self, item: wire.Field, at: tuple[int, int, int]) -> str:
        """Return why an item cannot be taken, with its path, or nothing."""
        if item.end - item.start > MOST_ITEM_BYTES:
            why = f"larger than {MOST_ITEM_BYTES >> 20} MiB"
        elif self._parts(item, self._item_type) > MOST_PARTS:
            why = f"more than {MOST_PARTS} values and attributes"
        else:
            return ""
        return ".".join(f"{name}[{index}]" for name, index in zip(self._names, at, strict=True)) + f": {why}"

    def _runs(
        self, start: int, end: int, number: int, *, of_items: bool = False
    ) -> Iterator[tuple[_Run, wire.Field | None]]:
        """Yield runs of a slice's size, and each field by itself that is larger and can be cut."""
        run = _Run(start, 0, start)
        count = 0
        try:
            for field in wire.fields(self._body, start, end):
                ours = field.holds(number)
                large = field.end - field.tag > SLICE_BYTES and ours
                if run.end > run.start and (large or field.end - run.start > SLICE_BYTES):
                    yield run, None
                    run = _Run(field.tag, count)
                if large:
                    yield _Run(field.tag, count, field.end), field
                    run = _Run(field.end, count + 1)
                run.end = field.end
                count += ours
                self._count_item()
                self._shared += ours and not of_items
                refuse_many_groups(self._shared)
        except wire.NotWire:  # only at the top: the others were read to their ends before
            run.end = end
        if run.end > run.start:
            yield run, None

    def _shell(self, message: wire.Field, inner: int) -> bytes | None:
        """Return all of a resource or scope but what it holds; None where it cannot be cut."""
        parts: list[bytes] = []
        size = 0
        try:
            for count, field in enumerate(wire.fields(self._body, message.start, message.end)):
                if count > MOST_ITEMS:
                    raise _too_many_items()
                if not field.holds(inner):
                    size += field.end - field.tag
                    if size > _MOST_SHELL:
                        return None
                    parts.append(self._body[field.tag : field.end])
        except wire.NotWire:
            return None
        return b"".join(parts)

    def _count_item(self) -> None:
        self._items += 1
        if self._items > MOST_ITEMS:
            raise _too_many_items()

    def _refuse_dense(self, message: wire.Field, kind: Descriptor) -> None:
        """Refuse a resource or scope that cannot be cut and takes too much memory."""
        if message.end - message.start > MOST_ITEM_BYTES or self._parts(message, kind) > MOST_PARTS:
            raise TooDense(f"a resource or scope of more than {MOST_PARTS} attributes")

    def _parts(self, message: wire.Field, kind: Descriptor) -> int:
        """Count the fields of a message and the numbers in them, at all depths, as far as MOST_PARTS and one more."""
        waiting = [(message.start, message.end, kind)]
        count = 0
        while waiting and count <= MOST_PARTS:
            start, end, own = waiting.pop()
            try:
                for field in wire.fields(self._body, start, end):
                    count += 1
                    if count > MOST_PARTS:
                        break
                    known = own.fields_by_number.get(field.number)
                    if known is None or not field.holds(field.number):
                        continue
                    if known.type == FieldDescriptor.TYPE_MESSAGE:
                        waiting.append((field.start, field.end, _inner(own, field.number)))
                    elif known.type in _VARINTS:
                        count += (field.end - field.start) // _NUMBERS_OF_A_PART
            except wire.NotWire:
                continue  # redaction finds out, and says where
        return count


def refuse_many_groups(count: int) -> None:
    """Raise TooDense for so many resources and scopes."""
    if count > MOST_GROUPS:
        raise TooDense(f"more than {MOST_GROUPS} resources and scopes")


def _too_many_items() -> TooDense:
    return TooDense(f"more than {MOST_ITEMS} items")


def count_items(body: bytes) -> int:
    """Count the items of a request that cannot be parsed, as far as it can be read; 1 at least."""
    count = 0
    ranges: list[tuple[int, int, tuple[int, ...]]] = [(0, len(body), (_GROUPS, _SCOPES, _ITEMS))]
    while ranges:
        start, end, numbers = ranges.pop()
        try:
            for field in wire.fields(body, start, end):
                if field.holds(numbers[0]):
                    count += len(numbers) == 1
                    ranges += [(field.start, field.end, numbers[1:])] if len(numbers) > 1 else []
        except wire.NotWire:
            continue
    return max(1, count)


def _inner(kind: Descriptor, number: int) -> Descriptor:
    inner: Descriptor | None = kind.fields_by_number[number].message_type
    assert inner is not None  # of OTLP's own schema  # noqa: S101
    return inner
