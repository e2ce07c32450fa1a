"""What hides a value from plain patterns: invisible characters, other scripts' digits, look-alikes, escapes, encoding.

Escapes are JSON's, of any of these and of plain characters that need none; encoding is that of URLs. `fold` returns a
second view of a text, in which they are gone or decoded, with the origin of each character.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from otel_telemetry.processors.detect.text.ignorable import CONTROLS, DEFAULT_IGNORABLE, characters, has_controls

BMP: Final = "\uffff"
_LAST: Final = 0x10FFFF
#: First code points of the runs of ten decimal digits outside ASCII that people can type or paste (Unicode 15, Nd).
_DIGIT_ZEROS: Final = (
    *(0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xE50, 0xED0, 0xF20),
    *(0x1040, 0x17E0, 0x1810, 0xFF10, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6),
)
INVISIBLE: Final = characters(DEFAULT_IGNORABLE, ((0x80, 0x84), (0x86, 0x9F), (0xFFF9, 0xFFFC)))
DASHES: Final = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"
#: The end of a line in ISO 6429, and of a line and a paragraph in Unicode, as which they are read.
LINE_ENDS: Final = "\u0085\u2028\u2029"
#: Makes a key of the digit before it, perhaps with a selector between them.
_KEY: Final = "\u20e3"
SPACES: Final = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u2800\u3000"
#: Letters of Cyrillic and Greek that look like a Latin one, and that one, in the same order (UTS 39, confusables).
ALIKE: Final = (
    "\u0410\u0412\u0415\u0405\u0406\u0408\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425"
    "\u0430\u0435\u0455\u0456\u0458\u043e\u0440\u0441\u0443\u0445\u04bb\u0501\u051b\u051d"
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03b1\u03bd\u03bf"
)
_MEANT: Final = "ABESIJKMHOPCTYXaesijopcyxhdqwABEZHIKMNOPTYXavo"
_TABLE: Final[dict[int, str]] = {
    **{zero + n: str(n) for zero in _DIGIT_ZEROS for n in range(10)},
    **{code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys(map(ord, DASHES), "-"),
    **dict.fromkeys(map(ord, SPACES), " "),
    **dict.fromkeys(map(ord, (*CONTROLS, *INVISIBLE, _KEY)), ""),
    **dict.fromkeys(map(ord, LINE_ENDS), "\n"),
    **dict(zip(map(ord, ALIKE), _MEANT, strict=True)),
}
PLAIN: Final = {chr(code): plain for code, plain in _TABLE.items() if chr(code) not in ALIKE}
#: Words of Cyrillic or Greek letters alone: they hide nothing, and are no part of a number beside them.
_PURE: Final = re.compile("(?<![A-Za-z\u0370-\u03ff\u0400-\u052f])[\u0370-\u03ff\u0400-\u052f]{4,}+(?![A-Za-z])")
#: A percent-encoded byte (RFC 3986, section 2.1), encoded once or more, and a plus that stands for a space in a form
#: (WHATWG URL, 5.1). Each pattern starts with one character: that is what `re` searches for at the speed of memory.
_PERCENT: Final = re.compile("%(?:25){0,8}[0-9A-Fa-f]{2}")
_PLUS: Final = re.compile(r"\+(?=[0-9A-Za-z%])")
_ASTRAL: Final = (
    # Mathematical digits, and what is ignorable; single characters of these planes would be tried in turn.
    "\U0001d7ce-\U0001d7ff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_FOLDABLE: Final = re.compile(f"[{re.escape(''.join(c for c in map(chr, sorted(_TABLE)) if c <= BMP))}{_ASTRAL}]")
_CONTROL: Final = re.compile(f"[{re.escape(CONTROLS)}]")
#: Lists of assignments with controls between them are those of Linux's /proc/PID/environ, and messages of FIX.
_KEPT_CONTROL: Final = re.compile(
    rf"\x1b(?=\[)|=[^\s&;={re.escape(CONTROLS)}]{{0,255}}[{re.escape(CONTROLS)}](?=[A-Za-z0-9_]{{1,64}}=)"
)
#: JSON's escapes, in text that may stand in other JSON; and a sign that there are others than `\n`. Each alternative
#: starts with the same one character, as above.
_ESCAPE: Final = re.compile(r"(\\(?:[nrtfb]|\\{0,63}+u(?!0040)[0-9A-Fa-f]{4}|\\{1,63}+[nrtfb]))")
_RARER: Final = re.compile(r"\\[rtfbu\\]")
_MEANINGS: Final = {"r": "\r", "t": "\t", "f": "\f", "b": "\b"}
#: An escaped byte of many languages, a reference of HTML, and a byte in quoted-printable (RFC 2045, section 6.7).
_BYTE: Final = re.compile(r"\\{1,64}x([0-9A-Fa-f]{2})")
#: A character outside ASCII byte by byte in UTF-8, as URLs, `repr` of bytes, and git's names of files have it.
_ENCODED_FORMS: Final = (
    ("%", re.compile(r"%(?:25){0,8}[C-Fc-f][0-9A-Fa-f](?:%(?:25){0,8}[89ABab][0-9A-Fa-f]){1,3}"), 16),
    ("\\x", re.compile(r"\\{1,64}x[C-Fc-f][0-9A-Fa-f](?:\\{1,64}x[89ABab][0-9A-Fa-f]){1,3}"), 16),
    ("\\3", re.compile(r"\\{1,64}3[0-7]{2}(?:\\{1,64}2[0-7]{2}){1,3}"), 8),
)
_CODE: Final = re.compile(r"(?:%(?:25){0,8}|\\{1,64}x?)([0-9A-Fa-f]{2,3})")
_REFERENCE: Final = re.compile(r"&(?:amp;){0,4}(?:#([0-9]{2,7})|#[xX]0{0,4}([0-9A-Fa-f]{2,6})|([A-Za-z]{3,8}));")
_NAMED: Final = {
    "commat": "@",
    "nbsp": " ",
    "ensp": " ",
    "emsp": " ",
    "thinsp": " ",
    "hairsp": " ",
    "period": ".",
    "plus": "+",
    "hyphen": "-",
    "dash": "-",
    "ndash": "-",
    "mdash": "-",
    "minus": "-",
    "lowbar": "_",
    "colon": ":",
    "equals": "=",
    "sol": "/",
    "Tab": "\t",
    "NewLine": "\n",
    **dict.fromkeys(("shy", "zwj", "zwnj", "lrm", "rlm"), ""),
    "lpar": "(",
    "rpar": ")",
}
_QUOTED: Final = re.compile(r"=(40|2[0BDEF]|3[AD])(?=[0-9A-Za-z+\-(])")
#: How far behind its name a number goes on, as a card, an IBAN or a telephone number with every character escaped.
_LONGEST_NUMBER: Final = 64
#: Controls as JSON's escapes; the one of a terminal's colours stays, as rules know those.
ESCAPED_CONTROLS: Final = CONTROLS.replace("\x1b", "")
#: Any character escaped in JSON, at any depth of JSON within JSON.
_ESCAPED: Final = re.compile(r"\\{1,64}u(?:([dD][89abAB]..)\\{1,64}u([dD][c-fC-F]..)|([0-9A-Fa-f]{4}))")
#: The same in other languages: `\u{200b}` of Rust, Swift, Ruby and JavaScript, `\U0000200b` of C, Go and Python.
_ESCAPED_LONG: Final = re.compile(r"\\{1,64}(?:u\{([0-9A-Fa-f]{1,8})\}|U([0-9A-Fa-f]{8}))")
#: Marks of ASCII that can take part in a value, or stand between it and its name. Quotes and backslashes mean something
#: else without their escape; `<`, `>`, `&` and `'` are escaped by encoders that care about HTML.
MARKS: Final = "@.+-_:= "


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

    def touches(self, start: int, end: int) -> bool:
        """Return whether anything was folded between two characters of the view."""
        first = bisect_left(self._at, start)
        return first < len(self._at) and self._at[first] < end

    def is_plain(self, start: int, end: int) -> bool:
        """Return whether nothing was folded between two characters of the text."""
        first = bisect_left(self._pieces, start, key=_end_in_text)
        return first == len(self._pieces) or self._pieces[first][1] >= end

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


def _end_in_text(piece: tuple[int, int, int]) -> int:
    return piece[2]


def _pieces(text: str) -> list[tuple[int, int, str]]:
    """Return what is folded, in order: start, end, and what stands for it (at most one character)."""
    encoded = _encoded(text)
    taken = frozenset(place for start, end, _ in encoded for place in range(start, end))
    single = ((m.start(), m.end(), chr(int(m[0][-2:], 16))) for m in _PERCENT.finditer(text))
    pieces = encoded + _but(single, taken)
    pieces += [(m.start(), m.end(), " ") for m in _PLUS.finditer(text) if text[m.start() - 1 : m.start()].isalnum()]
    if not text.isascii():
        pure = [place for word in _PURE.finditer(text) for place in range(*word.span())]
        folded = [(m.start(), m.end(), _TABLE[ord(m[0])][:1]) for m in _FOLDABLE.finditer(text)]
        folded = folded if not pure else _but(folded, frozenset(pure))
        pieces += _but(folded, _kept_controls(text)) if has_controls(text) else folded
    elif has_controls(text):
        pieces += _but([(m.start(), m.end(), "") for m in _CONTROL.finditer(text)], _kept_controls(text))
    if "\\u" in text:
        escaped = ((m.start(), m.end(), _meant_in_json(m)) for m in _ESCAPED.finditer(text))
        pieces += [(start, end, plain) for start, end, plain in escaped if plain is not None]
    if "\\u{" in text or "\\U" in text:
        long = ((m.start(), m.end(), _meant_by(int(m[1] or m[2], 16))) for m in _ESCAPED_LONG.finditer(text))
        pieces += [(start, end, plain) for start, end, plain in long if plain is not None]
    if "\\x" in text:
        bytes_ = ((m.start(), m.end(), _meant(int(m[1], 16))) for m in _BYTE.finditer(text))
        pieces += _but(((start, end, plain) for start, end, plain in bytes_ if plain is not None), taken)
    if "&" in text:
        references = ((m.start(), m.end(), _referred(m)) for m in _REFERENCE.finditer(text))
        pieces += [(start, end, plain) for start, end, plain in references if plain is not None]
    signs = [m for m in _QUOTED.finditer(text) if _follows_text(text, m)]
    if signs:
        starts = sorted(start for start, _, _ in pieces)
        pieces += [(m.start(), m.end(), chr(int(m[1], 16))) for m in signs if not _begins_number(text, m, starts)]
    pieces.sort()
    return pieces


def _encoded(text: str) -> list[tuple[int, int, str]]:
    """Return the characters to fold that stand in a text byte by byte, in UTF-8."""
    pieces = []
    for sign, form, base in _ENCODED_FORMS:
        for found in form.finditer(text) if sign in text else ():
            char = bytes(int(code, base) for code in _CODE.findall(found[0])).decode("utf-8", "replace")
            plain = _TABLE.get(ord(char)) if len(char) == 1 else None
            if plain is not None:
                pieces.append((*found.span(), plain[:1]))
    return pieces


def _but(pieces: Iterable[tuple[int, int, str]], places: frozenset[int]) -> list[tuple[int, int, str]]:
    return [piece for piece in pieces if piece[0] not in places]


def _kept_controls(text: str) -> frozenset[int]:
    """Return where controls stay: at a colour of a terminal, which rules know, and between assignments in a list."""
    return frozenset(m.end() - 1 for m in _KEPT_CONTROL.finditer(text))


def _meant_in_json(escape: re.Match[str]) -> str | None:
    """Return what a character that JSON escapes is folded to: a control too, and one of a pair of surrogates."""
    high, low, code = escape.groups()
    if code:
        number = int(code, 16)
        return "" if chr(number) in ESCAPED_CONTROLS else _meant(number)
    try:
        return _meant(0x10000 + ((int(high, 16) & 0x3FF) << 10 | int(low, 16) & 0x3FF))
    except ValueError:
        return None


def _begins_number(text: str, sign: re.Match[str], escapes: list[int]) -> bool:
    """Return whether an equals sign stands between a name and its number, which is escaped in another way.

    `q=4046%206109` is a card after a name, and no `q@46 6109` in quoted-printable.
    """
    behind = sign.end()
    if text[sign.start() - 1].isdigit() or not text[behind : behind + 1].isdigit():
        return False
    following = bisect_left(escapes, behind)
    return following < len(escapes) and escapes[following] < behind + _LONGEST_NUMBER


def _referred(reference: re.Match[str]) -> str | None:
    """Return the character that a reference of HTML stands for, or None where it stays."""
    decimal, digits, name = reference.groups()
    if name:
        return _NAMED.get(name)
    return _meant_by(int(decimal) if decimal else int(digits, 16))


def _meant_by(code: int) -> str | None:
    return _meant(code) if code <= _LAST else None


def _follows_text(text: str, sign: re.Match[str]) -> bool:
    return text[sign.start() - 1 : sign.start()].isalnum()


def _meant(code: int) -> str | None:
    """Return what an escaped character is folded to, or None where its escape stays."""
    char = chr(code)
    if char.isascii():
        return char if char.isalnum() or char in MARKS else None
    return _TABLE[code][:1] if code in _TABLE else None


def fold(text: str) -> Folded | None:
    """Return the view, or None where nothing had to be folded."""
    folded = Folded(text)
    return None if folded.text == text else folded


def unescaped(text: str) -> tuple[str, bool]:
    """Return a view of the same length in which JSON's escapes in text are what they mean, padded.

    Without it the letter of an escaped line break would stick to the word behind it. The escape for `@` stays: the rule
    for e-mail addresses knows it. With it comes whether any has the digits of a code point, which look like a value's.
    """
    rarer = _RARER.search(text)
    if rarer is None:
        return text.replace("\\n", "\n "), False
    pieces = _ESCAPE.split(text)
    pieces[1::2] = map(_meaning_of, pieces[1::2])
    return "".join(pieces), text.find("\\u", rarer.start()) >= 0


@lru_cache(maxsize=1024)
def _meaning_of(escape: str) -> str:
    if escape[-1] in "nrtfb" and "u" not in escape:
        return _MEANINGS.get(escape[1:], "\t" if escape[-1] == "t" else "\n").ljust(len(escape))
    char = chr(int(escape[-4:], 16))
    return char * len(escape) if char.isalnum() else " " * len(escape)
