"""Secrets in columns: CSV and its kin, tables of databases and of Markdown, rows of SQL's INSERT and COPY.

The head names the columns; the value in a column with a strong name goes in every row, under a weak name by its look.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from otel_telemetry.processors.detect.kinds.validators import Span
from otel_telemetry.processors.detect.names import keys, looks
from otel_telemetry.processors.detect.names.looks import Form

_LONGEST_HEAD: Final = 4000
_MOST_COLUMNS: Final = 256
_DELIMITERS: Final = ",;\t|"
_NAME: Final = re.compile(r"[A-Za-z_@\x80-\U0010ffff][\w .@/#\x80-\U0010ffff-]{0,48}(?:\([\w ]{1,20}\))?")
_SPACED_NAME: Final = re.compile(r"[A-Za-z_][\w.@-]{0,48}")
#: A line between head and rows, or above the head: `---+----`, `|---|:--:|`, `+----+`.
_RULED: Final = re.compile(r"[ \t]*[|+]?[ \t]*:?-{2,}:?[ \t]*(?:[|+][ \t]*:?-{2,}:?[ \t]*)*[|+]?[ \t\\]*")
_CELL: Final = {
    mark: re.compile(
        rf'(?:[ ]?(?P<b>\\{{0,15}})"(?:[^"\\]|""){{0,4096}}+(?P=b)"[ \t\\]*)(?=$|[{mark}])|[^{mark}\n]{{0,4096}}+'
    )
    for mark in _DELIMITERS
}
#: Where a string opens in JSON that holds the head of a table.
_OPENED: Final = re.compile(r"[:\[=(,] ?(?P<mark>\\{0,15}\")")
_TRIES: Final = 8
_MOST_TRIES: Final = 64  # of beginnings of one head
_TRIMMED: Final = " \t\r\\"
_SENTENCE: Final = frozenset(
    "a an the is are was be has have must should can may will would do does not to and or but if as that this it your"
    " you we they which when where into between use used using see set get add please".split()
)
_SQL_NAME: Final = "\"'`[] \r\n\t"
_SQL_STRING: Final = r"(?:[nN]?'(?:[^'\\]|''|\\.)*'|\"[^\"]*\")"
#: A value is a literal, or an expression of few parts; what is between them is not long.
_SQL_VALUE: Final = re.compile(rf"\s*((?:{_SQL_STRING}|\([^()]{{0,400}}\)|[^,'\"()]{{1,400}}+){{1,8}}+)")
_SQL_LITERAL: Final = re.compile(rf"{_SQL_STRING}(?:\s{{0,4}}(?:\|\|\s{{0,4}})?{_SQL_STRING}){{0,8}}")
_ROW_OPENS: Final = re.compile(r"\s*\(")
_ROW_CLOSES: Final = re.compile(r"\s*\)\s*,\s*(?=\()")
_QUOTED: Final = Form(quoted=True, spaced=False, separator=",")
_SPACES: Final = frozenset(
    {keys.PERSON, keys.AUTHORIZATION, keys.COOKIE, keys.SSN, keys.CREDIT_CARD, keys.DATE_OF_BIRTH}
)


class Tables:
    """The tables of one text, whose heads may be anywhere in it. No row is read twice for a column of the same kind."""

    def __init__(self) -> None:
        self._tried: dict[int, set[int]] = {}  # by the end of a head: where it may begin, as far as that was tried
        self._read: dict[tuple[str, int, int, str], int] = {}  # up to where a column was read, by what it is
        self._closings: dict[str, tuple[int, int]] = {}

    def columns(self, text: str, match: re.Match[str]) -> Span | None:
        """Accept the values below a head that names a secret or a person; the match is a name beside a delimiter."""
        low = max(0, match.start() - _LONGEST_HEAD)
        start = text.rfind("\n", low, match.start()) + 1
        end = text.find("\n", match.start() + 1, match.end() + _LONGEST_HEAD)
        if end < 0 or (low and not start):
            return None
        span = self._below(text, start, end)
        if span is None and (colon := text.rfind(": ", start, match.start())) >= 0:  # what is said of the table
            span = self._below(text, colon + 2, end)
        for opened in reversed(list(_OPENED.finditer(text, start, match.end()))[-_TRIES:]) if span is None else ():
            span = self._below(text, opened.end(), end, opened["mark"])
            if span:
                break
        return span

    def copied(self, text: str, match: re.Match[str]) -> Span | None:
        """Accept the values of PostgreSQL's COPY: lines with tabs, up to a line with a backslash and a dot."""
        names = [column.strip(_SQL_NAME) for column in match["columns"].split(",")]
        return _first(self._rows(text, match.end(), len(text), "\t", names))

    def _below(self, text: str, start: int, end: int, mark: str = "") -> Span | None:
        """Return what is to go below a head that ends at the line break `end`.

        `mark`: the quote that opens the string of JSON that the head begins. The table ends where that closes.
        """
        tried = self._tried.setdefault(end, set())
        if start in tried or len(tried) >= _MOST_TRIES:
            return None
        tried.add(start)
        head = text[start:end].rstrip("\r\\")
        for delimiter in _DELIMITERS:
            names = _names(head, delimiter) if delimiter in head else []
            if names and _is_first(text, start, delimiter, len(names)):
                limit = self._closing(text, end, mark) if mark else len(text)
                ruled = head.lstrip().startswith("|")
                return _first(self._rows(text, end + 1, limit, delimiter, names, ruled=ruled))
        return None

    def _closing(self, text: str, at: int, mark: str) -> int:
        """Return where the string that such a quote opened closes, behind `at`; heads come in order."""
        searched, closing = self._closings.get(mark, (0, -1))
        if not searched <= at <= closing:
            closed = re.compile(rf"(?<!\\){re.escape(mark)}\s{{0,4}}(?:[,}}\])]|$)").search(text, at)
            closing = closed.start() if closed else len(text)
            self._closings[mark] = at, closing
        return closing

    def _rows(
        self, text: str, at: int, limit: int, delimiter: str, names: Sequence[str], *, ruled: bool = False
    ) -> Iterator[Span]:
        """Yield what is to go of the rows from `at` up to the first line that is none, but for what was read before."""
        wanted = [(number, kind) for number, kind in enumerate(_kinds(names)) if kind]
        if ruled and wanted and not _RULED.fullmatch(text, at, _end_of_line(text, at, limit)):
            return
        kinds = {number: (delimiter, len(names), number, _found_as(names[number], kind)) for number, kind in wanted}
        read = {number: max(at, self._read.get(key, 0)) for number, key in kinds.items()}
        at = min(read.values(), default=limit)
        while at < limit:
            end = _end_of_line(text, at, limit)
            due = [(number, kind) for number, kind in wanted if read[number] <= at]
            if not _RULED.fullmatch(text, at, end):
                cells = _cells(text, at, end - (text[end - 1] == "\r"), delimiter)
                if len(cells) != len(names):
                    return
                for number, kind in due:
                    if span := _cell(text, cells[number], names[number], kind):
                        yield span
            at = end + 1
            for number, _ in due:
                self._read[kinds[number]] = at


def _end_of_line(text: str, at: int, limit: int) -> int:
    end = text.find("\n", at, limit)
    return end if end >= 0 else limit


def _found_as(name: str, kind: str) -> str:
    return keys.found_as(name) if kind in keys.WEAK_KINDS else kind


def head_of(text: str) -> str:
    """Return the first line of a text, with its end, if it is the head of a table that holds secrets; else ""."""
    end = text.find("\n", 0, _LONGEST_HEAD) + 1
    head = text[:end].rstrip("\r\n")
    for delimiter in _DELIMITERS if end else "":
        if any(_kinds(_names(head, delimiter))):
            return text[:end]
    return ""


def sql_insert(text: str, match: re.Match[str]) -> Span | None:
    """Accept the values of INSERT whose columns have strong names, in every row."""
    names = [column.strip(_SQL_NAME) for column in match["columns"].split(",")]
    kinds = _kinds(names)
    if not any(kinds):
        return None
    at = match.end()
    if text[at - 1] != "(":  # INSERT ... SELECT
        return _first(span for span, _ in _sql_row(text, at, names, kinds) if span.type)
    return _first(_sql_rows(text, at - 1, names, kinds))


def _kinds(names: Sequence[str]) -> list[str]:
    return [keys.classify(name.replace(" ", "_")) for name in names]


def _first(spans: Iterator[Span]) -> Span | None:
    first = next(spans, None)
    return None if first is None else first._replace(more=tuple(spans))


def _names(head: str, delimiter: str) -> list[str]:
    """Return the names in a head, or none where it is no head."""
    cells = [head[low:high] for low, high in _cells(head, 0, len(head), delimiter)]
    if not 1 < len(cells) <= _MOST_COLUMNS:
        return []
    spaced = delimiter in ",;" and any(cell[:1] == " " for cell in cells)
    pattern = _SPACED_NAME if spaced else _NAME
    names = [cell.strip(_TRIMMED).strip("\"'`\\").strip() for cell in cells]
    if any(" " in name and not _SENTENCE.isdisjoint(name.lower().split()) for name in names):
        return []
    return names if all(pattern.fullmatch(name) for name in names) and len(set(names)) == len(names) else []


def _is_first(text: str, start: int, delimiter: str, number: int) -> bool:
    """Return whether the line above is no row of the same table."""
    if text[start - 1 : start] not in ("", "\n"):  # in a string of JSON
        return True
    above = text[text.rfind("\n", max(0, start - 1 - _LONGEST_HEAD), max(0, start - 1)) + 1 : max(0, start - 1)]
    return not above.strip() or above.count(delimiter) + 1 < number or _RULED.fullmatch(above.rstrip("\r")) is not None


def _cells(text: str, start: int, end: int, delimiter: str) -> list[tuple[int, int]]:
    """Return the places of a line's cells; bars at its edges are no cells."""
    pattern = _CELL[delimiter]
    if delimiter == "|":
        while start < end and text[start] in " \t":
            start += 1
        while end > start and text[end - 1] in _TRIMMED:
            end -= 1
        start += text[start : start + 1] == "|"
        end -= end > start and text[end - 1] == "|"
    cells: list[tuple[int, int]] = []
    while start <= end and len(cells) <= _MOST_COLUMNS:
        found = pattern.match(text, start, end)
        if found is None:
            break
        cells.append(found.span())
        start = found.end() + 1
    return cells


def _cell(text: str, place: tuple[int, int], name: str, kind: str) -> Span | None:
    start, end = place
    while start < end and text[start] in _TRIMMED:
        start += 1
    while end > start and text[end - 1] in _TRIMMED:
        end -= 1
    quoted = end - start > 1 and text[start] in "\"'" and text[end - 1] == text[start]
    start, end = (start + 1, end - 1) if quoted else (start, end)
    while end > start and text[end - 1] == "\\":
        end -= 1
    value = text[start:end]
    if not value or looks.stands_in(value) or looks.is_marked(value):
        return None
    if kind in keys.WEAK_KINDS:
        return Span(start, end, keys.found_as(name)) if looks.weak(kind, value, _QUOTED) else None
    if " " in value and not quoted and kind not in _SPACES:
        return None
    return Span(start, end, kind) if looks.strong(kind, value) else None


def _sql_rows(text: str, at: int, names: Sequence[str], kinds: Sequence[str]) -> Iterator[Span]:
    while opened := _ROW_OPENS.match(text, at):
        at = opened.end()
        for span, end in _sql_row(text, at, names, kinds):
            at = end
            if span.type:
                yield span
        closed = _ROW_CLOSES.match(text, at)
        if closed is None:
            return
        at = closed.end()


def _sql_row(text: str, at: int, names: Sequence[str], kinds: Sequence[str]) -> Iterator[tuple[Span, int]]:
    """Yield for each value what is to go, or a span without a type, and where the value ends."""
    for name, kind in zip(names, kinds, strict=True):
        value = _SQL_VALUE.match(text, at)
        if value is None:
            return
        yield _sql_value(text, value.span(1), name, kind), value.end()
        at = value.end()
        if text[at : at + 1] != ",":
            return
        at += 1


def _sql_value(text: str, place: tuple[int, int], name: str, kind: str) -> Span:
    start, end = place
    quoted = _SQL_LITERAL.match(text, start, end)
    if quoted:
        start, end = start + 1 + (text[start] in "nN"), quoted.end() - 1
    inner = text[start:end].strip()
    literal = quoted or inner.isdigit()
    fits = literal and kind and not looks.stands_in(inner) and not looks.is_marked(inner)
    if fits and kind in keys.WEAK_KINDS:
        return Span(start, end, keys.found_as(name) if looks.weak(kind, inner, _QUOTED) else "")
    return Span(start, end, kind if fits and looks.strong(kind, inner) else "")
