"""The number of ways in which a regular expression may try to match one text: the worst-case cost of backtracking.

Python's engine tries every way before it gives up, and cannot be interrupted. So a user's pattern is measured before it
is used. The figure is an upper bound: an item that cannot match what the next one begins with has only one way.
"""

from itertools import pairwise
from re import IGNORECASE
from re import _constants as sre  # type: ignore[attr-defined]  # documented nowhere else; see patterns.py
from re import _parser as parser  # type: ignore[attr-defined]  # the same
from typing import Any, Final, NamedTuple

MOST: Final = 10.0**30
"""What is not counted any further."""
#: Sets of characters are bit masks: one bit for each ASCII character, and one for all others.
_OTHERS: Final = 1 << 128
_ALL: Final = (_OTHERS << 1) - 1
_DIGITS: Final = sum(1 << code for code in range(128) if chr(code).isdigit())
_SPACES: Final = sum(1 << code for code in range(128) if chr(code).isspace())
_WORD: Final = sum(1 << code for code in range(128) if chr(code).isalnum() or code == ord("_"))
_CATEGORIES: Final = {
    sre.CATEGORY_DIGIT: _DIGITS | _OTHERS,
    sre.CATEGORY_SPACE: _SPACES | _OTHERS,
    sre.CATEGORY_WORD: _WORD | _OTHERS,
    sre.CATEGORY_NOT_DIGIT: _ALL ^ _DIGITS,
    sre.CATEGORY_NOT_SPACE: _ALL ^ _SPACES,
    sre.CATEGORY_NOT_WORD: _ALL ^ _WORD,
}
_REPEATS: Final = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
_CASE: Final = 1 << 5
"""What the codes of `a` and `A` differ by."""


class _Part(NamedTuple):
    """What is known of a part of a pattern: the ways to match it, what it can begin with, whether it can be empty.

    `inside` are the ways that are tried within it and then forgotten: in an atomic group, or to look around.
    """

    ways: float
    first: int
    empty: bool
    inside: float = 1.0

    def once(self) -> "_Part":
        """Return the same, tried to its end and never again."""
        return self._replace(ways=1.0, inside=min(MOST, self.ways * self.inside))


def ways(pattern: str) -> float:
    """Return an upper bound of the ways in which a pattern is tried at one place; `MOST`: beyond counting."""
    parsed = parser.parse(pattern)
    whole = _sequence(list(parsed), 0, ignore=bool(parsed.state.flags & IGNORECASE))
    return min(MOST, whole.ways * whole.inside)


def _sequence(items: list[Any], behind: int, *, ignore: bool) -> _Part:
    """Measure items one after the other; `behind` is what can stand after the last."""
    total, first, empty, inside = 1.0, 0, True, 1.0
    for item in reversed(items):
        part = _item(item, first | (behind if empty else 0), ignore=ignore)
        total = min(MOST, total * part.ways)
        first = part.first | (first if part.empty else 0)
        empty = empty and part.empty
        inside = max(inside, part.inside)
    return _Part(total, first, empty, inside)


def _item(item: Any, behind: int, *, ignore: bool) -> _Part:
    op, argument = item
    if op in _REPEATS:
        return _repeat(op, argument, behind, ignore=ignore)
    if op is sre.BRANCH:
        return _branch(argument[1], behind, ignore=ignore)
    if op is sre.SUBPATTERN:
        _, added, removed, body = argument
        return _sequence(list(body), behind, ignore=(ignore or bool(added & IGNORECASE)) and not removed & IGNORECASE)
    if op is sre.ATOMIC_GROUP:
        return _sequence(list(argument), behind, ignore=ignore).once()
    if op in (sre.ASSERT, sre.ASSERT_NOT):
        return _sequence(list(argument[1]), _ALL, ignore=ignore).once()._replace(first=0, empty=True)
    if op is sre.AT:
        return _Part(1, 0, empty=True)
    if op in (sre.GROUPREF, sre.GROUPREF_EXISTS):
        return _reference(op, argument, behind, ignore=ignore)
    return _Part(1, _characters(op, argument, ignore=ignore), empty=False)


def _repeat(op: Any, argument: Any, behind: int, *, ignore: bool) -> _Part:
    low, high, items = argument
    body = _sequence(list(items), 0, ignore=ignore)
    body = _sequence(list(items), body.first | behind, ignore=ignore)
    empty = low == 0 or body.empty
    if op is sre.POSSESSIVE_REPEAT:
        return body.once()._replace(empty=empty)
    ambiguous = body.empty or bool(body.first & behind)
    lengths = float(high - low + 1) if low != high and ambiguous else 1.0
    rounds = body.ways ** min(int(high), 100) if body.ways > 1 else 1.0
    return _Part(min(MOST, lengths * rounds), body.first, empty, body.inside)


def _branch(branches: list[Any], behind: int, *, ignore: bool) -> _Part:
    parts = [_sequence(list(branch), behind, ignore=ignore) for branch in branches]
    first = 0
    for part in parts:
        first |= part.first
    most = max(part.ways for part in parts)
    total = most if _exclusive(branches, parts, behind) else min(MOST, sum(part.ways for part in parts))
    return _Part(total, first, any(part.empty for part in parts), max(part.inside for part in parts))


def _exclusive(branches: list[Any], parts: list[_Part], behind: int) -> bool:
    """Return whether no text can match two of the branches."""
    words = [_word(branch) for branch in branches]
    if all(words):
        return not any(longer.startswith(word) for word, longer in pairwise(sorted(map(str, words))))
    taken = 0
    for part in parts:
        starts = part.first | (behind if part.empty else 0)
        if starts & taken:
            return False
        taken |= starts
    return True


def _word(branch: Any) -> str:
    """Return the fixed text that a branch is, in lower case, or "" where it is none."""
    codes = [code for op, code in branch if op is sre.LITERAL]
    return "".join(map(chr, codes)).lower() if len(codes) == len(branch) else ""


def _reference(op: Any, argument: Any, behind: int, *, ignore: bool) -> _Part:
    """What a group held stands here again: it can begin with anything."""
    if op is sre.GROUPREF:
        return _Part(1, _ALL, empty=True)
    parts = [_sequence(list(part), behind, ignore=ignore) for part in argument[1:] if part]
    return _Part(sum(part.ways for part in parts) + 1, _ALL, empty=True, inside=max(part.inside for part in parts))


def _characters(op: Any, argument: Any, *, ignore: bool) -> int:
    if op is sre.LITERAL:
        return _code(argument, ignore=ignore)
    if op is sre.NOT_LITERAL:
        return _ALL ^ (1 << argument if argument < 128 else 0)
    if op is not sre.IN:
        return _ALL  # ANY, and whatever a later version adds
    negated = argument[0][0] is sre.NEGATE
    found = 0
    for kind, what in argument[negated:]:
        if kind is sre.LITERAL:
            found |= _code(what, ignore=ignore)
        elif kind is sre.RANGE:
            low, high = what
            for code in range(low, min(high, 127) + 1):
                found |= _code(code, ignore=ignore)
            found |= _OTHERS if high > 127 else 0
        else:
            found |= _CATEGORIES.get(what, _ALL)
    return (_ALL ^ found) | _OTHERS if negated else found


def _code(code: int, *, ignore: bool) -> int:
    if code > 127:
        return _OTHERS
    return 1 << code | (1 << (code ^ _CASE) if ignore and chr(code).isalpha() else 0)
