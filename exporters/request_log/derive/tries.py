"""Retried model calls: each try has its own span, with the number of tries before it.

`http.request.resend_count` counts up: 1, 2 and 3 are three retries, not six. If the earlier tries of a call are
unknown, its count is used as it is.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from otel_telemetry.exporters.request_log.derive.call_words import is_of_all_tries

if TYPE_CHECKING:
    from otel_telemetry.exporters.request_log.derive.facts import Fact

#: Tries of one call have these in common: service, parent and the model that was asked.
TryKey = tuple[str, str | None, str | None]


def try_key(fact: "Fact") -> TryKey:
    """Return what the tries of one call have in common."""
    model = fact.call.model_requested or fact.call.model if fact.call is not None else None
    return fact.service, fact.parent, model


def count(resent: Iterable["Fact"]) -> int:
    """Return how often calls were tried again, from those that were."""
    alike: dict[TryKey, list[int]] = {}
    of_all = 0
    for fact in resent:
        if fact.call is not None and is_of_all_tries(fact.call):
            of_all += fact.call.retries
        elif fact.call is not None:
            alike.setdefault(try_key(fact), []).append(fact.call.retries)
    return of_all + sum(map(_count, alike.values()))


def _count(counts: list[int]) -> int:
    """Add up steps: a count goes on from the nearest smaller one that none has gone on from, else from nothing."""
    found = 0
    ends: list[int] = []  # of the calls so far, going up
    for number in sorted(counts):
        before = _pop_below(ends, number)
        found += number - before
        ends.append(number)
    return found


def _pop_below(ends: list[int], number: int) -> int:
    index = bisect_left(ends, number) - 1
    return ends.pop(index) if index >= 0 else 0


def began(alike: Sequence["Fact"]) -> dict[str, int | None]:
    """Return when the first try of each call began that was tried again: {span id: nanoseconds, or None if unknown}.

    `alike` are calls that have everything in common that tries of one call have. Each try follows one that failed
    before it began.
    """
    first: dict[str, int | None] = {}
    by_count: dict[int, list[Fact]] = {}
    for fact in sorted(alike, key=lambda each: (each.start_ns, each.span_id)):
        counts = fact.call is not None and not is_of_all_tries(fact.call)
        by_count.setdefault(fact.call.retries if fact.call is not None and counts else 0, []).append(fact)
    for number in sorted(by_count):
        before = [fact for fact in by_count.get(number - 1, ()) if fact.call is not None and not fact.call.ok]
        for fact in by_count[number] if number else ():
            earlier = next((each for each in before if each.end_ns <= fact.start_ns), None)
            if earlier is not None:
                before.remove(earlier)
            known = earlier is not None
            first[fact.span_id] = first.get(earlier.span_id, earlier.start_ns) if known and earlier else None
    return first
