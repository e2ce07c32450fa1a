"""What stands in place of what was found: markers, masks, pseudonyms; in text, in JSON inside text, and whole values.

Everything written here is recognised here, so that a second pass changes nothing.
"""

import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from typing import Final, NamedTuple

from otel_telemetry.base.records import AnyValue
from otel_telemetry.processors.detect.detector import UNSCANNED, Match
from otel_telemetry.processors.detect.sightings import Sightings
from otel_telemetry.processors.redact.policy import IP, Action, Policy
from otel_telemetry.processors.redact.pseudonym import Pseudonyms, normalise_ip
from otel_telemetry.processors.redact.same_person import normal_form

_MARKER: Final = re.compile(r"\[REDACTED_[A-Z0-9_]{1,40}\]")
_MASK: Final = "****"
_MASKED: Final = re.compile(r"\*{4}[^\s*]{0,4}")
_KEPT: Final = 4
#: Types of what opens something, where a mask shows less.
_NEVER_SHOWN: Final = frozenset({"PASSWORD", "PRIVATE_KEY", "PIN", "CVV", "OTP", "URL_CREDENTIALS", "VALUE"})
_OPENING: Final = frozenset({"SECRET", "API_KEY", "AUTHORIZATION", "COOKIE", "JWT", "SESSION_ID"})
_LONG_ENOUGH: Final = 20
_JSON_NAME: Final = re.compile(r'(\\*")[ \t\r\n]{0,8}:[ \t\r\n]{0,8}$')
_JSON_ITEM: Final = re.compile(
    r'(?:(\\*)(")[ \t]{0,4}(?=([:,\[])):?|^)[ \t\r\n\[\]0-9a-z.,-]{0,200}[\[,][ \t\r\n]{0,8}$'
)
_JSON_BEFORE: Final = 240
_JSON_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+\-]?[0-9]+)?")
#: What JSON has nowhere but in strings (RFC 8259): other letters than those of its literals, other marks, and figures
#: that make no number.
_IN_STRING: Final = re.compile(r"[^0-9+\-.eE,:\[\]{}\strufalsn]|\d[ -]\d|\.\d+\.|^\+")
_JSON_NEXT: Final = re.compile(r"[ \t\r\n]*(?:[,}\]]|$)")


class Finding(NamedTuple):
    """One thing that was redacted: its type, the rule that found it, its length in characters. Never the text."""

    type: str
    rule: str
    length: int


class Findings(list[Finding]):
    """What is found in one record. `seen` is what one scan of all its strings saw: they need no second one."""

    __slots__ = ("seen",)

    def __init__(self, seen: Sightings) -> None:
        super().__init__()
        self.seen = seen


def marker(kind: str) -> str:
    """Return what stands in place of a redacted value."""
    return f"[REDACTED_{kind}]"


def is_marker(text: str) -> bool:
    """Return whether a text is one marker and nothing else."""
    return _MARKER.fullmatch(text) is not None


def within_json_string(piece: str) -> bool:
    """Return whether a stretch of JSON text lies within one string for certain, so that a marker can take its place."""
    return '"' not in piece and "\\" not in piece and _IN_STRING.search(piece) is not None


def _masked(text: str, kind: str) -> str:
    """Return a text's last four letters and figures behind a mask; less where these are too much of it to be shown.

    Of what opens something nothing is shown unless it is long, and of a password never: the rest could be guessed.
    """
    shown = "".join(filter(str.isalnum, text))
    if kind in _NEVER_SHOWN or (kind in _OPENING and len(shown) < _LONG_ENOUGH) or len(text) <= 2 * _KEPT:
        return _MASK
    return _MASK + shown[-_KEPT:]


class Writer:
    """Writes replacements under one policy and one key. Holds no state."""

    def __init__(self, policy: Policy, pseudonyms: Pseudonyms) -> None:
        self._policy = policy
        self._pseudonyms = pseudonyms

    def written(self, text: str) -> bool:
        """Return whether a text is something that was written here before."""
        first = text[:1]
        if (first == "[" and _MARKER.fullmatch(text)) or (first == "*" and _MASKED.fullmatch(text)):
            return True
        return self._pseudonyms.is_pseudonym(text.partition("@")[0])

    def replacement(self, text: str, kind: str, action: Action) -> str:
        """Return what an action makes of one value of a type."""
        if action == "mask":
            return _masked(text, kind)
        if action == "hash" and self._pseudonyms.available:
            return self._pseudonym(text, kind)
        return text if action == "keep" else marker(kind)

    def _pseudonym(self, text: str, kind: str) -> str:
        if kind == IP:
            return self._pseudonyms.of_ip(text) or self._pseudonyms.of(text)
        if kind == "EMAIL":
            name, _, domain = normal_form(kind, text).rpartition("@")
            pseudonym = self._pseudonyms.of(normal_form(kind, text))
            return f"{pseudonym}@{domain}" if self._policy.email_domain and name else pseudonym
        return self._pseudonyms.of(normal_form(kind, text))

    def instead(self, text: str, match: Match) -> str:
        """Return what stands in place of one value of a text, or the value itself where it stays."""
        piece = text[match.start : match.end]
        action = self._policy.of(match.type, piece)
        return piece if action == "keep" or self.written(piece) else self.replacement(piece, match.type, action)

    def text(self, text: str, matches: Sequence[Match], found: list[Finding]) -> str:
        """Return a text with everything that was found in it replaced; the same object where nothing had to be."""
        out: list[str] = []
        at = 0
        for match in matches:
            if match.type == UNSCANNED:  # the rest, of which there may be many megabytes
                found.append(Finding(match.type, match.rule, match.end - match.start))
                out += (text[at : match.start], marker(UNSCANNED))
                at = match.end
                continue
            piece = text[match.start : match.end]
            action = self._policy.of(match.type, piece)
            if action == "keep" or self.written(piece):
                continue
            found.append(Finding(match.type, match.rule, len(piece)))
            if action == "drop":
                return marker(match.type)
            quote = _quotes(text, match)
            out += (text[at : match.start], quote, self.replacement(piece, match.type, action), quote)
            at = match.end
        if not out:
            return text
        new = "".join((*out, text[at:]))
        return text if new == text else new

    def whole(self, value: AnyValue, kind: str, action: Action, rule: str, found: list[Finding]) -> AnyValue:
        """Return a value replaced as a whole, because its key says what it is; lists element by element."""
        if value is None or isinstance(value, bool) or value in ("", b"") or action == "keep":
            return value
        if isinstance(value, str):
            return value if self.written(value) else self._put(value, kind, action, rule, found)
        if isinstance(value, bytes):
            text = value.decode("utf-8", "replace")
            return value if self.written(text) else self._put(text, kind, action, rule, found).encode()
        if isinstance(value, int | float):
            return self._put(str(value), kind, action, rule, found)
        if isinstance(value, Mapping) or not all(item is None or isinstance(item, str | int | float) for item in value):
            found.append(Finding(kind, rule, 0))
            return marker(kind)
        return same_or([self.whole(item, kind, action, rule, found) for item in value], value)

    def _put(self, text: str, kind: str, action: Action, rule: str, found: list[Finding]) -> str:
        new = self.replacement(text, kind, action)
        if new != text:
            found.append(Finding(kind, rule, len(text)))
        return new

    def address(self, part: str, key: str, found: list[Finding]) -> str | None:
        """Return one part of a client attribute with its address hashed, or None where it is no address."""
        body = part.strip()
        if not body or is_marker(body):
            return part
        new = self._pseudonyms.of_ip(body) if self._pseudonyms.available else normalise_ip(body) and marker(IP)
        if new is None or new == body:
            return new and part
        found.append(Finding(IP, key, len(body)))
        return part.replace(body, new)


def same_or(items: list[AnyValue], old: Sequence[AnyValue]) -> AnyValue:
    """Return the old sequence where all items are the same objects, else the new ones in the old type."""
    if all(new is item for new, item in zip(items, old, strict=True)):
        return old
    return tuple(items) if isinstance(old, tuple) else items


def texts_of(key: str, value: AnyValue) -> list[str]:
    """Return the key, and all names and texts in a nested value."""
    texts = [key]
    stack = [value]
    while stack:
        inner = stack.pop()
        if isinstance(inner, str):
            texts.append(inner)
        elif isinstance(inner, Mapping):
            texts += inner
            stack += inner.values()
        elif isinstance(inner, Sequence) and not isinstance(inner, bytes):
            stack += inner
    return texts


def _quotes(text: str, match: Match) -> str:
    """Return the quotes that a number needs when text takes its place in JSON, escaped as those around it.

    `"ssn": 123` has them on its name; in a list they are those of the list's name or of the text before it, or, where
    the list opens a string, one level deeper.
    """
    if not _JSON_NUMBER.fullmatch(text, match.start, match.end) or not _JSON_NEXT.match(text, match.end):
        return ""
    before = text[max(0, match.start - _JSON_BEFORE) : match.start]
    last = before.rstrip(" \t\r\n")[-1:]
    if last == ":" and (name := _JSON_NAME.search(before)):
        return name[1]
    item = _JSON_ITEM.search(before) if last in ("[", ",") else None
    if item is None:
        return ""
    escape, mark, after = item.groups()
    if not mark:
        return '"' if match.start <= len(before) and _is_list(text) else ""
    return (escape * 2 + "\\" if after == "[" else escape) + '"'


def _is_list(text: str) -> bool:
    """Return whether a text begins and ends as a list or an object of JSON does."""
    bare = text.strip()
    return bare[:1] + bare[-1:] in ("[]", "{}")


def free_name(name: str, taken: Container[str], same: Counter[str]) -> str:
    """Return a name that is not taken: itself, then with `_`, `_3`, `_4` behind it; `same` is where it goes on."""
    free = name
    while free in taken:
        same[name] += 1
        free = f"{name}_" if same[name] == 1 else f"{name}_{same[name] + 1}"
    return free
