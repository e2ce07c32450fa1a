"""What bytes say: text in UTF-8 or UTF-16, or what gzip has packed."""

import codecs
import zlib
from typing import Final

GZIP: Final = b"\x1f\x8b\x08"  # RFC 1952, section 2.3.1, and the only method there is
_MOST_UNPACKED: Final = 65_536
_WITH_HEADER: Final = 31  # zlib's window bits for gzip
_FEWEST: Final = 4
_BOMS: Final = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def wide(value: bytes) -> tuple[str, str]:
    """Return bytes read as UTF-16, and which; no text where they do not look like it.

    Marks and zeros may stand beside plain text, too, and nearly all bytes are some UTF-16: they are to be read as
    `plain` as well.
    """
    encoding = _utf_16(value)
    try:
        return (value.decode(encoding), encoding) if encoding else ("", "")
    except UnicodeDecodeError:
        return "", ""


def plain(value: bytes) -> tuple[str, str]:
    """Return bytes read as UTF-8, or where they are none as Latin-1, which keeps each; and which."""
    try:
        return value.decode(), "utf-8"
    except UnicodeDecodeError:
        return value.decode("latin-1"), "latin-1"


def unpacked(value: bytes) -> bytes | None:
    """Return what gzip has packed; None where that is broken, goes on behind its end, or is over 64 kB."""
    packed = zlib.decompressobj(_WITH_HEADER)
    try:
        plain = packed.decompress(value, _MOST_UNPACKED)
    except zlib.error:
        return None
    return plain if packed.eof and not packed.unused_data else None


def _utf_16(value: bytes) -> str | None:
    """Return the byte order of UTF-16, which a mark says or, where most letters are of ASCII, every second byte."""
    if value[:2] in _BOMS:
        return _BOMS[value[:2]]
    half = len(value) // 2
    if len(value) < _FEWEST or len(value) % 2 or b"\0" not in value:
        return None
    first, second = value[::2].count(0), value[1::2].count(0)
    if first + second < half // 2 or min(first, second) > half // 8:
        return None
    return "utf-16-be" if first > second else "utf-16-le"
