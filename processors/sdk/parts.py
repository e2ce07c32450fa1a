"""Collects the strings of a record, so that one scan covers them all. Only strings with a hit are examined."""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from typing import Any

from otel_telemetry.base.records import AnyValue
from otel_telemetry.processors.redact.redactor import Finding, Findings, Redactor
from otel_telemetry.processors.redact.rewrite import free_name

_PLAIN = frozenset({int, float, bool, type(None)})
#: The least integer whose digits may be a card under any name: 14 digits.
_LONG = 10_000_000_000_000


def strings_of(attributes: Mapping[str, AnyValue], into: list[str]) -> None:
    """Append every string of attributes: keys, values, and what is inside nested values. Long integers are digits."""
    into.extend(attributes)
    append = into.append
    for value in attributes.values():
        kind = type(value)
        if kind is str:
            append(value)  # type: ignore[arg-type]  # narrowed by the line above
        elif kind is int:
            if value >= _LONG:  # type: ignore[operator]  # as above
                append(str(value))
        elif kind not in _PLAIN:
            gather(value, into)


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
        elif isinstance(top, int):
            if top >= _LONG:
                into.append(str(top))
        elif isinstance(top, Sequence):
            stack.extend(top)


def clean_attributes(
    redactor: Redactor, attributes: Mapping[str, AnyValue], findings: list[Finding], event: str = ""
) -> dict[str, AnyValue]:
    """Return the attributes redacted, without those that the policy drops.

    Keys that become the same by redaction are told apart by underscores, so that none takes another's place. What
    `Findings` have seen to be clean is not looked at. `event` names the event or log record that has them.
    """
    judged_whole = event and redactor.drops_content
    seen = None if judged_whole or not isinstance(findings, Findings) else findings.seen.hits
    dirty = attributes.keys() if seen is None else _dirty(attributes, seen)
    cleaned: dict[str, AnyValue] = {}
    same: Counter[str] = Counter()
    for key, value in attributes.items():
        item = redactor.item_of(event, key, value, findings) if key in dirty else (key, value)
        if item is not None:
            cleaned[free_name(item[0], cleaned, same)] = item[1]
    return cleaned


def _dirty(attributes: Mapping[str, AnyValue], hits: Container[str]) -> set[str]:
    """Return the keys of the attributes in whose key or value, nested or not, something was seen."""
    return {key for key, value in attributes.items() if key in hits or _in(value, hits)}


def _in(value: AnyValue, hits: Container[str]) -> bool:
    kind = type(value)
    if kind is str:
        return value in hits
    if kind is int:
        return value >= _LONG and str(value) in hits  # type: ignore[operator]  # narrowed by the line above
    return kind not in _PLAIN and _any(value, hits)


def _any(value: AnyValue, hits: Container[str]) -> bool:
    texts: list[str] = []
    gather(value, texts)
    return any(text in hits for text in texts)
