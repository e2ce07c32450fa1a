"""gzip and deflate undone within bounds: no more is unpacked than may be, and each piece is charged before the next."""

import io
import zlib
from collections.abc import Callable
from typing import Final

from otel_telemetry.base.errors import MalformedTelemetry
from otel_telemetry.gateway.receive import status
from otel_telemetry.gateway.receive.status import RefusedError

GZIP: Final = 31  # zlib's wbits for gzip members
DEFLATE: Final = zlib.MAX_WBITS  # and for what HTTP and gRPC call deflate
_IN: Final = 64 << 10
_MOST_MEMBERS: Final = 10_000
_OUT: Final = 256 << 10


def unpack(body: bytes, limit: int, wbits: int = GZIP, charge: Callable[[int], object] = int) -> bytes:
    """Return what is packed in `body`, at most `limit` bytes; of gzip, all members.

    `charge` is called with the size of each piece, and may refuse it. Raises MalformedTelemetry, RefusedError.
    """
    whole = io.BytesIO()  # hands out its bytes without a copy
    size = position = members = 0
    stream = zlib.decompressobj(wbits)
    try:
        while position < len(body) or stream.unconsumed_tail:
            if stream.eof:
                if not body[position] and not body[position:].strip(b"\0"):  # padding, as gzip itself allows
                    break
                members += 1
                stream = _next_member(wbits, members)
            given = stream.unconsumed_tail or body[position : position + _IN]
            position += 0 if stream.unconsumed_tail else len(given)
            piece = stream.decompress(given, min(_OUT, limit - size + 1))
            position -= len(stream.unused_data)
            size += len(piece)
            if size > limit:
                raise RefusedError(status.too_large(limit))
            charge(len(piece))
            whole.write(piece)
    except zlib.error:
        raise MalformedTelemetry(f"the body is not {_name(wbits)}, as its encoding says") from None
    if not stream.eof:
        raise MalformedTelemetry(f"the {_name(wbits)} body is cut off")
    return whole.getvalue()


def _next_member(wbits: int, members: int) -> "zlib._Decompress":
    if wbits != GZIP:
        raise MalformedTelemetry("there is more behind the end of the deflate body")
    if members >= _MOST_MEMBERS:
        raise MalformedTelemetry(f"the body has more than {_MOST_MEMBERS} gzip members")
    return zlib.decompressobj(wbits)


def _name(wbits: int) -> str:
    return "gzip" if wbits == GZIP else "deflate"
