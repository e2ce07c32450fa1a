"""AWS event streams (`application/vnd.amazon.eventstream`), as Bedrock streams its answers, in bounded memory.

A message is a prelude (length of all, length of its headers, checksum), headers, a payload and a checksum. Its payload
is JSON; that of a `chunk` has the model's own JSON in it, in base64. Checksums are the client's to verify.
"""

import base64
import binascii
import struct
from collections.abc import Callable

from otel_telemetry.instrument.llm_http import framing

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_PRELUDE = struct.Struct(">II")
_PRELUDE_SIZE = 12
_CHECKSUM = 4
_SMALLEST = _PRELUDE_SIZE + _CHECKSUM
_KINDS = (b":event-type\x07", b":exception-type\x07")  # 7 is the type of text; its length follows in two bytes


class Reader:
    """Splits a response into events as it arrives; a sink gets them as `{kind: payload}`, or in the model's format.

    `unfinished` is true until the dialect reports why an answer ended; `broken`: it is not an event stream.
    """

    __slots__ = ("_closed", "_held", "_over", "_sink", "_skip", "broken", "unfinished")

    def __init__(self, sink: framing.Sink, over: Callable[[], None]) -> None:
        """Take `over` to be called after an exception in the stream: nothing comes behind it."""
        self._sink = sink
        self._over = over
        self._held = bytearray()
        self._skip = 0  # bytes of a message that is too large to be looked at
        self.broken = self._closed = False
        self.unfinished = True

    def end(self) -> None:
        """Take it that no more bytes come, and let go of everything."""
        self._held.clear()
        self._closed = True
        del self._sink, self._over

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        if self.broken or self._closed:
            return
        if self._skip:
            gone = min(self._skip, len(data))
            self._skip -= gone
            data = data[gone:]
        held = self._held
        held += data
        at = 0
        while len(held) - at >= _PRELUDE_SIZE:
            size, headers = _PRELUDE.unpack_from(held, at)
            if size < _SMALLEST or headers > size - _SMALLEST:
                self.broken = True
                held.clear()
                return
            if size > framing.MAX_VALUE:
                self._skip = max(0, at + size - len(held))
                at = min(at + size, len(held))
            elif len(held) - at < size:
                break
            else:
                begin = at + _PRELUDE_SIZE
                self._message(
                    bytes(held[begin : begin + headers]), bytes(held[begin + headers : at + size - _CHECKSUM])
                )
                at += size
        del held[:at]

    def _message(self, headers: bytes, payload: bytes) -> None:
        kind = _kind(headers)
        if kind == "chunk":
            payload = _inner(payload)
            if payload and not self._sink.boring(payload):
                self._sink.event(framing.parse(payload))
        elif kind is not None and not self._sink.boring(payload):
            value = framing.parse(payload)
            self._sink.event({kind: value if isinstance(value, dict) else {}})
            if kind.endswith("Exception"):
                self._over()


def _kind(headers: bytes) -> str | None:
    for name in _KINDS:
        at = headers.find(name)
        if at >= 0:
            at += len(name)
            length = int.from_bytes(headers[at : at + 2], "big")
            return headers[at + 2 : at + 2 + length].decode("ascii", "replace")
    return None


def _inner(payload: bytes) -> bytes:
    """Return the model's own JSON in a chunk."""
    value = framing.parse(payload)
    encoded = value.get("bytes") if isinstance(value, dict) else None
    try:
        return base64.b64decode(encoded) if isinstance(encoded, str) else b""
    except (binascii.Error, ValueError):
        return b""
