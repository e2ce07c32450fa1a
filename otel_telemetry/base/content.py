"""Removes content from free data: from maps, lists and JSON text of any depth, what people asked and models answered.

The name or the position decides: text under `prompt` or `answer`, all of a message with its role, prose in a `result`
are removed. Counts, ids, names of models, finish reasons and everything that has nothing to do with models stay. What
cannot be parsed (JSON that was cut, nesting without end) is removed if it looks like content.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from otel_telemetry.base.content_names import (
    ANSWER,
    CONTENT,
    DOUBTFUL,
    MESSAGE,
    MIXED,
    PLAIN,
    QUOTED,
    is_measure,
    meaning,
)

#: What stands for a value that is content.
GONE: Final = object()
#: Which texts of a place stay: all that no name gives away; words and ids only; these and titles.
Texts = Literal["all", "slugs", "titles"]
_DEEPEST: Final = 48
_LONGEST_JSON: Final = 4_000_000
_LONGEST_LITERAL: Final = 65_536
_PAIR: Final = 2
_OPENS: Final = ("{", "[", '"')
_ROLES: Final = frozenset(
    [
        "user",
        "assistant",
        "system",
        "developer",
        "tool",
        "function",
        "model",
        "human",
        "ai",
        "bot",
        "customer",
        "agent",
        "ipython",
        "chatbot",
    ]
)
#: Text that says nothing by itself: ids, slugs, names of models, addresses of pages.
_SLUG: Final = re.compile(r"[a-z0-9_][a-z0-9_.:/@+-]{0,127}|(?=\S*\d)[A-Za-z0-9_.:/@+-]{1,128}|https?://[^\s?]{1,500}")
_REQUEST_LINE: Final = re.compile(r"(?:GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS) /?\S*(?: HTTP/\S+)?")
_NAME_IN_TEXT: Final = re.compile(r"""\\*["']([\w.-]{1,80})\\*["'][ \t]{0,8}[:=]""")
_LABEL: Final = re.compile(r"(?im)^[ \t]{0,8}(?:prompt|question|answer|completion)[ \t]{0,8}:[ \t]{0,8}\S")
#: Where JSON may begin behind other text.
_EMBEDDED: Final = re.compile(r"""[\[{]\s{0,8}["'\[{]""")
_MOST_EMBEDDED: Final = 16
_DECODER: Final = json.JSONDecoder()
_IN_URL: Final = re.compile(r"(^|[?&])([\w.-]{1,40})=[^&#]+")
_OPTION: Final = re.compile(r"--?([A-Za-z][\w.-]{0,40})(?:(=).*)?", re.DOTALL)
#: Which texts stay right under a name of that meaning, and which in the list or map that it holds.
_PROSELESS: Final[dict[str, Texts]] = {DOUBTFUL: "slugs", QUOTED: "slugs", MIXED: "slugs"}
_INSIDE: Final[dict[str, Texts]] = {DOUBTFUL: "slugs", MESSAGE: "slugs", PLAIN: "slugs", QUOTED: "titles"}
#: Names of what a text is called, and where it is from.
_TITLES: Final = frozenset(
    [
        "title",
        "source",
        "name",
        "author",
        "file",
        "filename",
        "url",
        "uri",
        "path",
        "section",
        "heading",
        "page",
        "site",
    ]
)
#: Names of what went wrong: it is no content wherever it stands.
_FAULTS: Final = frozenset(["error", "errors", "exception", "warning", "warnings", "problems"])
#: Names of what describes a message or an answer, and is none of its words.
_DESCRIBES: Final = frozenset(
    ["object", "created", "event", "n", "seed", "streamed", "stream", "latency", "elapsed", "system_fingerprint", "ok"]
)


def without(value: Any, name: str = "", *, sure: bool = False) -> Any:
    """Return free data without its content, the same object where there is none; GONE where it is nothing else.

    `name` is where it stands. `sure`: only what means content wherever it stands.
    """
    return _Filter(sure=sure).under(name, value, "all", 0)


def without_words(value: Any) -> Any:
    """Return a message of a conversation, or its attributes, with nothing but counts, ids and kinds."""
    return _Filter(sure=False).strict(value, 0)


class _Filter:
    """One pass over one value."""

    def __init__(self, *, sure: bool) -> None:
        self._sure = sure

    def under(self, name: str, value: Any, texts: Texts, depth: int) -> Any:
        """Return what stays of a value under a name. `texts`: which of them the place lets stay."""
        if value is None or isinstance(value, bool | int | float):
            return value
        means = meaning(name, sure=self._sure)
        if name.lower() in _FAULTS or (texts == "titles" and name.lower() in _TITLES):
            texts = "all"
        if means == CONTENT or (means == MESSAGE and texts != "all"):
            return GONE
        if isinstance(value, bytes | bytearray):
            return self._bytes(bytes(value), name, texts, depth)
        if isinstance(value, str):
            parsed = _read(value) if value.lstrip()[:1] in _OPENS else None
            if parsed is not None:
                return self._json(value, parsed, name, texts, depth)
            if not self._sure and _EMBEDDED.match(value.lstrip()):
                return GONE  # it was cut, or is of a kind that nobody can read
            return GONE if means == ANSWER else self._text(value, _PROSELESS.get(means, texts), depth)
        if means == ANSWER:
            return self.strict(value, depth + 1)
        return self._structure(value, _INSIDE.get(means, texts), depth + 1, quoted=means == MIXED)

    def _bytes(self, value: bytes, name: str, texts: Texts, depth: int) -> Any:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return value if texts == "all" else GONE
        kept = self.under(name, text, texts, depth)
        return kept if kept is GONE else value if kept is text else str(kept).encode()

    def _structure(self, value: Any, texts: Texts, depth: int, *, quoted: bool = False) -> Any:
        if depth > _DEEPEST:
            return GONE
        if isinstance(value, Mapping):
            return self.strict(value, depth) if _is_message(value) else self._mapping(value, texts, depth)
        return self._list(value, "slugs" if quoted else texts, texts, depth) if isinstance(value, Sequence) else value

    def _mapping(self, value: Mapping[Any, Any], texts: Texts, depth: int) -> Any:
        kept: dict[Any, Any] = {}
        named = self._named_inside(value)
        for name, item in value.items():
            stays = GONE if named and name != named and not is_measure(str(name)) else item
            stays = stays if stays is GONE else self.under(str(name), item, texts, depth)
            if stays is not GONE and (texts == "all" or _SLUG.fullmatch(str(name).lower())):
                kept[name] = stays
        return _same_or(kept, value)

    def _named_inside(self, value: Mapping[Any, Any]) -> str:
        """Return which member names what the others hold, as in {"name": "prompt", "value": "..."}; or ""."""
        if "value" in value or "Value" in value or "values" in value:
            for name in ("name", "key", "Name", "Key", "field", "attribute"):
                inner_name = value.get(name)
                if isinstance(inner_name, str) and meaning(inner_name, sure=self._sure) in (CONTENT, ANSWER):
                    return name
        return ""

    def _list(self, value: Sequence[Any], own: Texts, texts: Texts, depth: int) -> Any:
        """`own`: which texts of the list itself stay; `texts`: those of what is inside its items."""
        kept: list[Any] = []
        hidden = self._hidden_items(value)
        for at, item in enumerate(value):
            if at in hidden:
                kept.append(GONE)
            elif isinstance(item, str | bytes | bytearray) or item is None or isinstance(item, bool | int | float):
                kept.append(self.under("", item, own, depth))
            else:
                kept.append(self._structure(item, texts, depth + 1))
        if all(new is old for new, old in zip(kept, value, strict=True)):
            return value
        stays = [item for item in kept if item is not GONE]
        return (tuple(stays) if isinstance(value, tuple) else stays) if stays else GONE

    def _hidden_items(self, value: Sequence[Any]) -> set[int]:
        """Return the items that the one before them names: ["--prompt", "..."] and ["prompt", "..."]."""
        hidden = set()
        for at, item in enumerate(value):
            option = _OPTION.fullmatch(item) if isinstance(item, str) else None
            name = option[1] if option else item if isinstance(item, str) and len(value) == _PAIR and at == 0 else ""
            if not name or meaning(name, sure=self._sure) != CONTENT:
                continue
            if option and option[2]:
                hidden.add(at)
            elif at + 1 < len(value) and not _is_word(value[at + 1]):
                hidden.add(at + 1)
        return hidden

    def _text(self, text: str, texts: Texts, depth: int) -> Any:
        if texts != "all" and not (_SLUG.fullmatch(text) or _REQUEST_LINE.fullmatch(text)):
            return GONE
        if self._holds_json(text, depth) or (not self._sure and _LABEL.search(text)):
            return GONE
        new = _IN_URL.sub(self._in_url, text) if "=" in text else text
        return text if new == text else new

    def _holds_json(self, text: str, depth: int) -> bool:
        """Return whether JSON behind other text, or JSON that was cut, has content in it."""
        at = 0
        for _ in range(_MOST_EMBEDDED):
            found = _EMBEDDED.search(text, at)
            if found is None:
                break
            try:
                parsed, at = _DECODER.raw_decode(text, found.start())
            except (ValueError, RecursionError):
                break
            if depth > _DEEPEST or self.under("", parsed, "all", depth + 1) is not parsed:
                return True
        return any(self._is_of_content(name[1]) for name in _NAME_IN_TEXT.finditer(text, at))

    def _is_of_content(self, name: str) -> bool:
        return meaning(name, sure=self._sure) in (CONTENT, ANSWER, *_PROSELESS) or name == "role"

    def _in_url(self, found: re.Match[str]) -> str:
        return f"{found[1]}{found[2]}=" if meaning(found[2], sure=self._sure) == CONTENT else found[0]

    def _json(self, text: str, parsed: Any, name: str, texts: Texts, depth: int) -> Any:
        """Filter what a text stands for; it stays text, and stays as it is where nothing had to go."""
        kept = GONE if depth > _DEEPEST else self.under(name, parsed, texts, depth + 1)
        if kept is GONE or kept is parsed:
            return GONE if kept is GONE else text
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":"), default=str)

    def strict(self, value: Any, depth: int) -> Any:
        """Return what describes a message: numbers and words under names of such, and no text of any other name."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Mapping):
            return _same_or(self._strict_members(value, depth), value)
        if isinstance(value, str | bytes | bytearray) or not isinstance(value, Sequence) or depth > _DEEPEST:
            return GONE
        stays = [self.strict(item, depth + 1) for item in value if isinstance(item, Mapping | list | tuple)]
        stays = [item for item in stays if item is not GONE]
        return stays or GONE

    def _strict_members(self, value: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
        members = ((name, self._strict_member(str(name), item, depth)) for name, item in value.items())
        return {name: item for name, item in members if item is not GONE}

    def _strict_member(self, name: str, item: Any, depth: int) -> Any:
        if name.lower() in _FAULTS:
            return self.under(name, item, "all", depth + 1)
        if isinstance(item, str):
            return item if _describes(name) and _SLUG.fullmatch(item.lower()) else GONE
        if isinstance(item, int | float) and not isinstance(item, bool):
            return item if _describes(name) else GONE
        if isinstance(item, list | tuple) and item and _describes(name) and _all_slugs(item):
            return item
        return GONE if depth > _DEEPEST or meaning(name) == CONTENT else self.strict(item, depth + 1)


def _is_word(item: Any) -> bool:
    """Return whether an item of a list cannot be what the one before it names: another option, or a word."""
    return isinstance(item, str) and (_OPTION.fullmatch(item) or _SLUG.fullmatch(item)) is not None


def _same_or(kept: dict[Any, Any], old: Mapping[Any, Any]) -> Any:
    if len(kept) == len(old) and all(kept[name] is old[name] for name in kept):
        return old
    return kept or GONE


def _describes(name: str) -> bool:
    return name.lower() in _DESCRIBES or is_measure(name)


def _is_message(value: Mapping[Any, Any]) -> bool:
    """Return whether a map is a message of a conversation: it has a role."""
    role = value.get("role", value.get("speaker"))
    return isinstance(role, str) and role.lower() in _ROLES


def _all_slugs(items: Sequence[Any]) -> bool:
    return all(isinstance(item, str) and _SLUG.fullmatch(item.lower()) for item in items)


def _read(text: str) -> Any:
    """Return what JSON, or Python's way to write it, stands for; None where it is neither."""
    if len(text) > _LONGEST_JSON:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        found = ast.literal_eval(text) if len(text) <= _LONGEST_LITERAL else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return found if isinstance(found, dict | list | tuple | str) else None
