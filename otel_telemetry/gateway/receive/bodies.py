"""Bodies of HTTP requests: read within a limit, in time, and unpacked."""

import asyncio
import io
import re
from collections.abc import Callable
from typing import Final

from starlette.requests import Request

from otel_telemetry.gateway.receive import status, unpack
from otel_telemetry.gateway.receive.cleaning import Room
from otel_telemetry.gateway.receive.status import RefusedError

CLIENT_GONE: Final = 499
"""The status, for the log only, of a request whose sender went away before it was read."""

_READ_SECONDS: Final = 30.0
_DIGITS: Final = re.compile(b"[0-9]{1,18}")


def is_gzipped(request: Request) -> bool:
    """Return whether a body is packed; raises RefusedError for an encoding that is not spoken here."""
    given = [value for name, value in request.scope["headers"] if name == b"content-encoding"]
    if not given:
        return False
    encoding = b", ".join(given).strip().lower()
    if encoding not in {b"gzip", b"x-gzip", b"identity", b""}:
        raise RefusedError(status.unsupported("the content encoding must be gzip or identity"))
    return encoding in {b"gzip", b"x-gzip"}


async def read(request: Request, limit: int, room: Room) -> bytes:
    """Return a body of at most `limit` bytes, for which there is room; raises RefusedError, Overloaded.

    What is read is held against what was announced, so that no server below can make less of a body than its sender.
    """
    announced = _announced(request)
    if announced is not None and announced > limit:
        raise RefusedError(status.too_large(limit))
    room.look(announced or 0)  # who has no CPU time for it takes no room either
    body = io.BytesIO()  # hands out its bytes without a copy
    try:
        async with asyncio.timeout(_READ_SECONDS):
            async for chunk in request.stream():
                room.grow(len(chunk))
                body.write(chunk)
                room.look(body.tell())
                if body.tell() > limit:
                    raise RefusedError(status.too_large(limit))
    except TimeoutError:
        raise RefusedError(status.too_slow(_READ_SECONDS)) from None
    if announced is not None and body.tell() != announced:
        raise RefusedError(status.incomplete(body.tell(), announced))
    return body.getvalue()


def _announced(request: Request) -> int | None:
    """Return the announced length of a body; None for a chunked one."""
    lengths: list[bytes] = []
    chunked = upgrade = False
    for name, value in request.scope["headers"]:  # in one go: each look-up by name goes through all of them
        if name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            chunked = True
        elif name == b"upgrade":
            upgrade = bool(value)
    if not lengths and not chunked:
        raise RefusedError(status.LENGTH_REQUIRED)
    digits = _DIGITS.fullmatch(b"".join(lengths) or b"0")
    if len(lengths) + chunked > 1 or not digits or (upgrade and _asks_to_upgrade(request)):
        raise RefusedError(status.AMBIGUOUS_LENGTH)
    return int(lengths[0]) if lengths else None


def _asks_to_upgrade(request: Request) -> bool:
    """Return whether the server below may upgrade the connection; the gateway's own removes the header before."""
    tokens = ",".join(request.headers.getlist("connection")).lower().split(",")
    return "upgrade" in {token.strip() for token in tokens}


def gunzip(body: bytes, limit: int, charge: Callable[[int], object] = int) -> bytes:
    """Return what is packed in gzip members, at most `limit` bytes; `charge` may refuse each piece by its size."""
    return unpack.unpack(body, limit, unpack.GZIP, charge)
