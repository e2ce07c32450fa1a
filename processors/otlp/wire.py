"""The protobuf wire format, as far as it takes to find a message in a message and put another in its place.

Source: protobuf.dev/programming-guides/encoding. Everything here reads bytes that protobuf's own parser has accepted.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

VARINT, FIXED64, LENGTH_DELIMITED, START_GROUP, END_GROUP, FIXED32 = 0, 1, 2, 3, 4, 5
_ONE_BYTE: Final = 0x7F  # the largest number in a varint of one byte
_MOST_GROUPS: Final = 1000  # one in another; protobuf's own parser has 100, and who asks it is told so
_MOST_IN_GROUP: Final = 10_000  # fields of one group, at all depths: it counts as one field of a request
_FIRST_KEY: Final = 1 << 3  # the tag of field 1: no field has the number 0


class Field(NamedTuple):
    """One field on the wire. `tag` is where its tag starts; the payload is `buffer[start:end]`."""

    number: int
    wire_type: int
    tag: int
    start: int
    end: int

    def holds(self, number: int) -> bool:
        """Return whether this is field `number` with a string, bytes or message; parsers treat others as unknown."""
        return self.number == number and self.wire_type == LENGTH_DELIMITED


class NotWire(ValueError):
    """The bytes are not a sequence of well-formed fields."""


def fields(buffer: bytes, start: int, end: int, marks: Sequence[int] = ()) -> Iterator[Field]:
    """Yield the fields of the message in `buffer[start:end]`, in order. Raises NotWire where it is not one.

    With `marks`, ascending positions, only the fields in whose payload one of them lies (start < mark <= end), and
    nothing behind the last of them is read. Tags and lengths of one byte, as nearly all are, are read without a call.
    """
    position = start
    make = tuple.__new__  # half the time of Field(...)
    at, mark = 0, marks[0] if marks else start
    while position < end:
        tag = position
        key = buffer[position]
        position += 1
        if key > _ONE_BYTE:
            key, position = varint(buffer, tag, end)
        if key & 7 != LENGTH_DELIMITED:
            first, position = position, _end_of(buffer, position, end, key)
        elif position < end and (length := buffer[position]) <= _ONE_BYTE:
            first = position + 1
            position = first + length
        else:
            length, first = varint(buffer, position, end)
            position = first + length
        if position > end or key < _FIRST_KEY:
            raise NotWire
        if position < mark:
            continue
        if marks:
            at = bisect_right(marks, first, at)
            if at == len(marks):
                return
            mark = marks[at]
            if mark > position:
                continue
        yield make(Field, (key >> 3, key & 7, tag, first, position))


def _end_of(buffer: bytes, position: int, end: int, key: int) -> int:
    """Return the position behind a payload that begins at `position` and has no length in front of it."""
    match key & 7:
        case 0:  # VARINT
            return varint(buffer, position, end)[1]
        case 1:  # FIXED64
            return position + 8
        case 5:  # FIXED32
            return position + 4
        case _:
            return _group_end(buffer, position, end, key >> 3)


def varint(buffer: bytes, position: int, end: int) -> tuple[int, int]:
    """Return the base-128 number at `position`, and the position behind it."""
    if position < end and (value := buffer[position]) < 0x80:
        return value, position + 1
    value = shift = 0
    while position < end and shift < 70:
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
    raise NotWire


def _group_end(buffer: bytes, position: int, end: int, number: int) -> int:
    """Return the position behind the end tag of a group (deprecated, but a field that we must be able to pass)."""
    open_groups = [number]
    read = 0
    while open_groups:
        read += 1
        if read > _MOST_IN_GROUP or len(open_groups) > _MOST_GROUPS:
            raise NotWire
        key, position = varint(buffer, position, end)
        number, wire_type = key >> 3, key & 7
        if wire_type == END_GROUP:
            if open_groups.pop() != number:
                raise NotWire
        elif wire_type == START_GROUP:
            open_groups.append(number)
        elif wire_type == LENGTH_DELIMITED:
            length, position = varint(buffer, position, end)
            position += length
        elif wire_type == VARINT:
            _, position = varint(buffer, position, end)
        elif wire_type in (FIXED64, FIXED32):
            position += 8 if wire_type == FIXED64 else 4
        else:
            raise NotWire
        if position > end:
            raise NotWire
    return position


def encode_varint(value: int) -> bytes:
    """Return a number in base 128."""
    if value <= _ONE_BYTE:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def length_delimited(number: int, payload: bytes) -> bytes:
    """Return a whole field that holds a string, bytes or a message."""
    return length_head(number, len(payload)) + payload


def length_head(number: int, size: int) -> bytes:
    """Return what stands before the payload of a field that holds a string, bytes or a message."""
    return encode_varint(number << 3 | LENGTH_DELIMITED) + encode_varint(size)


class Splice:
    """A message being rewritten: fields are replaced or left out, all other bytes stay as they are."""

    def __init__(self, buffer: bytes, start: int, end: int) -> None:
        self._buffer = buffer
        self._copied_to = start
        self._start = start
        self._end = end
        self._pieces: list[bytes] = []

    def replace(self, field: Field, payload: bytes | None) -> None:
        """Put `payload` in the place of a field's own, or leave the field out where it is None. Call in wire order."""
        self._pieces.append(self._buffer[self._copied_to : field.tag])
        if payload is not None:
            self._pieces.append(length_delimited(field.number, payload))
        self._copied_to = field.end

    def cut(self, position: int) -> None:
        """Leave out everything from `position` on. Nothing can be replaced behind it."""
        self._pieces.append(self._buffer[self._copied_to : position])
        self._copied_to = self._end

    def append(self, field: bytes) -> None:
        """Add a whole field at the end."""
        self._pieces.append(self._buffer[self._copied_to : self._end] + field)
        self._copied_to = self._end

    def result(self) -> bytes | None:
        """Return the message's new bytes, or None where nothing was replaced."""
        if not self._pieces:
            return None
        return b"".join(self._pieces) + self._buffer[self._copied_to : self._end]
