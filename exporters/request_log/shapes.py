"""What the attributes of a span can say, worked out once for all spans with the same keys.

Spans of one kind carry the same keys in the same order, thousands of times. Which dialects they speak, which key is
which column and what is left over follows from the keys alone; only the values are new.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from otel_telemetry import conventions, records
from otel_telemetry.exporters.request_log.dialect_table import DIALECTS

#: Keys that are remembered together: more, or longer ones, are worked out anew each time. They come from anywhere.
_MOST_KEYS: Final = 128
_MOST_CHARACTERS: Final = 4_096
_REMEMBERED: Final = 1_024

#: What a call says of itself, on its own span.
CALL_SAYS: Final = frozenset(conventions.REQUEST_LOG + name for name in records.LlmCall.__dataclass_fields__)
_PREFIX: Final = len(conventions.REQUEST_LOG)

Paths = Mapping[str, str]


@dataclass(slots=True)
class _Known:
    """What an attribute means to whom: ranks are places in the table."""

    names: list[tuple[int, str]] = field(default_factory=list)
    inside: list[tuple[int, Paths]] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)


def _known() -> dict[str, _Known]:
    found: dict[str, _Known] = {}
    for rank, dialect in enumerate(DIALECTS):
        for attribute, meaning in dialect.names.items():
            found.setdefault(attribute, _Known()).names.append((rank, meaning))
        for attribute, paths in dialect.inside.items():
            found.setdefault(attribute, _Known()).inside.append((rank, paths))
        for attribute in dialect.marks:
            found.setdefault(attribute, _Known()).marks.append(rank)
        if dialect.kind:
            found.setdefault(dialect.kind, _Known())
    return found


_KNOWN: Final = _known()
UNMARKED: Final = frozenset(rank for rank, dialect in enumerate(DIALECTS) if not dialect.marks)
#: The dialects that tell what a span is, and those that announce calls.
_TELLING: Final = frozenset(rank for rank, dialect in enumerate(DIALECTS) if dialect.kind or dialect.spans)
_ANNOUNCING: Final = frozenset(rank for rank, dialect in enumerate(DIALECTS) if dialect.announced_by)
_KEPT: Final = frozenset(key for dialect in DIALECTS for key in dialect.kept)


@dataclass(slots=True, frozen=True)
class Shape:
    """What spans with these keys can say.

    `spoken`: the dialects, by rank; `telling` and `announcing`, those of them that do so. `names`: (key, rank, meaning)
    and `inside`: (key, rank, paths), in the order of the keys. `is_known`: a dialect knows one of the keys. `kept`:
    keys without a column that are worth a place in a call's meta. `said`: `request_log.*` keys, {column: key}; of a
    stage too. `carries`, `carries_as_call`: the keys say something of a request, on any span and on a model call.
    """

    spoken: frozenset[int]
    telling: tuple[int, ...]
    announcing: tuple[int, ...]
    names: tuple[tuple[str, int, str], ...]
    inside: tuple[tuple[str, int, Paths], ...]
    is_known: bool
    kept: tuple[str, ...]
    said: Mapping[str, str]
    carries: bool
    carries_as_call: bool


def shape(attributes: records.Attributes) -> Shape:
    """Return the shape of these attributes."""
    keys = tuple(attributes)
    if len(keys) <= _MOST_KEYS and sum(map(len, keys)) <= _MOST_CHARACTERS:
        return _remembered(keys)
    return _shape(keys)


@lru_cache(_REMEMBERED)
def _remembered(keys: tuple[str, ...]) -> Shape:
    return _shape(keys)


def _shape(keys: Iterable[str]) -> Shape:
    known = [(key, about) for key in keys if (about := _KNOWN.get(key)) is not None]
    spoken = UNMARKED.union(rank for _, about in known for rank in about.marks)
    said = {key[_PREFIX:]: key for key in keys if key.startswith(conventions.REQUEST_LOG)}
    carrying = [key for key in said.values() if key != conventions.STAGE]
    return Shape(
        spoken=spoken,
        telling=tuple(sorted(spoken & _TELLING)),
        announcing=tuple(sorted(spoken & _ANNOUNCING)),
        names=tuple((key, rank, name) for key, about in known for rank, name in about.names if rank in spoken),
        inside=tuple((key, rank, paths) for key, about in known for rank, paths in about.inside if rank in spoken),
        is_known=bool(known),
        kept=tuple(key for key in keys if is_kept(key) and key not in _KNOWN and not is_content(key)),
        said=said,
        carries=bool(carrying),
        carries_as_call=any(key not in CALL_SAYS for key in carrying),
    )


def is_kept(attribute: str) -> bool:
    """Tell whether an attribute without a column has a place in the row's meta."""
    return attribute.startswith(conventions.GEN_AI) or attribute in _KEPT


def is_content(attribute: str) -> bool:
    """Tell whether an attribute holds messages between people and models."""
    return attribute in conventions.CONTENT_KEYS or attribute.startswith(conventions.CONTENT_PREFIXES)
