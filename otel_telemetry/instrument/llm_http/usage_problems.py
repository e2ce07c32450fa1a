"""Checks the counts of an answer: the row of the call reports what is wrong, and counts nothing of it."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from otel_telemetry.base import conventions
from otel_telemetry.instrument.llm_http.dialects import base
from otel_telemetry.instrument.llm_http.dialects.base import CallState, Json

#: Where answers, and the last events of streams, have their usage.
_PARTS: Final = ("response", "message", "interaction", "delta", "result")
_ANY_PART: Final = frozenset(_PARTS)
_NAMES: Final = ("usage", "usageMetadata")
_TOTALS: Final = ("total_tokens", "totalTokenCount")
_COUNTS: Final = ("tokens", "tokencount")
_MOST: Final = 8
_TOO_MANY: Final = 1 << 53
_ANY_TOTAL: Final = frozenset(_TOTALS)


def look(seen: CallState, value: Json) -> None:
    """Note what is wrong with the usage of an answer, if it has one; a later one replaces an earlier one."""
    _look_at(seen, value)
    if not _ANY_PART.isdisjoint(value):
        for part in (value[name] for name in _PARTS if isinstance(value.get(name), dict)):
            _look_at(seen, part)


def _look_at(seen: CallState, part: Json) -> None:
    for name in _NAMES:
        usage = part.get(name)
        if usage is None:
            continue
        if not _is_plain(seen, usage):
            _note(seen, [*_problems(seen, name, usage)])
        elif seen.also:
            _note(seen, [])


def _is_plain(seen: CallState, usage: Any) -> bool:
    """Return True quickly for a usage without problems, as nearly all are: counts only, and a total that fits."""
    if type(usage) is not dict:
        return False
    for raw in usage.values():
        if type(raw) is int:
            if not 0 <= raw < _TOO_MANY:
                return False
        elif raw is not None and not (type(raw) is dict and _are_counts(raw.values())):
            return False
    if _ANY_TOTAL.isdisjoint(usage):
        return True
    counted = (seen.input_tokens or 0) + (seen.output_tokens or 0)
    return all(usage.get(name) in (None, counted) for name in _TOTALS)


def _are_counts(values: Iterable[Any]) -> bool:
    for each in values:  # noqa: SIM110 - a generator takes longer
        if each is not None and (type(each) is not int or not 0 <= each < _TOO_MANY):
            return False
    return True


def _note(seen: CallState, problems: list[str]) -> None:
    if problems:
        seen.also[conventions.USAGE_PROBLEMS] = problems[:_MOST]
    else:
        seen.also.pop(conventions.USAGE_PROBLEMS, None)


def _problems(seen: CallState, name: str, usage: Any) -> Iterator[str]:
    if not isinstance(usage, dict):
        yield f"{name}: {conventions.NOT_A_MAP}"
        return
    for part in (usage, *(each for each in usage.values() if isinstance(each, dict))):
        yield from (f"{key}: {_kind(raw)}" for key, raw in part.items() if _is_no_count(key, raw))
    yield from _of_total(seen, usage)


def _is_no_count(key: Any, raw: Any) -> bool:
    """Return whether a value under the name of a count is not a count; null means unknown."""
    is_count = isinstance(key, str) and len(key) < base.MAX_TEXT and key.lower().endswith(_COUNTS)
    return is_count and raw is not None and not isinstance(raw, (dict, list)) and base.count(raw) is None


def _kind(raw: Any) -> str:
    if isinstance(raw, bool) or not isinstance(raw, (int, float)):
        return conventions.NOT_A_NUMBER
    if raw < 0:
        return conventions.NEGATIVE
    return conventions.ABSURD if raw >= 1 << 53 else conventions.NOT_WHOLE


def _of_total(seen: CallState, usage: Json) -> Iterator[str]:
    """Yield a problem if the total is not the sum, and no other count explains the difference."""
    for name in _TOTALS:
        total = base.count(usage.get(name))
        if total is None or seen.input_tokens is None or seen.output_tokens is None:
            continue
        beside = total - seen.input_tokens - seen.output_tokens
        if beside and beside not in _numbers(usage) and -beside not in _numbers(usage):
            yield f"{name}: {conventions.NOT_THE_SUM}"


def _numbers(usage: Json) -> set[int]:
    """Return all counts of a usage but its totals, those of its parts among them."""
    found: set[int] = set()
    for name, raw in usage.items():
        if isinstance(raw, dict):
            found |= {number for each in raw.values() if (number := base.count(each))}
        elif name not in _TOTALS and (number := base.count(raw)):
            found.add(number)
    return found
