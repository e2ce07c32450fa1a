"""Quotes around names and values: plain, escaped as in JSON within JSON, three in a row, and as entities of HTML."""

import re
from typing import Final, NamedTuple

MAX_VALUE: Final = 8192
_ENTITY: Final = "&(?:quot|apos|#34|#39|#x22|#x27);"
#: One quote, with its backslashes.
MARK: Final = rf"\\{{0,15}}[\"'`]|{_ENTITY}"
#: Prefixes of strings in Python and SQL: b"x", r"x", N'x'.
_OPENING: Final = re.compile(
    rf"[bBrRuUfFN]{{0,2}}(?:(?P<three>(?P<one>\\{{0,15}}[\"'])(?P=one){{2}})|(?P<plain>(?P<slashes>\\{{0,15}})[\"'`]|{_ENTITY}))"
)
_PLAIN: Final = {
    '"': re.compile(r'(?:[^"\\\n]|\\.){0,8192}+'),
    "'": re.compile(r"(?:[^'\\\n]|\\.){0,8192}+"),
    "`": re.compile(r"(?:[^`\\\n]|\\.){0,8192}+"),
}
_THREE: Final = 3
#: With what a quote or its prefix begins; and the quotes that need no search for backslashes.
_BEGINS: Final = frozenset("bBrRuUfFN\\\"'`&")
_SINGLE: Final = frozenset("\"'")


class Quote(NamedTuple):
    """A quote that opens a value: its characters, how many backslashes are among them, and where the value starts."""

    mark: str
    slashes: int
    end: int


def opening(text: str, at: int) -> Quote | None:
    """Return the quote that opens here, or None."""
    first = text[at : at + 1]
    if first in _SINGLE and text[at + 1 : at + 2] != first:
        return Quote(first, 0, at + 1)
    found = _OPENING.match(text, at) if first in _BEGINS else None
    if found is None:
        return None
    return Quote(found["three"] or found["plain"], len(found["slashes"] or ""), found.end())


def closing(text: str, quote: Quote) -> int:
    """Return where the value ends that a quote opens."""
    if quote.slashes:
        return _escaped_closing(text, quote.slashes, quote.mark[-1], quote.end)
    if len(quote.mark) >= _THREE:
        end = text.find(quote.mark, quote.end, quote.end + MAX_VALUE)
        return end if end >= 0 else min(len(text), quote.end + MAX_VALUE)
    mark, start = quote.mark, quote.end
    end = text.find(mark, start, start + MAX_VALUE + 1)
    if end >= 0 and text.find("\\", start, end) < 0 and text.find("\n", start, end) < 0:
        return end
    found = _PLAIN[mark].match(text, start)
    return found.end() if found else start


def _escaped_closing(text: str, level: int, mark: str, start: int) -> int:
    """Return where a value ends whose opening quote has `level` backslashes: JSON text inside JSON text.

    There, one backslash of the value takes level + 1 of them. A quote closes the value where an even number of the
    value's own backslashes stand before its escape; one with fewer backslashes closes what the value stands in.
    """
    limit = min(len(text), start + MAX_VALUE)
    at = text.find(mark, start, limit)
    while at >= 0:
        before = at
        while before > start and text[before - 1] == "\\":
            before -= 1
        run = at - before
        if run < level:
            return before
        if (run - level) % (2 * (level + 1)) == 0:
            return at - level
        at = text.find(mark, at + 1, limit)
    return limit
