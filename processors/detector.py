"""The detector: text in, findings out. A locator finds triggers, a rule's regex and validator decide at each place.

Work is linear: places inside what a rule has already judged are skipped, regexes are anchored and bounded, and beyond
a number of places that grows with the text (`_limit`) the rest of that text counts as one finding, because it was not
looked at.
"""

from collections.abc import Sequence
from functools import cache
from typing import Final, NamedTuple

from otel_telemetry.errors import RuleError
from otel_telemetry.processors.engine import Locator, make_locator
from otel_telemetry.processors.folding import FOLD_TRIGGERS, fold, unescaped
from otel_telemetry.processors.keys import KEY_TRIGGERS, KEY_TRIGGERS_AHEAD
from otel_telemetry.processors.patterns import widths
from otel_telemetry.processors.ruleset import Rule, expand
from otel_telemetry.processors.validators import span_of

UNSCANNED: Final = "UNSCANNED"
_BASE_HITS: Final = 20_000
_BYTES_PER_HIT: Final = 64
#: A place may belong to a value that began so far before it.
_OVERLAP: Final = 640
_CONTINUATION: Final = bytes(range(0x80, 0xC0))


class Match(NamedTuple):
    """What was found where: characters `start` to `end` (exclusive)."""

    start: int
    end: int
    type: str
    rule: str
    priority: int


class Detector:
    """Finds everything that the rules describe. Thread-safe."""

    def __init__(self, rules: Sequence[Rule], engine: str, keys: Sequence[str] = ()) -> None:
        """Compile; `keys` are further exact attribute names that `ends` must report."""
        table: dict[str, list[Rule]] = {}
        for rule in rules:
            for trigger in rule.triggers:
                table.setdefault(trigger, []).append(rule)
        triggers = list(table)
        self._rules = tuple((tuple(table[trigger]), trigger) for trigger in triggers)
        for rule in rules:
            rule.regex.flags  # noqa: B018  # compiled here, not before the first span that needs it
        self._fold_from = len(triggers)
        triggers += FOLD_TRIGGERS
        self._keys_from = len(triggers)
        triggers += [*KEY_TRIGGERS, *(_quote(key) for key in sorted(set(keys)))]
        self._ahead_from = len(triggers)
        self._locator: Locator = make_locator(engine, (*triggers, *KEY_TRIGGERS_AHEAD))
        self.engine = self._locator.name

    def ends(self, data: bytes) -> Sequence[int]:
        """Return where triggers end in raw bytes: ascending, exclusive offsets. A superset of what can change.

        Where there are more than can be looked at, every offset is returned.
        """
        limit = _limit(data)
        hits = self._locator.scan(data, limit)
        if not hits:
            return ()
        if len(hits) > limit:
            return range(1, len(data) + 1)
        ahead = self._ahead_from
        return sorted({end - 1 if number >= ahead else end for end, number in hits})

    def find(self, text: str) -> list[Match]:
        """Return what is to go, in order, without overlaps."""
        return self.look(text) or []

    def look(self, text: str) -> list[Match] | None:
        """Return the same, or None where there is not even a trigger in the text."""
        found = self._candidates(text)
        return _settle(found) if found and len(found) > 1 else found

    def candidates(self, text: str) -> list[Match]:
        """Return everything that any rule accepts, overlaps included."""
        return self._candidates(text) or []

    def _candidates(self, text: str) -> list[Match] | None:
        data = text.encode("utf-8", "surrogatepass")
        hits = self._locator.scan(data, _limit(data))
        if not hits:
            return None
        found, folding = self._judge(unescaped(text), data, hits)
        folded = fold(text) if folding else None
        if folded is not None:
            plain = folded.text.encode("utf-8", "surrogatepass")
            more, _ = self._judge(unescaped(folded.text), plain, self._locator.scan(plain, _limit(plain)))
            for match in more:
                start, end = folded.origin(match.start, match.end)
                found.append(match._replace(start=start, end=end))
        return found

    def _judge(self, text: str, data: bytes, hits: Sequence[tuple[int, int]]) -> tuple[list[Match], bool]:
        found: list[Match] = []
        folding = False
        judged: dict[str, int] = {}
        offsets = None if len(data) == len(text) else _Offsets(data)
        limit = _limit(data)
        for count, (end, number) in enumerate(hits):
            if count >= limit:
                found.append(_rest(text, data, end))
                break
            if number >= self._fold_from:
                folding = folding or number < self._keys_from
                continue
            rules, trigger = self._rules[number]
            width = _width(trigger)
            start, stop = (end - width, end) if offsets is None else offsets.of(end - width, end)
            for rule in rules:
                if judged.get(rule.id, -1) >= stop:
                    continue
                match = apply(rule, text, start, stop)
                if match is not None:
                    found.append(match)
                    judged[rule.id] = match.end
        return found, folding


def apply(rule: Rule, text: str, start: int, end: int) -> Match | None:
    """Try one rule at a trigger that covers characters `start` to `end`."""
    run = rule.left_run
    begin = start
    if run is not None and start:
        reversed_left = text[max(0, start - rule.back) : start][::-1]
        match = run.match(reversed_left)
        begin = start - (match.end() if match else 0)
    candidate = rule.regex.match(text, begin)
    if candidate is None or candidate.end() < end - 1:
        return None
    span = rule.validator(text, candidate) if rule.validator else span_of(candidate)
    return Match(span.start, span.end, span.type or rule.type, rule.id, rule.priority) if span else None


class _Offsets:
    """Turns ascending byte offsets of UTF-8 into character offsets, in one pass over all hits."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._byte = self._char = 0

    def of(self, start: int, end: int) -> tuple[int, int]:
        """Return the character that holds byte `start`, and the number of characters begun before byte `end`."""
        self._char += self._count(self._byte, end)
        self._byte = end
        inside = self._count(start, end) + (self._data[start] in _CONTINUATION)
        return self._char - inside, self._char

    def _count(self, start: int, end: int) -> int:
        return len(self._data[start:end].translate(None, _CONTINUATION))


def _settle(found: list[Match]) -> list[Match]:
    """Merge what overlaps: nothing found stays in clear, and the highest priority names it."""
    found.sort(key=lambda match: (match.start, -match.end))
    settled = [found[0]]
    for match in found[1:]:
        last = settled[-1]
        if match.start >= last.end:
            settled.append(match)
            continue
        better = match if (match.priority, match.end - match.start) > (last.priority, last.end - last.start) else last
        settled[-1] = better._replace(start=last.start, end=max(last.end, match.end))
    return settled


@cache
def _width(trigger: str) -> int:
    return widths(trigger)[0]


def _rest(text: str, data: bytes, end: int) -> Match:
    """Return what was not looked at, from well before the byte `end`, as one finding."""
    start = len(data[: max(0, end - _OVERLAP)].decode("utf-8", "ignore"))
    return Match(start, len(text), UNSCANNED, "limit", 100)


def refuse_broken(rules: Sequence[Rule], detector: Detector) -> None:
    """Raise RuleError for the first rule that misses one of its own examples, or finds what it must not."""
    for rule in rules:
        for examples, wanted in ((rule.match, True), (rule.no_match, False)):
            for example in examples:
                text = expand(example, rule.id)
                if any(match.rule == rule.id for match in detector.candidates(text)) != wanted:
                    problem = "does not find its example" if wanted else "finds its counterexample"
                    raise RuleError(f"{rule.source}: {rule.id}", f"{problem} {example!r}", "correct rule or example")


def _limit(data: bytes) -> int:
    """Return how many places are looked at in so many bytes."""
    return _BASE_HITS + len(data) // _BYTES_PER_HIT


def _quote(key: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in key.encode())
