"""Characters that hide a value from plain patterns: zero-width ones inside a number, digits of other scripts, look-alikes.

`fold` returns a second view of a text, in which they are gone or plain ASCII, with the origin of each character.
"""

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
_NEAR: Final = "[0-9A-Za-z@._:+-]"


class Folded(NamedTuple):
    """The second view: `origin[i]` is the index in the original text of the view's character i."""

    text: str
    origin: list[int]


def fold(text: str) -> Folded | None:
    """Return the view, or None where nothing had to be folded."""
    out: list[str] = []
    origin: list[int] = []
    changed = False
    for index, char in enumerate(text):
        plain = _TABLE.get(ord(char), char) if char > "\x7f" else char
        changed = changed or plain != char
        if plain:
            out.append(plain[0])
            origin.append(index)
    return Folded("".join(out), origin) if changed else None


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


FOLD_TRIGGERS: Final = _triggers()
