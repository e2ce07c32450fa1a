"""Makes findings from a model's spans: joins parts of addresses, and leaves out markers of redaction.

A span is `(start, end, type)` in characters, end exclusive. Both recognisers of names use these functions.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from otel_telemetry.processors.detect.detector import Match

PERSON: Final = "PERSON"
LOCATION: Final = "LOCATION"
ADDRESS: Final = "ADDRESS"
DATE_TIME: Final = "DATE_TIME"
Span = tuple[int, int, str]
_PRIORITY: Final = 40
#: What redaction wrote before: no part of it is anybody's name.
_WRITTEN: Final = re.compile(r"\[REDACTED_[A-Z0-9_]{1,40}\]|\*{4}[^\s*]{0,4}|\b[a-z0-9]{1,16}_[0-9a-f]{12,64}\b")
#: Halves of surrogate pairs, which no tokenizer takes, and control characters, which would be part of a word.
_ODD: Final = re.compile("[\ud800-\udfff\x00-\x08\x0b-\x0c\x0e-\x1f\x7f]")
#: A house number before a street, also `12b, `, and a postal code behind a place: 90210, SW1A 1AA, 75008, D-10117.
_HOUSE: Final = re.compile(r"(?<![\w.,-])(?!(?:19|20)\d\d )\d{1,5}[A-Za-z]?(?:[-/]\d{1,4})?,? {1,2}$")
_HOUSE_AFTER: Final = re.compile(r" \d{1,4} ?[a-z]?(?=\s*(?:[,;.)\n]|$))")
_POSTAL: Final = re.compile(
    r",? {1,2}(?:[A-Z]{2},? )?(?:[A-Z]{1,2}-)?"
    r"(?:\d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|\d{4} ?[A-Z]{2}|\d{3} \d{2})(?!\w)"
)
_JOINT: Final = re.compile(r",? {0,2}\n?$")


class Recogniser(Protocol):
    """What finds names, places and dates in texts. Thread-safe."""

    @property
    def model(self) -> str:
        """What it finds them with, for log lines and `explain`."""

    def find(self, texts: Sequence[str]) -> list[list[Match]]:
        """Return what each text holds: in order, without overlaps, and never within what redaction wrote."""


def readable(text: str) -> str:
    """Return a text of the same length with a space for each character that no model reads."""
    return _ODD.sub(" ", text)


def matches(text: str, spans: Sequence[Span]) -> list[Match]:
    """Return the findings of a text from the spans in it, which are in order."""
    written = [match.span() for match in _WRITTEN.finditer(text)] if spans else []
    pieces = [piece for span in spans for piece in _outside(text, written, *span)]
    return [Match(start, end, kind, f"ner.{kind.lower()}", _PRIORITY) for start, end, kind in _addresses(text, pieces)]


def _outside(
    text: str, written: Sequence[tuple[int, int]], start: int, end: int, kind: str
) -> Iterator[tuple[int, int, str]]:
    """Yield the parts of a span that redaction did not write, without white space and quotes around them."""
    at = start
    for before, behind in written:
        if behind <= start or before >= end:
            continue
        yield from _trimmed(text, at, before, kind)
        at = behind
    yield from _trimmed(text, at, end, kind)


def _trimmed(text: str, start: int, end: int, kind: str) -> Iterator[tuple[int, int, str]]:
    while start < end and not text[start].isalnum():
        start += 1
    while end > start and not text[end - 1].isalnum():
        end -= 1
    if start < end:
        yield start, end, kind


def _addresses(text: str, spans: Sequence[tuple[int, int, str]]) -> Iterator[tuple[int, int, str]]:
    """Yield spans in which places with their numbers are whole postal addresses: `12 Baker Street, London NW1 6XE`."""
    last: tuple[int, int, str] | None = None
    for start, end, kind in spans:
        span = _numbered(text, start, end) if kind == LOCATION else (start, end, kind)
        if last is None:
            last = span
        elif span[0] < last[1] or (_is_location(last) and _is_location(span) and _JOINT.match(text[last[1] : span[0]])):
            joined = ADDRESS if ADDRESS in (last[2], span[2]) else last[2]
            last = (last[0], max(last[1], span[1]), joined)
        else:
            yield last
            last = span
    if last is not None:
        yield last


def _is_location(span: tuple[int, int, str]) -> bool:
    return span[2] in (LOCATION, ADDRESS)


def _numbered(text: str, start: int, end: int) -> tuple[int, int, str]:
    """Return a place with the house number and the postal code beside it; with one of them it is an address."""
    house = _HOUSE.search(text[max(0, start - 16) : start])
    begin = start - len(house[0]) if house else start
    behind = _HOUSE_AFTER.match(text, end) or _POSTAL.match(text, end)
    stop = behind.end() if behind else end
    postal = _POSTAL.match(text, stop)
    stop = postal.end() if postal else stop
    return begin, stop, ADDRESS if (begin, stop) != (start, end) else LOCATION
