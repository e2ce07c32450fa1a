"""Texts of somebody else's, made harmless for terminals, for eyes and for spreadsheets."""

import json
import re
from typing import Final

_CONTROL: Final = (
    *range(0x20), *range(0x7F, 0xA0), 0x061C, 0x200E, 0x200F, 0x2028, 0x2029, *range(0x202A, 0x202F),
    *range(0x2066, 0x206A), 0xFEFF, *range(0xE0000, 0xE0080),
)  # fmt: skip
#: Control characters, and those that turn or break a line, as the escapes that Python writes for them.
_VISIBLE: Final = {code: chr(code).encode("unicode_escape").decode() for code in _CONTROL}
_LINES: Final = {code: text for code, text in _VISIBLE.items() if chr(code) not in "\n\t"}
#: The same within JSON, which has its own escapes for the others.
_IN_JSON: Final = {code: json.dumps(chr(code))[1:-1] for code in _CONTROL if chr(code) > " "}
#: How a formula begins in one spreadsheet or another, also in the full-width forms and behind what is not seen.
_FORMULA: Final = re.compile(
    r"[\s\x00-\x20\x7f-\xa0\u200b-\u200f\ufeff]*[=+\-@|%\uff1d\uff0b\uff0d\uff20\u2212]|[\t\r\n]"
)
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")


def plain(text: str) -> str:
    """Return a text in which characters that control a terminal or reorder text are shown as escapes."""
    return text.translate(_VISIBLE)


def plain_json(text: str) -> str:
    """Return JSON with such characters as JSON's own escapes: it means the same."""
    return text.translate(_IN_JSON)


def plain_lines(text: str) -> str:
    """Return a text of several lines, with all other characters that control a terminal or reorder text as escapes."""
    return text.replace("\r\n", "\n").translate(_LINES)


def spreadsheet(text: str) -> str:
    """Return a text as a cell of CSV: one that begins like a formula gets a quote in front, which makes it text."""
    return f"'{plain(text)}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else plain(text)
