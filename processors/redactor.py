"""The redactor: strings, nested values and attributes in; the same without personal data out.

One object for every surface (spans, logs, OTLP bytes, REST bodies). It is immutable after construction and thread-safe.
What is clean comes back as the very object that went in. What it writes (markers, pseudonyms) it leaves alone the
second time.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from otel_telemetry import conventions
from otel_telemetry.processors import keys
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.detector import Detector, Match
from otel_telemetry.processors.policy import HASHED_KEYS, Policy, is_content, is_safe
from otel_telemetry.processors.pseudonym import Pseudonyms, normalise_ip
from otel_telemetry.processors.ruleset import builtin_rules, load_rules
from otel_telemetry.records import AnyValue

MAX_DEPTH: Final = 64
_IP: Final = "IP_ADDRESS"
_MAX_HITS: Final = 100_000
_SEPARATOR: Final = "\x00"
_CLIENT_KEYS: Final = frozenset(conventions.CLIENT_ADDRESS_KEYS)
_MARKER: Final = re.compile(r"\[REDACTED_[A-Z0-9_]{1,40}\]")
_JSON_KEY: Final = re.compile(r'(\\*")[ \t\r\n]{0,8}:[ \t\r\n]{0,8}$')
_JSON_NEXT: Final = re.compile(r"[ \t\r\n]*(?:[,}\]]|$)")


@dataclass(slots=True, frozen=True)
class Finding:
    """One thing that was redacted: its type, the rule that found it, its length in characters. Never the text."""

    type: str
    rule: str
    length: int


def marker(kind: str) -> str:
    """Return what stands in place of a redacted value."""
    return f"[REDACTED_{kind}]"


class Redactor:
    """Applies rules and policy. Raises RuleError or ConfigurationError at construction, never for what it redacts."""

    def __init__(self, settings: RedactionSettings) -> None:
        self._policy = Policy(content=settings.content or "redact")
        self._pseudonyms = Pseudonyms(settings.pseudonyms)
        rules = (*builtin_rules(), *load_rules(settings.rules))
        named = {*_CLIENT_KEYS, *HASHED_KEYS}
        if self._policy.content == "drop":
            named |= {*conventions.CONTENT_KEYS, *conventions.CONTENT_PREFIXES}
        self._detector = Detector(rules, settings.engine, sorted(named))
        self.engine = self._detector.engine

    def for_service(self, service: str) -> "Redactor":
        """Return the redactor with the policy's overrides for a service; itself where there are none."""
        del service
        return self

    def hits(self, data: bytes) -> Sequence[int]:
        """Return the END offsets (exclusive, ascending) of every trigger in arbitrary bytes, such as OTLP on the wire.

        A superset: if `string(s)` or `item(k, v)` would change anything for a string that lies contiguously at
        data[a:b], then some offset has a < end <= b, or ends in that way inside the key. No offset: nothing to do.
        """
        return self._detector.ends(data, _MAX_HITS)

    def dirty(self, texts: Sequence[str]) -> Sequence[int]:
        """Return the indexes of the strings (values or keys) that may change, ascending; scanned as one block."""
        joined = _SEPARATOR.join(texts) + _SEPARATOR
        data = joined.encode() if joined.isascii() else joined.encode("utf-8", "surrogatepass")
        ends = self._detector.ends(data, _MAX_HITS)
        if not ends:
            return ()
        if len(ends) > _MAX_HITS:
            return range(len(texts))
        sizes = (len(t) + 1 if t.isascii() else len(t.encode("utf-8", "surrogatepass")) + 1 for t in texts)
        starts = list(accumulate(sizes, initial=0))
        found = {bisect_right(starts, end - 1) - 1 for end in ends}
        return sorted(index for index in found if index < len(texts))

    def string(self, text: str, key: str = "", findings: list[Finding] | None = None) -> str:
        """Return one string redacted; the same object where it is clean. JSON stays JSON, escaped or not."""
        if key:
            changed = self.value(text, key, findings)
            return changed if isinstance(changed, str) else ""
        matches = self._detector.find(text)
        if not matches:
            return text
        found: list[Finding] = []
        result = self._rewrite(text, matches, found)
        if result != text and _looks_json(text) and _is_json(text) and not _is_json(result):
            result, found = marker("JSON"), found or []
        if findings is not None:
            findings += found
        return result

    def value(self, value: AnyValue, key: str = "", findings: list[Finding] | None = None) -> AnyValue:
        """Return any attribute value redacted, nested or not; the same object where it is clean."""
        return self._walk(value, key, [] if findings is None else findings, 0)

    def item(self, key: str, value: AnyValue, findings: list[Finding] | None = None) -> tuple[str, AnyValue] | None:
        """Return one attribute redacted, key and value, or None where the policy drops it."""
        found: list[Finding] = [] if findings is None else findings
        if is_safe(key):
            return key, value
        if self._policy.content == "drop" and is_content(key):
            return None
        return self.string(key, "", found), self._attribute(key, value, found)

    def _attribute(self, key: str, value: AnyValue, found: list[Finding]) -> AnyValue:
        if key in HASHED_KEYS:
            return self._hash(value, HASHED_KEYS[key], key, found)
        if key in _CLIENT_KEYS:
            return self._addresses(value, key, found)
        return self._walk(value, key, found, 0)

    def _walk(self, value: AnyValue, key: str, found: list[Finding], depth: int) -> AnyValue:
        if value is None or isinstance(value, bool):
            return value
        if key:
            kind = keys.classify(key)
            if kind and kind not in (keys.WEAK, keys.VENDOR) and not is_safe(key):
                return self._whole(value, kind, found)
        if isinstance(value, str):
            return self.string(value, "", found)
        if isinstance(value, bytes):
            return self._bytes(value, found)
        if isinstance(value, int | float):
            return value
        if depth >= MAX_DEPTH:
            found.append(Finding("DEPTH", "limit", 0))
            return marker("DEPTH")
        if isinstance(value, Mapping):
            return self._mapping(value, found, depth)
        return self._sequence(value, key, found, depth)

    def _mapping(self, value: Mapping[str, Any], found: list[Finding], depth: int) -> AnyValue:
        out: dict[str, Any] = {}
        changed = False
        for name, item in value.items():
            new_name = self.string(name, "", found) if isinstance(name, str) else name
            new_item = self._walk(item, name if isinstance(name, str) else "", found, depth + 1)
            changed = changed or new_name is not name or new_item is not item
            while new_name is not name and new_name in out:
                new_name += "_"
            out[new_name] = new_item
        return out if changed else value

    def _sequence(self, value: Sequence[Any], key: str, found: list[Finding], depth: int) -> AnyValue:
        items = [self._walk(item, key, found, depth + 1) for item in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return tuple(items) if isinstance(value, tuple) else items

    def _bytes(self, value: bytes, found: list[Finding]) -> AnyValue:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = value.decode("latin-1")
            clean = self.string(text, "", found)
            return value if clean is text else clean.encode("utf-8")
        clean = self.string(text, "", found)
        return value if clean is text else clean.encode()

    def _whole(self, value: AnyValue, kind: str, found: list[Finding]) -> AnyValue:
        """Replace all of a value, because its key says what it is."""
        if isinstance(value, str):
            if not value or _MARKER.fullmatch(value) or self._pseudonyms.is_pseudonym(value):
                return value
            return self._put(value, kind, "key", found)
        if isinstance(value, bytes):
            return self._put(value.decode("latin-1"), kind, "key", found).encode() if value else value
        if isinstance(value, int | float):
            return value if kind == keys.SECRET else self._put(str(value), kind, "key", found)
        if not isinstance(value, Mapping) and all(isinstance(item, str | int) for item in value):
            items = [self._whole(item, kind, found) if not isinstance(item, bool) else item for item in value]
            same = all(new is old for new, old in zip(items, value, strict=True))
            return value if same else tuple(items) if isinstance(value, tuple) else items
        found.append(Finding(kind, "key", 0))
        return marker(kind)

    def _hash(self, value: AnyValue, kind: str, key: str, found: list[Finding]) -> AnyValue:
        if value is None or value == "" or isinstance(value, bool):
            return value
        if not self._pseudonyms.available or not isinstance(value, str | int):
            return self._whole(value, kind, found)
        text = str(value)
        if _MARKER.fullmatch(text):
            return value
        new = self._pseudonyms.of(text)
        if new == text:
            return value
        found.append(Finding(kind, key, len(text)))
        return new

    def _addresses(self, value: AnyValue, key: str, found: list[Finding]) -> AnyValue:
        """Hash each address of a client attribute: one, a comma list, or a list."""
        if isinstance(value, str):
            parts = [self._address(part, key, found) for part in value.split(",")]
            new = ",".join(parts)
            return value if new == value else new
        if isinstance(value, list | tuple):
            items = [self._addresses(item, key, found) for item in value]
            same = all(new is old for new, old in zip(items, value, strict=True))
            return value if same else tuple(items) if isinstance(value, tuple) else items
        return self._walk(value, key, found, 0)

    def _address(self, part: str, key: str, found: list[Finding]) -> str:
        body = part.strip()
        if not body or _MARKER.fullmatch(body):
            return part
        if self._pseudonyms.available:
            digest = self._pseudonyms.of_ip(body)
            if digest == body:
                return part
            if digest:
                found.append(Finding(_IP, key, len(body)))
                return part.replace(body, digest)
        elif normalise_ip(body):
            found.append(Finding(_IP, key, len(body)))
            return part.replace(body, marker(_IP))
        return self.string(part, "", found)

    def _put(self, text: str, kind: str, rule: str, found: list[Finding]) -> str:
        found.append(Finding(kind, rule, len(text)))
        return marker(kind)

    def _rewrite(self, text: str, matches: Sequence[Match], found: list[Finding]) -> str:
        out: list[str] = []
        at = 0
        for match in matches:
            piece = text[match.start : match.end]
            if _MARKER.fullmatch(piece) or self._pseudonyms.is_pseudonym(piece):
                continue
            out += (text[at : match.start], self._replacement(text, piece, match, found))
            at = match.end
        if not out:
            return text
        return "".join((*out, text[at:]))

    def _replacement(self, text: str, piece: str, match: Match, found: list[Finding]) -> str:
        new = self._put(piece, match.type, match.rule, found)
        quote = _bare_json(text, match)
        return f"{quote}{new}{quote}"


def _bare_json(text: str, match: Match) -> str:
    """Return the quotes that a number needs when text takes its place in JSON: `"ssn": 123` has them on its name."""
    if not (text[match.start].isdigit() or text[match.start] == "-"):
        return ""
    name = _JSON_KEY.search(text, max(0, match.start - 40), match.start)
    return name[1] if name and _JSON_NEXT.match(text, match.end) else ""


def _looks_json(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[", '"') and text.lstrip()[:10] != "[REDACTED_"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
