"""Words of any script as triggers and patterns: as UTF-8, and as JSON's escapes in JSON within JSON.

When a rule runs, an escape is replaced by its letter, repeated to the length of the escape, or by spaces if it is not a
letter.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

#: Letters by which a word is located; the pattern wants all of it.
_LOCATED: Final = 3
#: Backslashes before the `u` of an escape, in JSON, in JSON within it, and once more.
_LEVELS: Final = (1, 2, 4)
_REPEATED: Final = "{1,70}+"


def located(words: Iterable[str]) -> list[str]:
    """Return the triggers of words: their first letters in lower case, as a title and in capitals."""
    return list(dict.fromkeys(trigger for word in words for start in _cases(word) for trigger in _forms(start)))


def pattern(words: Iterable[str]) -> str:
    """Return a pattern of words; of two that begin alike, the longer comes first."""
    ordered = sorted(dict.fromkeys(words), key=len, reverse=True)
    return "|".join("".join(_letter(char, len(list(run))) for char, run in groupby(word)) for word in ordered)


def _cases(word: str) -> Iterator[str]:
    foreign = next(place for place, char in enumerate(word, 1) if not char.isascii())
    start = word[: max(_LOCATED, foreign)]
    yield from dict.fromkeys((start, start[0].upper() + start[1:], start.upper()))


def _forms(start: str) -> Iterator[str]:
    yield "".join(f"\\x{byte:02x}" for byte in start.encode())
    for level in _LEVELS:
        yield "\\\\" + ("\\\\" * (level - 1)).join(_escape(start, level))


def _escape(start: str, level: int) -> list[str]:
    digits = ["".join(f"[{d}{d.upper()}]" if d.isalpha() else d for d in f"{ord(char):04x}") for char in start]
    slash = "\\\\"
    return [f"u{code}{slash if level and number < len(digits) - 1 else ''}" for number, code in enumerate(digits)]


def _letter(char: str, count: int) -> str:
    """Return the pattern of a letter that stands so many times in a row."""
    if char.isascii():
        return re.escape(char) * count
    if not char.isalnum():
        return rf"(?:{char}|\s{_REPEATED})" * count
    repeated = _REPEATED.replace("1", str(count), 1)
    both = "".join(dict.fromkeys((char, char.upper()))) if len(char.upper()) == 1 else char
    return f"[{both}]{repeated}" if len(both) > 1 else char + repeated
