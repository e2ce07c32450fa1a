"""The family of a cache key: a few words that contain nothing of the key itself.

    user:8231:profile          -> user
    tool:web_search:q:...      -> tool:web_search
    v2:user:8231               -> v*
    8231                       -> none

The leading `:`-separated parts name the family; the last part never does, because it identifies the key. Only words are
used: a number at their end becomes `*`, and anything else (ids, addresses, tokens) is `*` as a whole. For keys of the
contract's form (`tool:...`) the name of the tool is included. There are at most a hundred families in a process; later
ones are `other`.
"""

import re
import threading
from typing import Final

LIMIT: Final = 100
NONE: Final = "none"
OTHER: Final = "other"
_HEAD: Final = 128  # characters of a key that are looked at
_REMEMBERED: Final = 2048
_WORD: Final = re.compile(r"([A-Za-z]{1,24}(?:[._-][A-Za-z]{1,24}){0,3}[._-]?)(\d{0,6})")
_HEX: Final = re.compile(r"[0-9A-Fa-f]{8,}")
_TOOL: Final = "tool"


class Families:
    """Names the family of each key, and never more than `LIMIT` different ones."""

    def __init__(self, parts: int = 1) -> None:
        self._parts = parts
        self._known: dict[str, str] = {}  # by its head
        self._recent: dict[str, str] = {}  # by key
        self._names: set[str] = set()
        self._lock = threading.Lock()

    def of(self, key: object) -> str:
        """Return the family of a key as redis-py takes it: text, bytes, or a number."""
        if type(key) is not str:  # the others need not be hashable, and are rare
            return self._of(key)
        family = self._recent.get(key)
        if family is None:
            if len(self._recent) >= _REMEMBERED:
                self._recent.clear()
            family = self._recent[key] = self._of(key)
        return family

    def _of(self, key: object) -> str:
        if isinstance(key, bytes | bytearray | memoryview):
            key = bytes(key[:_HEAD]).decode("latin-1")
        elif not isinstance(key, str):
            return NONE
        parts = key[:_HEAD].split(":", self._parts + 1)
        wanted = self._parts + (parts[0] == _TOOL)
        head = ":".join(parts[: min(wanted, len(parts) - 1)])
        return self._known.get(head) or self._learn(head)

    def _learn(self, head: str) -> str:
        name = ":".join(_shown(part) for part in head.split(":")) if head else NONE
        with self._lock:
            if name not in self._names:
                if len(self._names) >= LIMIT:
                    return OTHER
                self._names.add(name)
            if len(self._known) < _REMEMBERED:
                self._known[head] = name
        return name


def _shown(part: str) -> str:
    word = _WORD.fullmatch(part)
    if word is None or _HEX.fullmatch(part):
        return "*"
    return word[1] + "*" if word[2] else word[1]
