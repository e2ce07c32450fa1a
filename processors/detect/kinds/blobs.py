"""Long runs of base64 or hex digits: images, audio, encrypted content, digests. Nothing in their middle is a value.

By chance a megabyte of base64 holds a few texts of any short prefix, so what was found inside such a run is not taken.
"""

import re
from typing import Final

_DIGITS: Final = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/_-")
#: The characters of base64 and base64url, also as URLs and JSON escape them; backwards, and forwards.
_BEFORE: Final = re.compile(r"(?:[0-9A-Za-z+_\-]|/\\?|[BbFf]2%)*")
_BEHIND: Final = re.compile(r"(?:[0-9A-Za-z+/_\-]|\\/|%2[BbFf])*")
_ALPHABET: Final = re.compile(r"[0-9A-Za-z+/_\-]+={0,2}")
#: A break between two full lines of a blob that was written in lines.
_BREAK: Final = re.compile(r"(?<=[0-9A-Za-z+/_\-]{40})[ \t]{0,4}\r?\n[ \t]{0,8}(?=[0-9A-Za-z+/_\-=])")
_REACH: Final = 400
#: So long is no path and no name.
_LONG: Final = 160
#: So long a neighbour is a blob where it looks drawn at random.
_SHORT: Final = 24
#: Characters of a line of a blob, at least; those before it; and those by which one token is told from the next.
_FULL: Final = 60
_INDENT: Final = 16
_PREFIX: Final = 3
#: Different characters of a blob; silence and black are `A` over and over.
_VARIETY: Final = 12
_SEPARATOR: Final = re.compile(r"[/_\-]")
_ESCAPED: Final = ("%2b", "%2f")
#: What stands behind a value where a run may go on: its characters, the first of an escaped one, or the end of a line.
_GOES_ON: Final = _DIGITS | frozenset("%\\\r\n")


def inside_blob(text: str, start: int, end: int) -> bool:
    """Return whether what stands between two places of a text is a part of a longer run of base64 or hex digits."""
    if text[end : end + 1] not in _GOES_ON and text[max(0, start - 1) : start] not in _DIGITS:
        return False
    if _ALPHABET.fullmatch(text, start, end) is None:
        return False
    before, behind = text[max(0, start - 3) : start], text[end : end + 3]
    goes_back = before[-1:] in _DIGITS or before.lower() in _ESCAPED
    goes_on = behind[:1] in _DIGITS or behind.lower() in _ESCAPED or behind[:2] == "\\/"
    in_lines = behind[:1] in ("\n", "\r")
    if not (goes_back or goes_on or in_lines):
        return False
    if in_lines and _is_full_line(text, start, end):
        return True
    if goes_back:
        run = _BEFORE.match(_joined(text[max(0, start - _REACH) : start])[::-1])
        if run is not None and _is_blob(run[0]):
            return True
    run = _BEHIND.match(_joined(text[start : end + _REACH]), end - start) if goes_on else None
    return run is not None and _is_blob(run[0])


def _is_full_line(text: str, start: int, end: int) -> bool:
    """Return whether a value ends one of a blob's lines: the next is as long, and no other such value."""
    first = max(text.rfind("\n", max(0, start - _REACH), start) + 1, start - _REACH, 0)
    line = text[first:end].strip(" \t")
    below = text[end : end + _REACH].lstrip("\r\n")[: len(line) + _INDENT].partition("\n")[0].strip(' \t\r\\"')
    if len(line) < _FULL or _ALPHABET.fullmatch(line) is None or _ALPHABET.fullmatch(below) is None:
        return False
    return len(line) == len(below) and line[:_PREFIX] != below[:_PREFIX]


def _joined(text: str) -> str:
    """Return text with the full lines of blobs joined."""
    return _BREAK.sub("", text) if "\n" in text else text


def _is_blob(run: str) -> bool:
    """Return whether a run beside a value is a part of a blob: long, or drawn at random and in few pieces."""
    size = len(run)
    if size < _SHORT:
        return False
    pieces = len(_SEPARATOR.findall(run))
    if size >= _LONG:
        return pieces * 8 <= size and (len(set(run)) >= _VARIETY or run.count("A") * 2 > size)
    if pieces * 12 > size:
        return False
    digits = sum(map(str.isdigit, run))
    capitals = sum(map(str.isupper, run))
    small = sum(map(str.islower, run))
    return digits >= 2 and ((capitals >= 4 and small >= 4) or digits * 4 >= size)
