"""Bodies of HTTP requests: read within a limit, in time, and unpacked."""

import asyncio
import zlib
from typing import Final

from starlette.requests import Request

from otel_telemetry.errors import MalformedTelemetry
from otel_telemetry.gateway import status
from otel_telemetry.gateway.receive import Room
from otel_telemetry.gateway.status import RefusedError

CLIENT_GONE: Final = 499
"""The status, for the log only, of a request whose sender went away before it was read."""

_READ_SECONDS: Final = 30.0
_GZIP: Final = 31  # zlib's wbits for a gzip member


def is_gzipped(request: Request) -> bool:
    """Tell whether a body is packed; raises RefusedError for an encoding that is not spoken here."""
    given = request.headers.get("content-encoding", "identity").strip().lower()
    if given not in {"gzip", "identity", ""}:
        raise RefusedError(status.unsupported("the content encoding must be gzip or identity"))
    return given == "gzip"


async def read(request: Request, limit: int, room: Room) -> bytes:
    """Return a body of at most `limit` bytes, for which there is room; raises RefusedError, Overloaded."""
    if int(request.headers.get("content-length", "0")) > limit:
        raise RefusedError(status.too_large(limit))
    body = bytearray()
    try:
        async with asyncio.timeout(_READ_SECONDS):
            async for chunk in request.stream():
                room.grow(len(chunk))
                body += chunk
                if len(body) > limit:
                    raise RefusedError(status.too_large(limit))
    except TimeoutError:
        raise RefusedError(status.too_slow(_READ_SECONDS)) from None
    return bytes(body)


def gunzip(body: bytes, limit: int) -> bytes:
    """Return what is packed in one gzip member, at most `limit` bytes; raises MalformedTelemetry, RefusedError."""
    stream = zlib.decompressobj(_GZIP)
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error:
        raise MalformedTelemetry("the body is not gzip, as its content encoding says") from None
    if len(plain) > limit or stream.unconsumed_tail:
        raise RefusedError(status.too_large(limit))
    if not stream.eof:
        raise MalformedTelemetry("the gzip body is cut off")
    if stream.unused_data:
        raise MalformedTelemetry("there is more behind the end of the gzip body")
    return plain
