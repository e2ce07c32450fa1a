"""HTTP/2 header fields (HPACK, RFC 7541), with bounds on what clients can make of them.

Fields have to be decoded before the key in them can be checked, which costs up to 0.3 microseconds for each byte. So
all fields of a connection count until a call on it is accepted: the bytes that came or the decoded size (32 bytes more
for each field, RFC 7541 4.1), whichever is more, as one byte may stand for a whole field.
"""

import math
import re
from collections.abc import Iterable
from typing import Final

from hpack import Decoder, Encoder, HeaderTuple, HPACKDecodingError, OversizedHeaderListError

UNTRUSTED_BYTES: Final = 32 << 10  # of all calls of a connection until one is accepted
_MOST_BYTES: Final = 64 << 10  # of one call
_TABLE_BYTES: Final = 4096  # of answers' fields that are kept for the next ones, as HTTP/2 has it at first
_RESIZES: Final = re.compile(rb"(?:[\x20-\x3e]|\x3f[\x80-\xff]*[\x00-\x7f]){3}")  # one more than RFC 7541 4.2 needs


class FieldDecoder(Decoder):
    """Decodes the header fields of one connection. `left`: bytes of them that its client may still send."""

    def __init__(self) -> None:
        super().__init__(_MOST_BYTES)
        self.left: float = UNTRUSTED_BYTES

    def trust(self) -> None:
        """Bound only single calls from now on."""
        self.left = math.inf

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """Return the fields of one block.

        Raises OversizedHeaderListError for more than the client may send, HPACKDecodingError for what is not HPACK.
        """
        if len(data) > self.left:
            self.left = 0
            raise OversizedHeaderListError("too many header fields before a call was accepted")
        if _RESIZES.match(data):
            raise HPACKDecodingError("more than two changes of the table's size in one block")
        self.max_header_list_size = int(min(_MOST_BYTES, self.left))
        try:
            fields = [_stripped(field) for field in super().decode(data, raw)]
        except OversizedHeaderListError:
            self.left = min(self.left, 0)
            raise
        if self.left < math.inf:
            self.left -= max(len(data), sum(len(name) + len(value) + 32 for name, value in fields))
        return fields


def _stripped(field: HeaderTuple) -> HeaderTuple:
    """Return a field without blanks around its value, as `authorization: Bearer ` of a variable that is not set.

    RFC 9113 (8.2.1) forbids them, and `h2` would end the connection with all of its calls for one.
    """
    name, value = field
    plain = value.strip()
    return field if plain == value else type(field)(name, plain)


class FieldEncoder(Encoder):
    """Encodes the header fields of one connection's answers.

    A client says how large a table it keeps of them, up to 4 GiB, and ours would be as large and searched for each
    field. RFC 7541 (4.2) allows a smaller one.
    """

    @property
    def header_table_size(self) -> int:
        """The size of the table."""
        return self.header_table.maxsize

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        size = min(value, _TABLE_BYTES)
        if size != self.header_table.maxsize:
            self.header_table.maxsize = size
            self.table_size_changes.append(size)
