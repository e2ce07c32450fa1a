"""Looks for values in the bytes of files, however they may be spelled there.

A value counts as found in plain, lower or upper case, as hex, as base64 (of any text around it), JSON-escaped,
percent-encoded, in UTF-16, and for numbers also without their spaces and dashes. SQLite files are searched twice: as
bytes, which sees deleted rows and free pages, and value by value, which sees what lies across two pages.
"""

import base64
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_plus

_SQLITE_MAGIC: Final = b"SQLite format 3\0"
#: Nine digits alone may well be a time or a count; that is why an SSN is looked for with its dashes only.
_SHORTEST_BARE_NUMBER: Final = 10
#: What of a base64 text depends on the bytes before it, by their number modulo 3.
_BASE64_HEAD: Final = (0, 2, 3)


@dataclass(slots=True, frozen=True)
class Leak:
    """A value that was found, and the file it was found in."""

    value: str
    file: Path


def spellings(value: str) -> set[bytes]:
    """Return every way to spell the value that is looked for, in lower case."""
    raw = value.encode()
    found = {raw, raw.hex().encode(), value.encode("utf-16-le"), value.encode("utf-16-be")}
    found |= {json.dumps(value)[1:-1].encode(), json.dumps(json.dumps(value)[1:-1])[1:-1].encode()}
    found |= {quote(value, safe="").encode(), quote(value).encode(), quote_plus(value).encode()}
    found |= set(_base64_cores(raw))
    bare = re.sub(r"[\s()-]", "", value)
    if len(bare) >= _SHORTEST_BARE_NUMBER and re.fullmatch(r"\+?[A-Z]{0,2}\d+", bare):
        found.add(bare.lstrip("+").encode())
    return {spelling.lower() for spelling in found}


def _base64_cores(raw: bytes) -> Iterator[bytes]:
    """Yield what base64 of any text with `raw` in it must contain, for the three ways it can be aligned."""
    for before, head in enumerate(_BASE64_HEAD):
        whole = (before + len(raw)) * 8 // 6  # characters that no later byte changes
        for encoded in (base64.b64encode, base64.urlsafe_b64encode):
            yield encoded(b"\0" * before + raw)[head:whole]


def find(values: Iterable[str], folder: Path) -> list[Leak]:
    """Return every value that occurs in a file below `folder`."""
    needles = {value: spellings(value) for value in values}
    return [
        Leak(value, file)
        for file in files(folder)
        for hay in (_haystack(file),)
        for value, ways in needles.items()
        if any(way in hay for way in ways)
    ]


def files(folder: Path) -> list[Path]:
    """Return the files below the folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _haystack(file: Path) -> bytes:
    raw = file.read_bytes()
    if raw.startswith(_SQLITE_MAGIC):
        raw += b"\n".join(_sqlite_values(file))
    return raw.lower()


def _sqlite_values(file: Path) -> Iterator[bytes]:
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            for row in connection.execute(f'SELECT * FROM "{name}"'):  # noqa: S608 - a name from the schema itself
                yield from (value if isinstance(value, bytes) else str(value).encode() for value in row)
    finally:
        connection.close()
