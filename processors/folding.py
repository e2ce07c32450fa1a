"""Characters that hide a value from plain patterns: invisible ones, digits of other scripts, look-alikes, URL encoding.

`fold` returns a second view of a text, in which they are gone or decoded, with the origin of each character.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Final, NamedTuple

#: First code points of the runs of ten decimal digits outside ASCII that people can type or paste (Unicode 15, Nd).
_DIGIT_ZEROS: Final = (0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xE50, 0xED0, 0xF20,
    0x1040, 0x17E0, 0x1810, 0xFF10, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6)  # fmt: skip
_INVISIBLE: Final = "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\ufeff\ufe0e\ufe0f"
_DASHES: Final = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"
_SPACES: Final = "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_TABLE: Final[dict[int, str]] = {
    **{zero + n: str(n) for zero in _DIGIT_ZEROS for n in range(10)},
    **{code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys(map(ord, _DASHES), "-"),
    **dict.fromkeys(map(ord, _SPACES), " "),
    **dict.fromkeys(map(ord, _INVISIBLE), ""),
}
#: A percent-encoded byte (RFC 3986, section 2.1), or a plus that stands for a space in a form (WHATWG URL, 5.1).
_ENCODED: Final = re.compile(r"%([0-9A-Fa-f]{2})|(?<=[0-9A-Za-z])\+(?=[0-9A-Za-z%])")
#: A plus matters only between groups of digits, or in an IBAN; elsewhere it is an operator as often as a space.
_ENCODED_TRIGGERS: Final = ("%[0-9A-Fa-f]{2}", "[0-9]{2}\\+[0-9A-Z]{2}")
_NEAR: Final = "[0-9A-Za-z@._:+-]"


class Folded(NamedTuple):
    """The second view: its character i stands for characters `starts[i]` to `ends[i]` (exclusive) of the text."""

    text: str
    starts: list[int]
    ends: list[int]


def fold(text: str) -> Folded | None:
    """Return the view, or None where nothing had to be folded."""
    view = Folded("", [], [])
    out: list[str] = []
    at = 0
    for encoded in _ENCODED.finditer(text):
        _plain(text, at, encoded.start(), out, view)
        at = encoded.end()
        out.append(chr(int(encoded[1], 16)) if encoded[1] else " ")
        view.starts.append(encoded.start())
        view.ends.append(at)
    _plain(text, at, len(text), out, view)
    folded = "".join(out)
    return None if folded == text else view._replace(text=folded)


def _plain(text: str, start: int, end: int, out: list[str], view: Folded) -> None:
    """Add characters of a stretch without anything encoded in it."""
    for index in range(start, end):
        char = text[index]
        plain = _TABLE.get(ord(char), char) if char > "\x7f" else char
        if plain:
            out.append(plain[0])
            view.starts.append(index)
            view.ends.append(index + 1)


def _escape(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def _triggers() -> list[str]:
    """Return what the bytes of each folded character look like: letters and digits alone, the rest beside plain text."""
    alone = [char for code, plain in _TABLE.items() if plain.isalnum() or plain in ("@", ".") for char in (chr(code),)]
    return [*_classes(alone), *(_NEAR + trigger for trigger in _classes(_INVISIBLE + _DASHES + _SPACES))]


def _classes(characters: Iterable[str]) -> list[str]:
    groups: dict[bytes, set[int]] = {}
    for char in characters:
        data = char.encode()
        groups.setdefault(data[:-1], set()).add(data[-1])
    return [f"{_escape(head)}[{_escape(bytes(sorted(tails)))}]" for head, tails in groups.items()]


FOLD_TRIGGERS: Final = [*_triggers(), *_ENCODED_TRIGGERS]
