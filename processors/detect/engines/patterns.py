"""Properties of a regular expression from its parsed form: its width, its literals, whether backtracking may explode.

The standard library documents the parsed form only in `re._parser`, and typeshed does not know it: only this module and
pattern_cost.py use it.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from re import _constants as sre  # type: ignore[attr-defined]  # see above
from re import _parser as parser  # type: ignore[attr-defined]  # see above
from typing import Any, Final

_MAX_REPEAT: Final = 65_536
_MAX_TEXTS: Final = 24
_MAX_CLASS: Final = 6
_REPEATS: Final = (sre.MAX_REPEAT, sre.MIN_REPEAT)
_ASCII: Final = "".join(map(chr, range(128)))
#: A pattern that begins with a look-behind for one character.
_LOOKS_BEHIND: Final = re.compile(r"(?P<caseless>\(\?i\))?\(\?<!(?P<members>\[(?:\\.|[^\]\\])+\]|\\[wd])\)")


@lru_cache(maxsize=8192)
def widths(pattern: str) -> tuple[int, int]:
    """Return the least and greatest number of characters that a pattern matches; raises re.error."""
    low, high = parser.parse(pattern).getwidth()
    return int(low), int(high)


def looks_around(pattern: str) -> bool:
    """Return whether a pattern asserts anything about its neighbours."""
    return any(op in (sre.AT, sre.ASSERT, sre.ASSERT_NOT) for op, _ in parser.parse(pattern))


def others(members: str) -> frozenset[str]:
    """Return the characters of ASCII that are not in a class such as `[A-Za-z]`: all of them where there is none."""
    return frozenset(_ASCII) - (_found(members) if members else frozenset())


def never_behind(pattern: str) -> frozenset[str]:
    """Return the characters of ASCII that the look-behind with which a pattern begins refuses; none where it has none.

    One in front of the first of several alternatives is not one of the pattern.
    """
    begins = _LOOKS_BEHIND.match(pattern)
    if begins is None or parser.parse(pattern)[0][0] is not sre.ASSERT_NOT:
        return frozenset()
    return _found(begins["members"], re.IGNORECASE if begins["caseless"] else re.NOFLAG)


@lru_cache(maxsize=256)
def _found(members: str, flags: re.RegexFlag = re.NOFLAG) -> frozenset[str]:
    return frozenset(re.findall(members, _ASCII, re.ASCII | flags))


def steers(pattern: str) -> bool:
    """Return whether a pattern has parts that only a backtracking engine knows: atomic, possessive, or a reference."""
    return _holds(parser.parse(pattern), (sre.ATOMIC_GROUP, sre.POSSESSIVE_REPEAT, sre.GROUPREF, sre.GROUPREF_EXISTS))


def _holds(parsed: Any, wanted: tuple[Any, ...]) -> bool:
    for op, argument in parsed:
        parts = [argument[2]] if op in _REPEATS else _parts(op, argument)
        if op in wanted or any(_holds(part, wanted) for part in parts):
            return True
    return False


def shapeless(pattern: str) -> bool:
    """Return whether a pattern takes nearly any text of its length: `..`, `[^x]{4}`."""
    return _shapeless(parser.parse(pattern))


def _shapeless(parsed: Any) -> bool:
    return all(
        op in (sre.ANY, sre.NOT_LITERAL)
        or (op is sre.IN and argument[0][0] is sre.NEGATE)
        or (op in _REPEATS and _shapeless(argument[2]))
        or (op is sre.SUBPATTERN and _shapeless(argument[-1]))
        for op, argument in parsed
    )


def literals(pattern: str) -> frozenset[str]:
    """Return texts of which every match of `pattern` holds one, as long as can be told; empty where none can."""
    best: list[str] = [""]
    run: list[str] = [""]
    for item in parser.parse(pattern):
        spelt = _spellings([item])
        run = [head + tail for head in run for tail in spelt] if spelt and len(run) * len(spelt) <= _MAX_TEXTS else [""]
        best = max(best, run, key=lambda texts: min(map(len, texts)))
    return frozenset(best) if all(best) else frozenset()


def _spellings(parsed: Any) -> list[str]:
    """Return every text that a part of a pattern matches, or nothing where they are too many to tell."""
    texts = [""]
    for op, argument in parsed:
        if op is sre.LITERAL:
            part = [chr(argument)]
        elif op is sre.SUBPATTERN:
            part = _spellings(argument[-1])
        elif op is sre.BRANCH:
            branches = [_spellings(branch) for branch in argument[1]]
            part = [text for branch in branches for text in branch] if all(branches) else []
        elif op is sre.IN and len(argument) <= _MAX_CLASS and all(kind is sre.LITERAL for kind, _ in argument):
            part = [chr(code) for _, code in argument]
        else:
            return []
        texts = [head + tail for head in texts for tail in part]
        if not part or len(texts) > _MAX_TEXTS:
            return []
    return texts


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
