"""Characters that hide a value from plain patterns: invisible ones, digits of other scripts, look-alikes, URL encoding.

`fold` returns a second view of a text, in which they are gone or decoded, with the origin of each character.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

#: First code points of the runs of ten decimal digits outside ASCII that people can type or paste (Unicode 15, Nd).
_DIGIT_ZEROS: Final = (
    *(0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xE50, 0xED0, 0xF20),
    *(0x1040, 0x17E0, 0x1810, 0xFF10, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6),
)
_INVISIBLE: Final = (
    "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e"
    "\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\ufeff\ufe0e\ufe0f"
)
_DASHES: Final = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"
_SPACES: Final = "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
#: Letters of Cyrillic and Greek that look like a Latin one, and that one, in the same order (UTS 39, confusables).
_ALIKE: Final = (
    "\u0410\u0412\u0415\u0405\u0406\u0408\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425"
    "\u0430\u0435\u0455\u0456\u0458\u043e\u0440\u0441\u0443\u0445\u04bb\u0501\u051b\u051d"
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03b1\u03bd\u03bf"
)
_MEANT: Final = "ABESIJKMHOPCTYXaesijopcyxhdqwABEZHIKMNOPTYXavo"
_TABLE: Final[dict[int, str]] = {
    **{zero + n: str(n) for zero in _DIGIT_ZEROS for n in range(10)},
    **{code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys(map(ord, _DASHES), "-"),
    **dict.fromkeys(map(ord, _SPACES), " "),
    **dict.fromkeys(map(ord, _INVISIBLE), ""),
    **dict(zip(map(ord, _ALIKE), _MEANT, strict=True)),
}
#: A percent-encoded byte (RFC 3986, section 2.1), and a plus that stands for a space in a form (WHATWG URL, 5.1). Each
#: pattern starts with one character: that is what `re` searches for at the speed of memory.
_PERCENT: Final = re.compile("%[0-9A-Fa-f]{2}")
_PLUS: Final = re.compile(r"\+(?=[0-9A-Za-z%])")
_FOLDABLE: Final = frozenset(map(chr, _TABLE))
#: Encoded bytes that can take part in a value: those beside a digit, and encoded quotes, separators, `@`, digits and
#: letters, which nobody encodes without need. A plus matters only between groups of digits, or in an IBAN; elsewhere
#: it is an operator as often as a space.
_ENCODED_TRIGGERS: Final = (
    "[0-9]%2[0-9A-Fa-f]",
    "%2[0-9A-Fa-f][0-9]",
    "%22",
    "%3[0-9AaDd]",
    "%[46][0-9A-Fa-f]",
    "%[57][0-9Aa]",
    "[0-9]{2}\\+[0-9A-Z]{2}",
)
_ESCAPES: Final = (("\\n", "\n "), ("\\r", "\r "), ("\\t", "\t "), ("\\f", "\f "), ("\\b", "\b "))
_ESCAPED_ESCAPE: Final = re.compile(r"\\\\{1,63}+[nrtfb]")
#: Not the one for `@`, which the rule for e-mail addresses knows.
_UNICODE_ESCAPE: Final = re.compile(r"\\{1,64}u(?!0040)([0-9A-Fa-f]{4})")
_NEAR: Final = "[0-9A-Za-z@._:+-]"


class Folded:
    """The second view of a text, and the way back from its characters to those of the text.

    Only folded characters are kept one by one, as (index in the view, length there, start and end in the text): the
    stretches between them keep their shape.
    """

    def __init__(self, text: str) -> None:
        self._at: list[int] = []
        self._pieces: list[tuple[int, int, int]] = []
        out: list[str] = []
        at = length = 0
        for start, end, plain in _pieces(text):
            length += start - at
            self._at.append(length)
            self._pieces.append((len(plain), start, end))
            out += (text[at:start], plain)
            length += len(plain)
            at = end
        out.append(text[at:])
        self.text = "".join(out)

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """Return where characters `start` to `end` (exclusive) of the view stand in the text."""
        return self._character(start)[0], self._character(end - 1)[1]

    def _character(self, index: int) -> tuple[int, int]:
        before = bisect_right(self._at, index) - 1
        if before < 0:
            return index, index + 1
        at = self._at[before]
        width, start, end = self._pieces[before]
        if index < at + width:
            return start, end
        place = end + index - at - width
        return place, place + 1


def _pieces(text: str) -> list[tuple[int, int, str]]:
    """Return what is folded, in order: start, end, and what stands for it (at most one character)."""
    pieces = [(m.start(), m.end(), chr(int(m[0][1:], 16))) for m in _PERCENT.finditer(text)]
    pieces += [(m.start(), m.end(), " ") for m in _PLUS.finditer(text) if text[m.start() - 1 : m.start()].isalnum()]
    if not text.isascii():
        for char in _FOLDABLE.intersection(text):
            plain, at = _TABLE[ord(char)][:1], text.find(char)
            while at >= 0:
                pieces.append((at, at + 1, plain))
                at = text.find(char, at + 1)
    pieces.sort()
    return pieces


def fold(text: str) -> Folded | None:
    """Return the view, or None where nothing had to be folded."""
    folded = Folded(text)
    return None if folded.text == text else folded


def unescaped(text: str) -> str:
    """Return a view of the same length in which JSON's escapes in text are what they mean, padded.

    Without it the letter of an escaped line break would stick to the word behind it.
    """
    if "\\" not in text:
        return text
    if "\\\\" in text:
        text = _ESCAPED_ESCAPE.sub(lambda run: "\n".ljust(len(run[0])), text)
    for escape, meaning in _ESCAPES:
        text = text.replace(escape, meaning)
    return _UNICODE_ESCAPE.sub(_meaning, text) if "\\u" in text else text


def _meaning(escape: re.Match[str]) -> str:
    char = chr(int(escape[1], 16))
    return char * len(escape[0]) if char.isalnum() else " " * len(escape[0])


def _escape(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def _triggers() -> list[str]:
    """Return what the bytes of folded characters look like: letters and digits alone, the rest beside plain text.

    Dashes and spaces matter only in numbers: prose is full of them. So are the letters of other alphabets, which hide
    something only beside Latin ones, or before a number.
    """
    plain = {chr(code): plain for code, plain in _TABLE.items() if chr(code) not in _ALIKE}
    alone = [char for char, meant in plain.items() if meant.isalnum() or meant in ("@", ".")]
    near = [_NEAR + trigger for trigger in _classes(_INVISIBLE)]
    mixed = [
        both
        for trigger in _classes(_ALIKE)
        for both in ("[A-Za-z]" + trigger, trigger + "[A-Za-z]", trigger + "[0-9]{2}")
    ]
    return [*_classes(alone), *near, *mixed, *("[0-9)]" + trigger for trigger in _classes(_DASHES + _SPACES))]


def _classes(characters: Iterable[str]) -> list[str]:
    groups: dict[bytes, set[int]] = {}
    for char in characters:
        data = char.encode()
        groups.setdefault(data[:-1], set()).add(data[-1])
    return [f"{_escape(head)}[{_escape(bytes(sorted(tails)))}]" for head, tails in groups.items()]


FOLD_TRIGGERS: Final = [*_triggers(), *_ENCODED_TRIGGERS]
