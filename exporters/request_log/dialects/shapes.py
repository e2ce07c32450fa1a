"""The meaning of a span's attributes, computed once for all spans with the same keys.

Spans of one kind have the same keys in the same order, thousands of times. The dialects, the column of each key and the
keys that are left over follow from the keys alone; only the values differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from otel_telemetry.base import conventions, records
from otel_telemetry.exporters.request_log.dialects.dialect_table import DIALECTS

#: Keys that are remembered together: more, or longer ones, are worked out anew each time. They come from anywhere.
_MOST_KEYS: Final = 128
_MOST_CHARACTERS: Final = 4_096
_MOST_REMEMBERED: Final = 1_024

#: What a call says of itself, on its own span.
CALL_ATTRIBUTES: Final = frozenset(conventions.REQUEST_LOG + name for name in records.LlmCall.__dataclass_fields__)
_PREFIX: Final = len(conventions.REQUEST_LOG)

Paths = Mapping[str, str]


#: What general conventions say of a request: its column, or its place in meta, and the keys that say it, best first.
GENERAL: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("user_id", conventions.USER_ID_KEYS),
    ("session_id", conventions.SESSION_ID_KEYS),
    ("conversation_id", (conventions.CONVERSATION_ID,)),
    ("ip_hash", conventions.CLIENT_ADDRESS_KEYS),
    ("http_route", (conventions.HTTP_ROUTE,)),
    ("task_name", (conventions.CELERY_TASK,)),
    ("rpc_method", (conventions.RPC_METHOD,)),
    ("http_method", (conventions.HTTP_REQUEST_METHOD, "http.method")),
    ("http_status_code", (conventions.HTTP_RESPONSE_STATUS_CODE, conventions.HTTP_STATUS_CODE_OLD)),
    ("error", (conventions.ERROR_TYPE,)),
)
#: Those of them that have few values in a service.
_FEW: Final = frozenset({"http_route", "task_name", "rpc_method", "http_method", "http_status_code", "error"})
#: What dialects say, in the order of their table: (attribute, rank, meaning), (attribute, rank, paths inside of it).
_NAMES: Final = tuple(
    (key, rank, meaning) for rank, dialect in enumerate(DIALECTS) for key, meaning in dialect.names.items()
)
_INSIDE: Final = tuple(
    (key, rank, paths) for rank, dialect in enumerate(DIALECTS) for key, paths in dialect.inside.items()
)
_MARKS: Final = {
    mark: frozenset(rank for rank, dialect in enumerate(DIALECTS) if mark in dialect.marks)
    for mark in frozenset().union(*(dialect.marks for dialect in DIALECTS))
}
_KINDS: Final = frozenset(dialect.kind for dialect in DIALECTS if dialect.kind)
_KNOWN: Final = frozenset({*(key for key, _, _ in _NAMES), *(key for key, _, _ in _INSIDE), *_MARKS, *_KINDS})
#: Who asked, and in which session, makes no span a model call.
_GENERAL_KEYS: Final = frozenset(key for _, keys in GENERAL for key in keys)
_DECISIVE: Final = _KNOWN - _GENERAL_KEYS
UNMARKED: Final = frozenset(rank for rank, dialect in enumerate(DIALECTS) if not dialect.marks)
#: The dialects that tell what a span is, and those that announce calls.
_TELLING: Final = frozenset(rank for rank, dialect in enumerate(DIALECTS) if dialect.kind or dialect.spans)
_ANNOUNCING: Final = frozenset(rank for rank, dialect in enumerate(DIALECTS) if dialect.announced_by)
_EXTRA_KEYS: Final = frozenset(key for dialect in DIALECTS for key in dialect.extra_keys)


@dataclass(slots=True, frozen=True)
class Shape:
    """The meaning of spans with these `keys`.

    `spoken`: the dialects, by rank; `marked`: the first with marks there; `telling` and `announcing`: those
    that do so. `names`: (key, rank, meaning) and `inside`: (key, rank, paths), in the order of the table of dialects.
    `is_known`: a dialect knows one of the keys. `extra_keys`: keys without a column that go to a call's meta.
    `request_log_keys`: `request_log.*` keys, {column: key}; of a stage too. `general`: request fields from general
    conventions, {column: keys}, the first one has priority, and `general_keys`: all of them. `is_silent`: there are no
    other keys. `repeats`: it is silent, and has few sets of values; `remembered` is what was found of them lately.
    `has_request_fields`, `has_request_fields_as_call`: the keys set fields of a request, on any span and on
    a model call. Nothing else here
    depends on the order of the keys.
    """

    keys: tuple[str, ...]
    spoken: frozenset[int]
    marked: int | None
    telling: tuple[int, ...]
    announcing: tuple[int, ...]
    names: tuple[tuple[str, int, str], ...]
    inside: tuple[tuple[str, int, Paths], ...]
    is_known: bool
    extra_keys: tuple[str, ...]
    request_log_keys: Mapping[str, str]
    general: Mapping[str, tuple[str, ...]]
    general_keys: tuple[str, ...]
    is_silent: bool
    has_request_fields: bool
    has_request_fields_as_call: bool
    repeats: bool


def shape(attributes: records.Attributes) -> Shape:
    """Return the shape of these attributes."""
    keys = tuple(attributes)
    found = _remembered.get(keys)
    if found is None:
        found = _shape(keys)
        if len(keys) <= _MOST_KEYS and sum(map(len, keys)) <= _MOST_CHARACTERS:
            if len(_remembered) >= _MOST_REMEMBERED:
                _remembered.clear()
            _remembered[keys] = found
    return found


_remembered: Final[dict[tuple[str, ...], Shape]] = {}


def _shape(given: tuple[str, ...]) -> Shape:
    keys = sorted(given)
    there = frozenset(keys)
    spoken = UNMARKED.union(*(_MARKS[key] for key in there & _MARKS.keys()))
    request_log_keys = {key[_PREFIX:]: key for key in keys if key.startswith(conventions.REQUEST_LOG)}
    is_silent = not request_log_keys and there.isdisjoint(_DECISIVE)
    general = {column: tuple(key for key in of if key in there) for column, of in GENERAL if not there.isdisjoint(of)}
    carrying = [key for key in request_log_keys.values() if key != conventions.STAGE]
    return Shape(
        keys=given,
        spoken=spoken,
        marked=min(spoken - UNMARKED, default=None),
        telling=tuple(sorted(spoken & _TELLING)),
        announcing=tuple(sorted(spoken & _ANNOUNCING)),
        names=tuple(name for name in _NAMES if name[0] in there and name[1] in spoken),
        inside=tuple(inside for inside in _INSIDE if inside[0] in there and inside[1] in spoken),
        is_known=not there.isdisjoint(_KNOWN),
        extra_keys=tuple(key for key in keys if goes_to_meta(key) and key not in _KNOWN and not is_content(key)),
        request_log_keys=request_log_keys,
        general=general,
        general_keys=tuple(key for key in keys if key in _GENERAL_KEYS),
        is_silent=is_silent,
        has_request_fields=bool(carrying),
        has_request_fields_as_call=any(key not in CALL_ATTRIBUTES for key in carrying),
        repeats=is_silent and general.keys() <= _FEW,
    )


def goes_to_meta(attribute: str) -> bool:
    """Return whether an attribute without a column has a place in the row's meta."""
    return attribute.startswith(conventions.GEN_AI) or attribute in _EXTRA_KEYS


def is_content(attribute: str) -> bool:
    """Return whether an attribute holds messages between people and models."""
    return attribute in conventions.CONTENT_KEYS or attribute.startswith(conventions.CONTENT_PREFIXES)
