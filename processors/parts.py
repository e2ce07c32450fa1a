"""The strings of a record, gathered so that one scan judges them all.

`strings_of` gathers without keeping count, which is all that a clean record needs. For the others, `Parts` knows which
run of strings belongs to which part of the record (its name, one attribute, one event ...), so that only the parts in
which the redactor may change something are looked at closely.
"""

from bisect import bisect_right
from collections.abc import Container, Mapping, Sequence
from typing import Any

from otel_telemetry.processors.redactor import Finding, Redactor
from otel_telemetry.records import AnyValue

_PLAIN = frozenset({int, float, bool, type(None)})
_SIMPLE = _PLAIN | {str}


def strings_of(attributes: Mapping[str, AnyValue], into: list[str]) -> None:
    """Append every string of attributes: keys, values, and what is inside nested values."""
    values = attributes.values()
    into.extend(attributes)
    into += [value for value in values if type(value) is str]
    for nested in [value for value in values if type(value) not in _SIMPLE]:
        gather(nested, into)


class Parts:
    """Strings of one record; `texts` is what is scanned, `ends[n]` where part n stops in it."""

    __slots__ = ("ends", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.ends: list[int] = []

    def add_text(self, text: str | None) -> None:
        """Add a part of one string."""
        self.texts.append(text or "")
        self.ends.append(len(self.texts))

    def add_attributes(self, attributes: Mapping[str, AnyValue] | None) -> None:
        """Add one part per attribute: its key and every string of its value."""
        if not attributes:
            return
        texts, ends = self.texts, self.ends
        for key, value in attributes.items():
            texts.append(key)
            kind = type(value)
            if kind is str:
                texts.append(value)  # type: ignore[arg-type]  # narrowed by the line above
            elif kind not in _PLAIN:
                gather(value, texts)
            ends.append(len(texts))

    def add_values(self, *values: Any) -> None:
        """Add one part made of every string of all these values."""
        for value in values:
            gather(value, self.texts)
        self.ends.append(len(self.texts))

    def dirty(self, redactor: Redactor) -> set[int]:
        """Return the numbers of the parts in which the redactor may change something."""
        return {bisect_right(self.ends, index) for index in redactor.dirty(self.texts)}


def gather(value: AnyValue, into: list[str]) -> None:
    """Append every string of a value, keys included, however it is nested. Bytes count where they are UTF-8."""
    stack: list[Any] = [value]
    while stack:
        top = stack.pop()
        if isinstance(top, str):
            into.append(top)
        elif isinstance(top, bytes):
            into.append(top.decode("utf-8", "replace"))
        elif isinstance(top, Mapping):
            for key, inner in top.items():
                into.append(str(key))
                stack.append(inner)
        elif isinstance(top, Sequence):
            stack.extend(top)


def clean_attributes(
    redactor: Redactor,
    attributes: Mapping[str, AnyValue],
    findings: list[Finding],
    dirty: Container[int] | None = None,
    first: int = 0,
) -> dict[str, AnyValue]:
    """Return the attributes redacted, without those that the policy drops.

    `dirty` names the parts that may change, of which the first attribute is number `first`; None: all may. Keys that
    become the same by redaction are told apart by underscores, so that none takes another's place.
    """
    kept: dict[str, AnyValue] = {}
    for part, (key, value) in enumerate(attributes.items(), start=first):
        item = redactor.item(key, value, findings) if dirty is None or part in dirty else (key, value)
        if item is not None:
            name = item[0]
            while name in kept:
                name += "_"
            kept[name] = item[1]
    return kept
