"""What redaction took out of one request, by the placeholders that stand in its rows."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

_PLACEHOLDER: Final = re.compile(r"\[REDACTED_([A-Z0-9_]{1,64})\]")


def by_type(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, int, list[str]]]:
    """Return types with how often their placeholder stands in rows, and in which columns; the most frequent first."""
    counts: dict[str, int] = {}
    places: dict[str, set[str]] = {}
    for row in rows:
        for column, value in row.items():
            for text in _texts(value):
                for found in _PLACEHOLDER.findall(text):
                    counts[found] = counts.get(found, 0) + 1
                    places.setdefault(found, set()).add(column)
    return sorted(((name, number, sorted(places[name])) for name, number in counts.items()), key=lambda one: -one[1])


def _texts(value: Any) -> Iterator[str]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            stack += [*item, *item.values()]
        elif isinstance(item, list):
            stack += item
