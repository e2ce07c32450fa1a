"""The locator on RE2: one pass finds which triggers are in the bytes, and only those are searched for.

RE2 runs in linear time whatever the text. Its sets return no positions, so each trigger that occurs is searched by
itself, from one match to the next. This module is separate because importing `re2` loads native code: nothing else
imports it.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

import re2

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.processors.detect.engines.locator import CASELESS, Hit, ReLocator

#: Bytes that the automaton of all triggers may take before it forgets states that it can build again.
_MEMORY: Final = 64 << 20
#: What is found at the start, to see that anything is.
_SENTINEL: Final = b"\xff\xfe\xff\xfe\xff"
_SPACES: Final = "[:space:]"


class Re2Locator:
    """See `engine.Locator`. Safe to share between threads: RE2 guards its cache itself."""

    name = "re2"

    def __init__(self, triggers: Sequence[str]) -> None:
        self._triggers = tuple(triggers)
        self._exact = ReLocator(triggers)
        self._patterns: list[Any] = [None] * len(triggers)
        self._set = re2.Set.SearchSet(_options())
        for trigger in triggers:
            self._set.Add(_dialect(trigger))
        self._set.Add(_SENTINEL)
        self._set.Compile()
        if len(triggers) not in (self._set.Match(_SENTINEL) or ()):  # too large a set finds nothing, ever
            raise ConfigurationError("redaction.engine", "re2 has too little memory for the rules", "set it to re")

    def scan(self, data: bytes, limit: int) -> list[Hit]:
        """See Locator."""
        numbers = self._set.Match(data)
        if not numbers:
            return []
        hits: list[Hit] = []
        for number in numbers:
            if number == len(self._triggers):
                continue
            hits += islice(self._places(data, number), limit + 1)
        hits.sort()
        return hits[: limit + 1]

    def _places(self, data: bytes, number: int) -> Iterator[Hit]:
        pattern = self._patterns[number]
        if pattern is None:
            pattern = self._patterns[number] = self._compiled(number)
        if pattern is False:
            yield from self._exact.places(data, number)
            return
        match = pattern.search(data)
        while match is not None:
            yield match.end(), number
            match = pattern.search(data, match.start() + 1)

    def _compiled(self, number: int) -> Any:
        """Return the pattern of a trigger; False where only `re` has it exactly: RE2 folds more than ASCII letters."""
        trigger = self._triggers[number]
        if trigger.startswith(CASELESS) and not (trigger.isascii() and "\\x" not in trigger):
            return False
        return re2.compile(_dialect(trigger), _options())


def _options() -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.dot_nl = True
    options.log_errors = False
    options.max_mem = _MEMORY
    return options


def _dialect(trigger: str) -> bytes:
    r"""Return a trigger as RE2 reads it: its `\s` knows no vertical tab."""
    out: list[str] = []
    inside = False
    characters = iter(trigger)
    for char in characters:
        if char == "\\":
            escaped = char + next(characters, "")
            out.append((_SPACES if inside else f"[{_SPACES}]") if escaped == "\\s" else escaped)
            continue
        inside = char == "[" or (inside and char != "]")
        out.append(char)
    return "".join(out).encode("latin-1")
