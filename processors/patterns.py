"""What the parsed form of a regular expression tells: its width, its literals, whether it may blow up.

The standard library documents the parsed form nowhere else than in `re._parser`, and typeshed does not know it: this
module is the only one that touches it.
"""

from collections.abc import Iterator
from re import _constants as sre  # type: ignore[attr-defined]  # see above
from re import _parser as parser  # type: ignore[attr-defined]  # see above
from typing import Any, Final

_MAX_REPEAT: Final = 65_536
_REPEATS: Final = (sre.MAX_REPEAT, sre.MIN_REPEAT)


def widths(pattern: str) -> tuple[int, int]:
    """Return the least and greatest number of characters that a pattern matches; raises re.error."""
    low, high = parser.parse(pattern).getwidth()
    return int(low), int(high)


def looks_around(pattern: str) -> bool:
    """Tell whether a pattern asserts anything about its neighbours."""
    return any(op in (sre.AT, sre.ASSERT, sre.ASSERT_NOT) for op, _ in parser.parse(pattern))


def longest_literal(pattern: str) -> bytes:
    """Return the longest run of characters that every match of `pattern` holds, or nothing."""
    best = run = ""
    for op, argument in parser.parse(pattern):
        run = run + chr(argument) if op is sre.LITERAL else ""
        best = max(best, run, key=len)
    return best.encode("latin-1")


def blow_up(pattern: str) -> str:
    """Return why a pattern could take more than linear time, or "" where it cannot.

    Refused are repeats without an upper limit, and a varying repeat inside a varying repeat unless one of them is
    possessive or atomic: without those two, backtracking is bounded by a constant.
    """
    return next(_blow_ups(parser.parse(pattern), inside=False), "")


def _blow_ups(parsed: Any, *, inside: bool) -> Iterator[str]:
    for op, argument in parsed:
        if op in _REPEATS or op is sre.POSSESSIVE_REPEAT:
            low, high, body = argument
            if high is sre.MAXREPEAT or high > _MAX_REPEAT:
                yield "repeats without limit: write {0,200} instead of * or +"
            varies = op in _REPEATS and high > 1 and high != low
            if varies and inside:
                yield "repeats inside a repeat: make the inner or the outer one fixed or possessive"
            yield from _blow_ups(body, inside=inside or varies)
        else:
            for part in _parts(op, argument):
                yield from _blow_ups(part, inside=inside and op is not sre.ATOMIC_GROUP)


def _parts(op: Any, argument: Any) -> list[Any]:
    if op is sre.BRANCH:
        return list(argument[1])
    if op is sre.SUBPATTERN:
        return [argument[-1]]
    if op in (sre.ASSERT, sre.ASSERT_NOT):
        return [argument[1]]
    if op is sre.ATOMIC_GROUP:
        return [argument]
    if op is sre.GROUPREF_EXISTS:
        return [part for part in argument[1:] if part]
    return []
