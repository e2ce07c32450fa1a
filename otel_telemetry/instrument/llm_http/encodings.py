"""Undoing a content encoding as the bytes come, in steps of bounded size and up to a bounded total.

The app's own client decodes the same bytes for itself; this is a second look at them. gzip and deflate always (zlib),
br where `brotli` is installed, zstd with Python 3.14 or `backports.zstd`. Anything else, more than one encoding at
once, or broken data: nothing more is seen.
"""

import importlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any

STEP = 64 << 10  # bytes decoded at a time
MAX_DECODED = 32 << 20  # bytes of one response that are looked at: a bomb stops here

Decode = Callable[[bytes], Iterator[bytes]]


def decoder(encoding: str) -> Decode:
    """Return what decodes the pieces of a body with that `content-encoding`, never raising."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return _identity
    make = _MAKERS.get(name)
    try:
        return _guarded(make()) if make else _nothing
    except (ImportError, AttributeError):
        return _nothing


def _identity(data: bytes) -> Iterator[bytes]:
    yield data


def _nothing(data: bytes) -> Iterator[bytes]:
    del data
    return iter(())


def _guarded(decode: Decode) -> Decode:
    """Stop at the first error, and at MAX_DECODED bytes."""
    left = MAX_DECODED

    def guarded(data: bytes) -> Iterator[bytes]:
        nonlocal left
        if left <= 0:
            return
        try:
            for piece in decode(data):
                yield piece
                left -= len(piece)
                if left <= 0:
                    return
        except Exception:  # noqa: BLE001 - four libraries' error classes; the app's client reports broken data itself
            left = 0

    return guarded


def _zlib(wbits: int) -> Decode:
    unpack = zlib.decompressobj(wbits)

    def decode(data: bytes) -> Iterator[bytes]:
        piece = unpack.decompress(data, STEP)
        while piece:
            yield piece
            piece = unpack.decompress(unpack.unconsumed_tail, STEP)

    return decode


def _gzip() -> Decode:
    return _zlib(zlib.MAX_WBITS | 16)


def _deflate() -> Decode:
    """Return a decoder of zlib streams, or of the raw ones that some servers send under that name."""
    chosen: Decode | None = None

    def decode(data: bytes) -> Iterator[bytes]:
        nonlocal chosen
        if chosen is None and data:
            is_zlib = data[0] & 0x0F == zlib.DEFLATED and (len(data) == 1 or int.from_bytes(data[:2], "big") % 31 == 0)
            chosen = _zlib(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        return chosen(data) if chosen else iter(())

    return decode


def _brotli() -> Decode:
    unpack: Any = importlib.import_module("brotli").Decompressor()

    def decode(data: bytes) -> Iterator[bytes]:
        piece = unpack.process(data, output_buffer_limit=STEP)
        while piece:
            yield piece
            piece = unpack.process(b"", output_buffer_limit=STEP)

    return decode


def _zstd() -> Decode:
    try:
        module: Any = importlib.import_module("compression.zstd")
    except ImportError:
        module = importlib.import_module("backports.zstd")
    unpack = module.ZstdDecompressor()

    def decode(data: bytes) -> Iterator[bytes]:
        piece = unpack.decompress(data, STEP)
        while piece:
            yield piece
            piece = b"" if unpack.eof or unpack.needs_input else unpack.decompress(b"", STEP)

    return decode


_MAKERS: dict[str, Callable[[], Decode]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
