"""Values one behind the other that only show once the one beside them is replaced, such as telephone numbers in a row.

A rule wants a border beside a value, and the next value is none, but its replacement is. A pass over all of the text
would find one such value more each time; here the places beside a replacement are looked at, as long as more is found.
"""

from collections.abc import Callable, Sequence
from typing import Final

from otel_telemetry.processors.detect.detector import UNSCANNED, Match

_Find = Callable[[str], list[Match]]
#: Returns what stands in place of a value of a text; the value itself where it stays.
_Replace = Callable[[str, Match], str]
#: Characters that are looked at beside a replacement, those on its other side, and how far from it a value may begin.
_WINDOW: Final = 112
_CONTEXT: Final = 48
_NEAR: Final = 64


class Chains:
    """Follows what was found in a text to the values beside it."""

    def __init__(self, find: _Find, replace: _Replace) -> None:
        self._find = find
        self._replace = replace

    def follow(self, text: str, found: Sequence[Match]) -> list[Match]:
        """Return what was found in a text, with all that shows beside it once it is replaced; in order."""
        chained: list[Match] = []
        end = 0
        for number, match in enumerate(found):
            if match.start < end:  # an earlier chain came by here
                continue
            if self._replace(text, match) == text[match.start : match.end]:
                chained.append(match)
                end = match.end
                continue
            before = self._backwards(text, match, end)
            after = found[number + 1].start if number + 1 < len(found) else len(text)
            chained += (*before, match, *self._forwards(text, match, after))
            end = chained[-1].end
        return chained

    def _forwards(self, text: str, match: Match, limit: int) -> list[Match]:
        more: list[Match] = []
        left = text[max(0, match.start - _CONTEXT) : match.start]
        while match.type != UNSCANNED:
            left = (left + self._replace(text, match))[-2 * _CONTEXT :]
            window = left + text[match.end : match.end + _WINDOW]
            near, moved = len(left) + _NEAR, match.end - len(left)
            last = min(limit - moved, len(window) - (match.end + _WINDOW < len(text)))
            one = next((m for m in self._find(window) if len(left) <= m.start <= near and m.end <= last), None)
            if one is None:
                break
            left += window[len(left) : one.start]
            match = one._replace(start=one.start + moved, end=one.end + moved)
            more.append(match)
        return more

    def _backwards(self, text: str, match: Match, limit: int) -> list[Match]:
        more: list[Match] = []
        right = text[match.end : match.end + _CONTEXT]
        while match.type != UNSCANNED:
            right = (self._replace(text, match) + right)[: 2 * _CONTEXT]
            start = max(0, match.start - _WINDOW)
            size = match.start - start
            first = max(limit - start, start > 0)
            window = text[start : match.start] + right
            near = [m for m in self._find(window) if size - _NEAR <= m.end <= size and m.start >= first]
            if not near:
                break
            one = near[-1]
            right = window[one.end : size] + right
            match = one._replace(start=one.start + start, end=one.end + start)
            more.append(match)
        return more[::-1]
