"""Names in the element beside their value: `["--password", "x"]`, `{"name": "x-api-key", "value": ...}`.

For lists and maps: attributes, log bodies, and JSON text that was parsed. Everything here only reads.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from otel_telemetry.processors.detect.names import keys, looks
from otel_telemetry.processors.detect.names.described import NAME_MEMBERS, VALUE_MEMBERS
from otel_telemetry.processors.detect.names.looks import Form

_NAMES: Final = frozenset(NAME_MEMBERS)
_VALUES: Final = frozenset(VALUE_MEMBERS)
_PAIR: Final = 2
_NAME: Final = re.compile(r"[\w.$@:-]{2,100}|[\w.-]{2,40}(?: [\w.-]{2,20}){1,3}")
#: Headers that nearly every message has: a flat list with one of them at an even place is one of names and values.
_COMMON_HEADERS: Final = frozenset(
    "host accept user-agent content-type content-length accept-encoding connection origin referer date server".split()
)
#: Members of a JSON Schema: a map of these describes what a password may be, and holds none.
_SCHEMA: Final = frozenset(
    "type description title format minlength maxlength pattern enum default example examples anyof oneof allof $ref"
    " nullable const items properties required readonly writeonly deprecated minimum maximum x-nullable".split()
)
_SCHEMA_MARKS: Final = ("type", "$ref", "anyOf", "oneOf", "allOf", "enum")
_SCHEMA_TYPES: Final = frozenset("string number integer boolean object array null".split())
#: Members of a schema that hold a value of what it describes.
SCHEMA_VALUES: Final = frozenset({"default", "example", "examples", "const", "enum"})
_SHORT_OPTIONS: Final = frozenset({"-u", "-p", "-a"})
_LONG_OPTIONS: Final = frozenset({"--user", "sqlplus"})
_QUOTED: Final = Form(quoted=True, spaced=False, separator=":")


def decides(key: str, value: object) -> str:
    """Return the type of a value under a key where the key decides, or the value's look under a weak key; else ""."""
    kind = keys.classify(key)
    if not kind or value is None or isinstance(value, bool):
        return ""
    if kind in keys.WEAK_KINDS:
        likely = isinstance(value, str) and not looks.stands_in(value) and looks.weak(kind, value, _QUOTED)
        return keys.found_as(key) if likely else ""
    if isinstance(value, int | float):
        return kind if keys.gives_numbers(key) else ""
    if kind == keys.PERSON and isinstance(value, str) and "/" in value:  # the full name of a repository
        return ""
    return "" if isinstance(value, Mapping) and is_schema(value) else kind


def is_schema(value: Mapping[str, Any]) -> bool:
    """Return whether a map is a JSON Schema."""
    if not any(mark in value for mark in _SCHEMA_MARKS) or any(str(key).lower() not in _SCHEMA for key in value):
        return False
    kind = value.get("type")
    return kind is None or isinstance(kind, list) or (isinstance(kind, str) and kind in _SCHEMA_TYPES)


def described(value: Mapping[str, Any]) -> str:
    """Return the name that a member such as `name` or `key` gives to the member `value` beside it, or ""."""
    for member, name in value.items():
        if isinstance(name, str) and isinstance(member, str) and _plain(member) in _NAMES and _is_name(name):
            return name
    return ""


def is_value(member: str) -> bool:
    """Return whether a member of a described map holds its value."""
    return _plain(member) in _VALUES


def named_items(items: Sequence[Any]) -> dict[int, str]:
    """Return the name of each item that the item before it names, by its index."""
    if len(items) < _PAIR:
        return {}
    texts = [_text(item) for item in items]
    named = {at + 1: texts[at] for at in range(len(texts) - 1) if _is_option(texts[at]) and texts[at + 1][:1] != "-"}
    if len(items) == _PAIR and _is_name(texts[0]) and keys.is_strong(texts[0]) and not keys.classify(texts[1]):
        named[1] = texts[0]
    if len(items) % _PAIR == 0 and any(text.lower() in _COMMON_HEADERS for text in texts[::2]):
        named |= {at + 1: texts[at] for at in range(0, len(texts), 2) if _is_name(texts[at])}
    return named


def is_command(items: Sequence[Any]) -> bool:
    """Return whether a list has a word behind which some programs take a password: `-u`, `-p`, `--user`."""
    return any(isinstance(item, str) and (item[:2] in _SHORT_OPTIONS or item in _LONG_OPTIONS) for item in items)


def exposed(value: Any, written: Callable[[str], bool]) -> bool:
    """Return whether a value as JSON has it still shows something that a name gives away."""
    stack: list[tuple[str, Any]] = [("", value)]
    while stack:
        key, item = stack.pop()
        if isinstance(item, str) and item.lstrip()[:1] in ("[", "{"):
            stack.append((key, _parsed(item)))
        if isinstance(item, list):
            own = named_items(item)
            if is_command(item) and not any(isinstance(word, str) and written(word) for word in item):
                return True
            stack += [(own.get(at, key), inner) for at, inner in enumerate(item)]
        elif decides(key, item) and not (isinstance(item, str) and (not item or written(item))):
            return True
        elif isinstance(item, Mapping):
            stack += members(key, item)
    return False


def members(key: str, value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the members of a map, each with the key that says what it is."""
    name = described(value)
    schema = bool(keys.classify(key)) and is_schema(value)
    for member, inner in value.items():
        own = member if isinstance(member, str) else ""
        if (name and is_value(own)) or (schema and own in SCHEMA_VALUES):
            own = name or key
        yield own, inner


def _is_option(text: str) -> bool:
    return text[:1] == "-" and _is_name(text)


def _is_name(text: str) -> bool:
    """Return whether a text can be a name at all, and one that says something; a marker of ours is none."""
    return _NAME.fullmatch(text) is not None and bool(keys.classify(text))


def _parsed(text: str) -> Any:
    """Return what JSON text holds, or None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _plain(member: str) -> str:
    return member.lower().strip("@_-")


def _text(item: object) -> str:
    if isinstance(item, bytes):
        return item.decode("latin-1")
    return item if isinstance(item, str) else ""
