"""The strings of a record, gathered so that one scan judges them all.

Only where that scan saw something is a string looked at closely.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any

from otel_telemetry.processors.redactor import Finding, Findings, Redactor
from otel_telemetry.records import AnyValue

_PLAIN = frozenset({int, float, bool, type(None)})


def strings_of(attributes: Mapping[str, AnyValue], into: list[str]) -> None:
    """Append every string of attributes: keys, values, and what is inside nested values."""
    into.extend(attributes)
    append = into.append
    for value in attributes.values():
        kind = type(value)
        if kind is str:
            append(value)  # type: ignore[arg-type]  # narrowed by the line above
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
        elif isinstance(top, Sequence):
            stack.extend(top)


def clean_attributes(
    redactor: Redactor, attributes: Mapping[str, AnyValue], findings: list[Finding]
) -> dict[str, AnyValue]:
    """Return the attributes redacted, without those that the policy drops.

    Keys that become the same by redaction are told apart by underscores, so that none takes another's place. What
    `Findings` have seen to be clean is not looked at.
    """
    dirty = _dirty(attributes, findings.seen.hits) if isinstance(findings, Findings) else attributes.keys()
    kept: dict[str, AnyValue] = {}
    for key, value in attributes.items():
        item = redactor.item(key, value, findings) if key in dirty else (key, value)
        if item is not None:
            name = item[0]
            while name in kept:
                name += "_"
            kept[name] = item[1]
    return kept


def _dirty(attributes: Mapping[str, AnyValue], hits: Container[str]) -> set[str]:
    """Return the keys of the attributes in whose key or value, nested or not, something was seen."""
    return {
        key
        for key, value in attributes.items()
        if key in hits or (value in hits if type(value) is str else type(value) not in _PLAIN and _any(value, hits))
    }


def _any(value: AnyValue, hits: Container[str]) -> bool:
    texts: list[str] = []
    gather(value, texts)
    return any(text in hits for text in texts)
