"""The detector: text in, findings out. A locator finds triggers, a rule's regex and validator decide at each place.

Work is linear: places inside what a rule has already judged are skipped, regexes are anchored and bounded, and beyond
a number of places that grows with the text (`_limit`) the rest of that text counts as one finding, because it was not
looked at. Some rules read far beyond their place: texts made for that would take hours, so CPU time is bounded too.
"""

import re
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from otel_telemetry.base.errors import RuleError
from otel_telemetry.processors.detect import cpu_time
from otel_telemetry.processors.detect.engines.locator import Hit, Locator, make_locator
from otel_telemetry.processors.detect.engines.patterns import widths
from otel_telemetry.processors.detect.kinds.blobs import inside_blob
from otel_telemetry.processors.detect.kinds.validators import Span, Validator, made, span_of
from otel_telemetry.processors.detect.names.keys import KEY_TRIGGERS, KEY_TRIGGERS_AHEAD
from otel_telemetry.processors.detect.ruleset import Rule, expand
from otel_telemetry.processors.detect.sightings import Sightings, distributed
from otel_telemetry.processors.detect.text.fold_triggers import FOLD_TRIGGERS
from otel_telemetry.processors.detect.text.folding import Folded, fold, unescaped
from otel_telemetry.processors.detect.text.offsets import Offsets

UNSCANNED: Final = "UNSCANNED"
_BASE_HITS: Final = 20_000
_BYTES_PER_HIT: Final = 64
_MOST_HITS: Final = 100_000  # each takes some hundred bytes until its text is written
_PLACES_AT_ONCE: Final = 32  # judged before the time is looked at
#: A place may belong to a value that began so far before it.
_OVERLAP: Final = 640
_SEPARATOR: Final = "\x00\x00"  # a single one may hide a value, and is a trigger
#: How far from its trigger a rule looks to either side for what may have been folded.
_REACH_BACK: Final = 640
_REACH: Final = 1024
#: How far from folded characters a finding counts as untouched by them.
_NEAR: Final = 40
#: Bytes of a block that may be kept until somebody asks which string a place is in.
_KEPT: Final = 16_384


class Match(NamedTuple):
    """What was found where: characters `start` to `end` (exclusive)."""

    start: int
    end: int
    type: str
    rule: str
    priority: int
    more: tuple["Match", ...] = ()


class Sight(NamedTuple):
    """What was seen in a text: findings, in order, without overlaps; and whether some name may give a value away."""

    matches: list[Match]
    named: bool


class Detector:
    """Finds everything that the rules describe. Thread-safe."""

    def __init__(
        self, rules: Sequence[Rule], engine: str, keys: Sequence[str] = (), patterns: Sequence[str] = ()
    ) -> None:
        """Compile; `keys` are further exact attribute names, and `patterns` expressions, that `ends` must report."""
        table: dict[str, list[Rule]] = {}
        for rule in rules:
            for trigger in rule.triggers:
                table.setdefault(trigger, []).append(rule)
        triggers = list(table)
        self._rules = tuple((widths(trigger)[0], tuple(table[trigger])) for trigger in triggers)
        self._closed = tuple(_never_behind(rules) for _, rules in self._rules)
        self._open = tuple(closed.translate(None, b"nrtfb") for closed in self._closed)
        self._any = (b"",) * len(self._closed)
        for rule in rules:
            rule.regex.flags  # noqa: B018  # compiled here, not before the first span that needs it
        self._fold_from = len(triggers)
        triggers += FOLD_TRIGGERS
        self._keys_from = len(triggers)
        triggers += [*KEY_TRIGGERS, *(_quote(key) for key in sorted(set(keys))), *patterns]
        self._ahead_from = len(triggers)
        triggers += KEY_TRIGGERS_AHEAD
        self._widths = (*(width for width, _ in self._rules), *(widths(one)[0] for one in triggers[self._fold_from :]))
        self._locator: Locator = make_locator(engine, tuple(triggers))
        self.engine = self._locator.name

    def located(self, data: bytes) -> tuple[Sequence[int], Sequence[Hit] | None]:
        """Return where triggers end in raw bytes: ascending, exclusive offsets. A superset of what can change.

        With them come the places themselves, for `cut`. Where there are more than can be looked at, every offset is
        returned, and None.
        """
        limit = _limit(data)
        hits = self._locator.scan(data, limit)
        if not hits:
            return (), hits
        if len(hits) > limit:
            return range(1, len(data) + 1), None
        ahead = self._ahead_from
        return sorted({end - 1 if number >= ahead else end for end, number in hits}), hits

    def cut(self, hits: Sequence[Hit], start: int, end: int) -> list[Hit]:
        """Return what a scan of bytes `start` to `end` alone would find, of the places in the bytes around them.

        Triggers have a fixed length and look at nothing around them, so the places that lie within are the same.
        """
        found = []
        widths_of = self._widths
        for at in range(bisect_right(hits, (start, len(widths_of))), len(hits)):
            place, number = hits[at]
            if place > end:
                break
            if place - widths_of[number] >= start:
                found.append((place - start, number))
        return found

    def sightings(self, texts: Sequence[str]) -> Sightings | None:
        """Return where triggers are in each of many strings, scanned as one block; None where there is none at all."""
        block = _SEPARATOR.join(texts) + _SEPARATOR
        data = block.encode() if block.isascii() else block.encode("utf-8", "surrogatepass")
        limit = _limit(data)
        places = self._locator.scan(data, limit)
        if not places:
            return None
        if len(places) > limit:
            return Sightings(texts, dict.fromkeys(texts))
        if data.count(b"\0") != len(texts) * len(_SEPARATOR):  # some of them hold what separates them here
            alone = ((text, self._locator.scan(encoded(text + _SEPARATOR), limit)) for text in set(texts))
            return Sightings(texts, {text: own for text, own in alone if own})
        if len(data) > _KEPT:  # a record may wait for a while, and should not do so with all its text twice
            return Sightings(texts, distributed(places, data, texts))
        return Sightings(texts, None, places, data)

    def find(self, text: str) -> list[Match]:
        """Return the findings to redact, in order, without overlaps."""
        sight = self.look(text)
        return [] if sight is None else sight.matches

    def look(self, text: str, hits: Sequence[Hit] | None = None) -> "Sight | None":
        """Return the findings as `find` does, with what else was seen; None if the text has no trigger.

        `hits` are its sightings, if it was scanned before.
        """
        if hits is not None and not hits:
            return None
        data = text.encode() if text.isascii() else text.encode("utf-8", "surrogatepass")
        if hits is None:
            hits = self._locator.scan(data, _limit(data))
        if not hits:
            return None
        found, folding, named = self._judge(text, data, hits)
        if folding:
            found += self._behind(text, found)
        return Sight(_without_overlaps(found) if len(found) > 1 else found, named)

    def candidates(self, text: str) -> list[Match]:
        """Return everything that any rule accepts, overlaps included."""
        data = encoded(text)
        hits = self._locator.scan(data, _limit(data))
        found, folding, _ = self._judge(text, data, hits, everything=True)
        return found + self._behind(text, found, everything=True) if folding else found

    def _behind(self, text: str, before: Sequence[Match], *, everything: bool = False) -> list[Match]:
        """Return what is found where something was folded, or near it, but for what was found `before` far from it."""
        folded = fold(text)
        if folded is None:
            return []
        data = encoded(folded.text)
        view = _View(folded, before)
        hits = self._locator.scan(data, _limit(data))
        found, _, _ = self._judge(folded.text, data, hits, view, everything=everything)
        origins = (folded.origin(match.start, match.end) for match in found)
        return [
            match._replace(start=start, end=end)
            for match, (start, end) in zip(found, origins, strict=True)
            if not inside_blob(text, start, end)  # in the view, the plus signs of base64 are spaces
        ]

    def _judge(
        self, text: str, data: bytes, hits: Sequence[Hit], view: "_View | None" = None, *, everything: bool = False
    ) -> tuple[list[Match], bool, bool]:
        """Return what the rules accept; whether something is to be folded; whether a name was seen.

        `everything`: also what lies within another finding of a higher priority, which decides.
        """
        found: list[Match] = []
        last: Match | None = None
        folding = named = False
        text, closed = self._readable(text, hits)
        judged: dict[str, int] = {}
        remembering: dict[str, Validator] = {}
        refused: dict[str, int] = {}  # where a rule began in vain: another trigger there changes nothing
        offsets = None if len(data) == len(text) else Offsets(data)
        rules_of, fold_from, keys_from = self._rules, self._fold_from, self._keys_from
        for end, number in _in_time(hits, text, data, found):
            if number >= fold_from:
                if number >= keys_from:
                    named = True
                else:
                    folding = True
                continue
            width, own = rules_of[number]
            if end > width and data[end - width - 1] in closed[number]:
                continue
            start, stop = offsets.of(end - width, end) if offsets else (end - width, end)
            for rule in view.unsettled(own, start, stop) if view else own:
                if stop <= judged.get(rule.id, -1):
                    continue
                begin = start if start and text[start - 1] in rule.ends_left else _begin(rule, text, start)
                if begin == refused.get(rule.id):
                    continue
                match = _apply_at(rule, text, begin, stop, remembering, last)
                if match is None:
                    refused[rule.id] = begin
                    continue
                if match.more:
                    found += match.more
                found.append(match)
                last = None if everything else match
                # what remembers what it has read skips that itself
                judged[rule.id] = -1 if rule.per_text else match.more[-1].end if match.more else match.end
        return found, folding, named

    def _readable(self, text: str, hits: Sequence[Hit]) -> tuple[str, Sequence[bytes]]:
        """Return the text unescaped where a rule reads it: many have names and escapes, and no place for a rule.

        With it come the bytes of the text before each trigger that rule out what it is for: not those of escapes.
        """
        if "\\" not in text or all(number >= self._fold_from for _, number in hits):
            return text, self._closed
        view, has_digits = unescaped(text)
        return view, self._any if has_digits else self._open


def _never_behind(rules: Sequence[Rule]) -> bytes:
    """Return the bytes before a trigger that rule out all of its rules; none where one of them looks further back."""
    if any(rule.left for rule in rules):
        return b""
    return bytes(sorted(ord(char) for char in frozenset.intersection(*(rule.never_behind for rule in rules))))


class _View:
    """A folded view, and what was found in the text as it stands and is not near anything folded."""

    def __init__(self, folded: Folded, before: Sequence[Match]) -> None:
        self._folded = folded
        self._plain: dict[str, list[tuple[int, int]]] = {}
        for match in sorted(before):
            if folded.is_plain(match.start - _NEAR, match.end + _NEAR):
                self._plain.setdefault(match.rule, []).append((match.start, match.end))

    def unsettled(self, rules: Sequence[Rule], start: int, stop: int) -> Sequence[Rule]:
        """Return the rules that have to judge this place of the view: those that may judge otherwise than before."""
        if not self._folded.touches(start - _REACH_BACK, stop + _REACH):
            return ()
        if not self._plain or self._folded.touches(start - _NEAR, stop + _NEAR):
            return rules
        at, end = self._folded.origin(start, stop)
        return [rule for rule in rules if not self._found(rule.id, at, end)]

    def _found(self, rule: str, start: int, stop: int) -> bool:
        places = self._plain.get(rule, ())
        last = bisect_right(places, start + _NEAR, key=_start) - 1
        return last >= 0 and stop <= places[last][1]


def _start(place: tuple[int, int]) -> int:
    return place[0]


def apply(rule: Rule, text: str, start: int, end: int) -> Match | None:
    """Try one rule at a trigger that covers characters `start` to `end`."""
    return _apply_at(rule, text, _begin(rule, text, start), end, {})


def _begin(rule: Rule, text: str, start: int) -> int:
    """Return where a rule's regex is tried for a trigger that starts here."""
    run = rule.left_run
    if run is None or not start:
        return start
    back = start - rule.back - 1
    match = run.match(text[start - 1 : back if back >= 0 else None : -1])
    return start - (match.end() if match else 0)


def _apply_at(  # noqa: PLR0917  # called for each place: names would cost
    rule: Rule, text: str, begin: int, end: int, remembering: dict[str, Validator], last: Match | None = None
) -> Match | None:
    """Try one rule at a place. `remembering` are validators of this text that remember what they have read of it."""
    candidate = rule.regex.match(text, begin)
    if candidate is None or candidate.end() < end - 1:
        return None
    if rule.narrows and last is not None and _is_within(last, rule, candidate):
        return None
    validator = rule.validator
    if rule.per_text:
        validator = remembering.get(rule.id) or remembering.setdefault(rule.id, rule.per_text.new())
    span = validator(text, candidate) if validator else span_of(candidate)
    if span is None:
        return None
    start, stop, kind, further = span
    low, high = candidate.span()
    if inside_blob(text, start if start < low else low, stop if stop > high else high):  # noqa: FURB136  # in half the time
        return None
    more = tuple(_as_match(rule, one) for one in further) if further else ()
    return made(Match, (start, stop, kind or rule.type, rule.id, rule.priority, more))


def _is_within(last: Match, rule: Rule, candidate: re.Match[str]) -> bool:
    """Return whether the value that a rule may find lies within a finding of a higher priority: it adds nothing."""
    start, end = candidate.span(rule.group)
    return last.start <= start and end <= last.end and rule.priority < last.priority


def _as_match(rule: Rule, span: Span) -> Match:
    return Match(span.start, span.end, span.type or rule.type, rule.id, rule.priority)


def encoded(text: str) -> bytes:
    """Return the bytes of a text, halves of surrogate pairs included."""
    return text.encode() if text.isascii() else text.encode("utf-8", "surrogatepass")


def _without_overlaps(found: list[Match]) -> list[Match]:
    """Merge what overlaps: nothing found stays in clear, and the highest priority names it."""
    found.sort(key=_order)
    last = found[0]
    chosen = [last]
    for match in found[1:]:
        start, end, _, _, priority, _ = match
        if start >= last.end:
            chosen.append(match)
            last = match
            continue
        if priority < last.priority and end <= last.end:
            continue
        better = match if (priority, end - start) > (last.priority, last.end - last.start) else last
        whole = last.start, max(end, last.end)
        last = chosen[-1] = better if better[:2] == whole else better._replace(start=whole[0], end=whole[1])
    return chosen


def _order(match: Match) -> tuple[int, int, str]:
    return match[0], -match[1], match[3]


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
    return min(_MOST_HITS, _BASE_HITS + len(data) // _BYTES_PER_HIT)


def _in_time(hits: Sequence[Hit], text: str, data: bytes, found: list[Match]) -> Iterable[Hit]:
    """Return as many places as are looked at, for as long as those before took no more CPU time.

    All from the next one on is a finding then.
    """
    if cpu_time.is_used_up():
        found.append(Match(0, len(text), UNSCANNED, "limit", 100))
        return ()
    limit = _limit(data)
    if len(hits) > limit:
        found.append(_rest(text, data, hits[limit][0]))
        hits = hits[:limit]
    return hits if len(hits) <= _PLACES_AT_ONCE else _until_late(hits, text, data, found)


def _until_late(hits: Sequence[Hit], text: str, data: bytes, found: list[Match]) -> Iterator[Hit]:
    end = cpu_time.end_for(len(data))
    for count, hit in enumerate(hits, 1):
        if not count % _PLACES_AT_ONCE and time.thread_time() > end:
            found.append(_rest(text, data, hit[0]))
            return
        yield hit


def _quote(key: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in key.encode())
