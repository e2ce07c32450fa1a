"""Finds reports of the same model call when none is above the other: twins.

Several instrumentations may report one call, and not all make their span current: then their reports are siblings. Two
reports are of one call if they come from different sources and

1. have the same answer id, or
2. are of one service and one model (a name may have a version behind it), with the same token counts, and their times
   overlap by at least half of the shorter one, or adjoin; unless both have answer ids and these differ. A count that
   one of them lacks matches any value if one report's time is wholly within the other's.

Reports of one source are never of one call: so equal concurrent calls stay as many as they are. Of all pairs the surest
come first, then those whose times are closest. Each call takes at most one report from a source. Reports stored before
their source was recorded are never twins. A report affects only those that can be reached from it over such pairs.
`Calls` finds these without reading others.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from otel_telemetry.exporters.request_log.derive.facts import LEGACY, Fact
from otel_telemetry.exporters.request_log.price import price_table

#: Times adjoin if no more than this lies between them.
_BETWEEN_NS: Final = 20_000_000
#: As many reports that begin next, or have the same id, are compared with one report: calls that overlap are few.
_MOST: Final = 64
_OURS: Final = "otel_telemetry"

#: How sure and how close a pair is; the smallest goes first.
_Rank = tuple[int, int, str, str]
_Writer = tuple[str, str | None]


def _writer(fact: Fact) -> _Writer:
    """Return who wrote a report: of one source too there may be several, where it speaks several dialects."""
    return fact.source, fact.call.dialect if fact.call is not None else None


class Calls:
    """The reports of a trace of which none stands above another of the same call. Finds those that belong together."""

    __slots__ = ("_by_id", "_lanes", "_new", "_writers")

    def __init__(self) -> None:
        self._writers: dict[_Writer, int] = {}
        self._new: dict[str, Fact] = {}  # not looked for yet: of one source alone nobody is looked for
        self._by_id: dict[str, dict[str, Fact]] = {}
        self._lanes: dict[str, _Lane] = {}

    def add(self, fact: Fact) -> None:
        """Take in a report."""
        writer = _writer(fact)
        self._writers[writer] = self._writers.get(writer, 0) + 1
        self._new[fact.span_id] = fact

    def remove(self, fact: Fact) -> None:
        """Leave out a report, which turned out to be one of a call that another one below or above it reports."""
        writer = _writer(fact)
        self._writers[writer] -= 1
        if not self._writers[writer]:
            del self._writers[writer]
        if self._new.pop(fact.span_id, None) is None:
            self._lanes[fact.service].remove(fact)
            if fact.answer_id is not None:
                self._by_id[fact.answer_id].pop(fact.span_id, None)

    def _sort(self) -> None:
        for fact in self._new.values():
            self._lanes.setdefault(fact.service, _Lane()).add(fact)
            if fact.answer_id is not None:
                self._by_id.setdefault(fact.answer_id, {})[fact.span_id] = fact
        self._new.clear()

    @property
    def have_twins(self) -> bool:
        """Return whether there can be any: reports of one source have none."""
        return len(self._writers) > 1

    def around(self, facts: Iterable[Fact]) -> Iterator[list[Fact]]:
        """Yield the reports that can be of one call with these, or with those, and so on; each group once."""
        self._sort()
        seen: set[str] = set()
        for fact in facts:
            if fact.span_id not in seen:
                group = self._reach(fact)
                seen |= group.keys()
                yield list(group.values())

    def _reach(self, start: Fact) -> dict[str, Fact]:
        found: dict[str, Fact] = {}
        todo = [start]
        while todo:
            fact = todo.pop()
            if fact.span_id in found:
                continue
            near = self._lanes[fact.service].around(fact)
            for each in near:
                if each.span_id not in found:
                    found[each.span_id] = each
                    same = self._by_id[each.answer_id] if each.answer_id is not None else {}
                    if len(same) > 1:
                        todo += [other for other in same.values() if other.span_id not in found]
        return found


class _Lane:
    """Reports of one service, in order of time."""

    __slots__ = ("_facts", "_keys", "_longest")

    def __init__(self) -> None:
        self._keys: list[tuple[int, str]] = []
        self._facts: dict[tuple[int, str], Fact] = {}
        self._longest = 0

    def add(self, fact: Fact) -> None:
        key = (fact.start_ns, fact.span_id)
        insort(self._keys, key)
        self._facts[key] = fact
        self._longest = max(self._longest, fact.end_ns - fact.start_ns)

    def remove(self, fact: Fact) -> None:
        key = (fact.start_ns, fact.span_id)
        del self._keys[bisect_left(self._keys, key)]
        del self._facts[key]

    def around(self, fact: Fact) -> list[Fact]:
        """Return the reports whose times are one stretch with this one's, itself among them."""
        first = last = bisect_left(self._keys, (fact.start_ns, fact.span_id))
        start, end = fact.start_ns, fact.end_ns
        grew = True
        while grew:
            while last + 1 < len(self._keys) and self._keys[last + 1][0] <= end + _BETWEEN_NS:
                last += 1
                end = max(end, self._facts[self._keys[last]].end_ns)
            grew = False
            at = first - 1
            while at >= 0 and self._keys[at][0] >= start - self._longest - _BETWEEN_NS:
                if self._facts[self._keys[at]].end_ns >= start - _BETWEEN_NS:
                    for index in range(at, first):
                        end = max(end, self._facts[self._keys[index]].end_ns)
                    first, start, grew = at, self._keys[at][0], True
                at -= 1
        return [self._facts[key] for key in self._keys[first : last + 1]]


def pair(group: Iterable[Fact]) -> list[list[Fact]]:
    """Return the reports of each call together, the one that stands for it first. The group's order does not matter."""
    facts = sorted(group, key=lambda each: (each.start_ns, each.span_id))
    clusters = {fact.span_id: [fact] for fact in facts}
    pairs = sorted(_pairs([fact for fact in facts if fact.source != LEGACY]), key=lambda each: each[0])
    for rank, one, other in pairs:
        mine, theirs = clusters[one.span_id], clusters[other.span_id]
        if mine is not theirs and _may_join(mine, theirs, same_answer=not rank[0]):
            mine += theirs
            for fact in theirs:
                clusters[fact.span_id] = mine
    _swap(clusters, pairs)
    found = {id(cluster): cluster for cluster in clusters.values()}
    return [sorted(cluster, key=_worth) for cluster in found.values()]


def _swap(clusters: dict[str, list[Fact]], pairs: Sequence[tuple[_Rank, Fact, Fact]]) -> None:
    """Find other places for reports that were left over, or whose cluster lacks others.

    Of many equal calls at once, the times of two reports may be closest by chance, so that their own are left over.
    """
    near: dict[str, list[Fact]] = {}
    for _, one, other in pairs:
        near.setdefault(one.span_id, []).append(other)
        near.setdefault(other.span_id, []).append(one)
    for span_id in sorted(near, key=lambda each: (len(clusters[each]), each)):
        cluster = clusters[span_id]
        if _dissolve(cluster, clusters, near) or len(cluster) > 1:
            continue
        for beside in near[span_id]:
            taken = clusters[beside.span_id]
            same = [fact for fact in taken if fact.source == cluster[0].source]
            if len(same) == 1 and _exchange(cluster[0], same[0], taken, clusters, near):
                break


def _dissolve(cluster: list[Fact], clusters: dict[str, list[Fact]], near: dict[str, list[Fact]]) -> bool:
    """Let each report of a cluster join another cluster, if all of them can."""
    moves: list[tuple[Fact, list[Fact]]] = []
    for fact in cluster:
        taken = [id(target) for _, target in moves]
        found = (clusters[other.span_id] for other in near.get(fact.span_id, ()))
        free = (each for each in found if each is not cluster and id(each) not in taken)
        target = next((each for each in free if _may_join(each, [fact], same_answer=False)), None)
        if target is None:
            return False
        moves.append((fact, target))
    for fact, target in moves:
        target.append(fact)
        clusters[fact.span_id] = target
    return True


def _exchange(
    alone: Fact, placed: Fact, cluster: list[Fact], clusters: dict[str, list[Fact]], near: dict[str, list[Fact]]
) -> bool:
    """Put a report in the place of another one, where that finds a place with one that is alone or lacks its source."""
    rest = [fact for fact in cluster if fact is not placed]
    if not _may_join(rest, [alone], same_answer=False):
        return False
    for other in near[placed.span_id]:
        target = clusters[other.span_id]
        if target is not cluster and _may_join(target, [placed], same_answer=False):
            cluster[:] = [*rest, alone]
            target.append(placed)
            clusters[alone.span_id], clusters[placed.span_id] = cluster, target
            return True
    return False


def _may_join(mine: Sequence[Fact], theirs: Sequence[Fact], *, same_answer: bool) -> bool:
    """Return whether all of these may be of one call: none has the source, or the answer, of another."""
    known = {_writer(fact) if same_answer else fact.source for fact in mine}
    ids = {fact.answer_id for fact in (*mine, *theirs)} - {None}
    others = [_writer(fact) if same_answer else fact.source for fact in theirs]
    return len(ids) < 2 and known.isdisjoint(others)  # noqa: PLR2004


def _pairs(facts: Sequence[Fact]) -> Iterator[tuple[_Rank, Fact, Fact]]:
    by_id: dict[str, list[Fact]] = {}
    for index, fact in enumerate(facts):
        if fact.answer_id is not None:
            same = by_id.setdefault(fact.answer_id, [])
            yield from (_ranked(0, each, fact) for each in same[-_MOST:] if _writer(each) != _writer(fact))
            same.append(fact)
        for other in facts[index + 1 : index + 1 + _MOST]:
            if other.start_ns > fact.end_ns + _BETWEEN_NS:
                break
            if other.source != fact.source and (sureness := _likeness(fact, other)):
                yield _ranked(sureness, fact, other)


def _ranked(sureness: int, one: Fact, other: Fact) -> tuple[_Rank, Fact, Fact]:
    apart = abs(one.start_ns - other.start_ns) + abs(one.end_ns - other.end_ns)
    return (sureness, apart, *sorted((one.span_id, other.span_id))), one, other  # type: ignore[return-value]


def _likeness(one: Fact, other: Fact) -> int:
    """Return 0 if the values of two reports exclude that they are of one call, else a likelihood of up to 1."""
    mine, theirs = one.call, other.call
    if mine is None or theirs is None or one.service != other.service or not _is_same_model(one, other):
        return 0
    counts = (mine.prompt_tokens, mine.completion_tokens), (theirs.prompt_tokens, theirs.completion_tokens)
    common = min(one.end_ns, other.end_ns) - max(one.start_ns, other.start_ns)
    shorter = min(one.end_ns - one.start_ns, other.end_ns - other.start_ns)
    if counts[0] == counts[1]:
        adjoin = -_BETWEEN_NS <= common <= 0
        return (1 if counts[0] != (None, None) else 2) if adjoin or 2 * common >= shorter else 0
    if all(mine is None or theirs is None or mine == theirs for mine, theirs in zip(*counts, strict=True)):
        return 3 if common >= shorter else 0
    return 0


def _is_same_model(one: Fact, other: Fact) -> bool:
    names = [
        {name for name in (fact.call.model, fact.call.model_requested) if name} for fact in (one, other) if fact.call
    ]
    if not names[0].isdisjoint(names[1]) or not all(names):
        return True
    return any(price_table.is_same(mine, theirs) for mine in names[0] for theirs in names[1])


def _worth(fact: Fact) -> tuple[bool, bool, bool, bool, int, str]:
    """Return the place of a report among those of its call: that which knows most stands for it."""
    call = fact.call
    counted = call is not None and (call.prompt_tokens is not None or call.completion_tokens is not None)
    ours = fact.source.startswith(_OURS)
    return not counted, fact.of_log, not ours, fact.answer_id is None, fact.end_ns - fact.start_ns, fact.span_id
