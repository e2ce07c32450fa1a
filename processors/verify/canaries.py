"""Canaries: values that the active rules must find, each one unique, so that a leak shows where its value was inserted.

Their texts are the rules' own examples, so that a new rule is covered at once. Examples with placeholders get new
random text for each place; in the others a few letters and digits are changed until the rule still finds the result.
Values that only their name reveals (`password`, `user.id`) are random harmless words and numbers.
"""

import json
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from otel_telemetry.processors.detect.detector import Detector, Match, apply
from otel_telemetry.processors.detect.engines.locator import ReLocator
from otel_telemetry.processors.detect.engines.patterns import widths
from otel_telemetry.processors.detect.kinds.addresses import kind_of
from otel_telemetry.processors.detect.names import keys
from otel_telemetry.processors.detect.names.client_names import is_client
from otel_telemetry.processors.detect.ruleset import Rule, expand
from otel_telemetry.processors.otlp import wire
from otel_telemetry.processors.redact.policy import HASHED_KEYS, IP

_TRIES: Final = 2000
_SHORTEST: Final = 6
"""Characters of the shortest value that is not met by chance elsewhere in a request."""
_LETTERS: Final = "ghijklmnopqrstuvwxyz"
"""Letters that no digest is written with, so that a short value never stands in a pseudonym by chance."""
_DIGITS: Final = "0123456789"
#: One name for each type that a name gives away, and every attribute whose value becomes a pseudonym.
NAMES: Final = (
    "password",
    "client_secret",
    "api_key",
    "private_key",
    "authorization",
    "http.request.header.cookie",
    "userId",
    "session_id",
    "customer.ssn",
    *HASHED_KEYS,
)


@dataclass(frozen=True, slots=True)
class Canary:
    """One planted text. `value` is the part of it that must not leave; `type` is what the rules call it."""

    type: str
    rule: str
    text: str | int | float
    value: str | int | float
    unique: bool = True

    def found_in(self, data: bytes) -> bool:
        """Return whether the value is still there: as text, escaped in JSON, or as a number of protobuf."""
        return any(needle in data for needle in self._needles())

    def _needles(self) -> Iterator[bytes]:
        if isinstance(self.value, str):
            yield self.value.encode()
            yield json.dumps(self.value)[1:-1].encode()
            return
        yield str(self.value).encode()
        yield wire.encode_varint(self.value) if isinstance(self.value, int) else struct.pack("<d", self.value)


class _Example:
    """One `match` example of a rule, as what is to be planted."""

    def __init__(self, rule: Rule, template: str, detector: Detector) -> None:
        self.rule = rule
        self.template = template
        self.text = expand(template, rule.id)
        self._locator = ReLocator(rule.triggers)
        self._trigger = (0, 0, -1)
        self.match = self._find(self.text) or Match(0, len(self.text), rule.type, rule.id, 0)
        types = (m.type for m in detector.find(self.text) if m.start < self.match.end and self.match.start < m.end)
        self.type = next(types, self.match.type)
        self.varies = self._variant(self.text, 0, set()) is not None

    def canary(self, number: int, taken: set[str]) -> Canary:
        """Return the canary of a place; `taken` are the values of others."""
        base = expand(self.template, f"{self.rule.id}:{number}")
        same = self.text, self.text[self.match.start : self.match.end]
        text, value = (self.varies and self._variant(base, number, taken)) or same
        unique = value not in taken
        taken.add(value)
        return Canary(self.type, self.rule.id, text, value, unique=unique)

    def _variant(self, base: str, number: int, taken: set[str]) -> tuple[str, str] | None:
        """Return a text like `base` that the rule finds and no other place has, with the value found in it."""
        random = Random(f"{self.rule.id}:{self.template}:{number}")  # noqa: S311  # repeatable, not secret
        text = base if base != self.template else _changed(base, self.match, random)
        for _ in range(_TRIES):
            match = self._found(text)
            value = text[match.start : match.end] if match else ""
            if len(value) >= _SHORTEST and value not in taken and value != self.template and not kind_of(value):
                return text, value
            text = _changed(base, match or self.match, random)
        return None

    def _found(self, text: str) -> Match | None:
        """Return what the rule finds in a text; if it is as long as the example, where that was accepted, or nothing.

        Most texts fail at a checksum: to look for all triggers in each would take most of the time.
        """
        start, stop, number = self._trigger
        if len(text) != len(self.text) or number < 0:
            return self._find(text)
        match = apply(self.rule, text, start, stop)
        there = match is not None and self._locator.is_place(text[start:stop].encode(), number)
        return match if there else None

    def _find(self, text: str) -> Match | None:
        data = text.encode()
        for end, number in self._locator.scan(data, 1000):
            width = widths(self.rule.triggers[number])[0]
            start, stop = (len(data[:at].decode(errors="ignore")) for at in (end - width, end))
            match = apply(self.rule, text, start, stop)
            if match is not None:
                self._trigger = self._trigger if self._trigger[1] else (start, stop, number)
                return match
        return None


class Canaries:
    """Everything that can be planted under a set of rules. Not thread-safe: it remembers what it gave out."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        detector = Detector(rules, "re")
        examples = [_Example(rule, template, detector) for rule in rules for template in rule.match]
        self._by_type: dict[str, list[_Example]] = {}
        for example in examples:
            self._by_type.setdefault(example.type, []).append(example)
        for type_, own in self._by_type.items():
            self._by_type[type_] = _by_rank([example for example in own if example.varies] or own)
        self._taken: set[str] = set()
        self._given: Counter[str] = Counter()
        self._drawn = 0

    @property
    def types(self) -> list[str]:
        """Types that the rules find by what a text looks like."""
        return sorted(self._by_type)

    def of(self, type_: str) -> Canary:
        """Return the next canary of a type: its rules take turns."""
        examples, number = self._by_type[type_], self._given[type_]
        self._given[type_] += 1
        return examples[number % len(examples)].canary(number, self._taken)

    def named(self, name: str) -> Canary:
        """Return a word that no rule finds but for the name in front of it."""
        word = self._draw(_LETTERS, 14)
        return Canary(type_of_name(name), "key", word, word)

    def number(self, name: str, *, floating: bool = False) -> Canary:
        """Return a number that no rule finds but for the name in front of it."""
        digits = int("5" + self._draw(_DIGITS, 11))
        return Canary(
            type_of_name(name), "key", digits + 0.5 if floating else digits, digits + 0.5 if floating else digits
        )

    def _draw(self, alphabet: str, length: int) -> str:
        while True:
            self._drawn += 1
            random = Random(f"drawn:{self._drawn}")  # noqa: S311  # repeatable, not secret
            word = "".join(random.choice(alphabet) for _ in range(length))
            if word not in self._taken:
                self._taken.add(word)
                return word


def type_of_name(name: str) -> str:
    """Return the type of an attribute's value by its name, or "" if the name gives none."""
    if is_client(name):
        return IP
    return HASHED_KEYS.get(name) or keys.classify(name)


def _by_rank(examples: Iterable[_Example]) -> list[_Example]:
    """Return the first example of each rule, then the second of each, so that every rule is used."""
    ranks: Counter[str] = Counter()
    numbered = []
    for example in examples:
        numbered.append((ranks[example.rule.id], example))
        ranks[example.rule.id] += 1
    return [example for _, example in sorted(numbered, key=lambda pair: pair[0])]


def _changed(text: str, match: Match, random: Random) -> str:
    """Return the text with one to four letters or digits of the value replaced by others of their kind."""
    positions = [at for at in range(match.start, match.end) if text[at].isascii() and text[at].isalnum()]
    letters = list(text)
    for at in random.sample(positions, min(len(positions), random.randint(1, 4))):
        kind = _DIGITS if letters[at].isdigit() else _LETTERS.upper() if letters[at].isupper() else _LETTERS
        letters[at] = random.choice(kind)
    return "".join(letters)
