"""The redactor: strings, nested values and attributes in; the same without personal data out.

One object for every surface (spans, logs, OTLP bytes, REST bodies). It is immutable after construction and thread-safe.
What is clean comes back as the very object that went in. What it writes (markers, masks, pseudonyms) it leaves alone
the second time.
"""

import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Final

from otel_telemetry.processors import keys
from otel_telemetry.processors.config import NER_TYPES, RedactionSettings
from otel_telemetry.processors.detector import Detector, Match, Sightings, refuse_broken
from otel_telemetry.processors.paths import JsonPath
from otel_telemetry.processors.policy import CLIENT_KEYS, HASHED_KEYS, Action, Policy, is_content, is_safe
from otel_telemetry.processors.policy_file import load_policy, optional_of
from otel_telemetry.processors.pseudonym import Pseudonyms
from otel_telemetry.processors.rewrite import Finding, Findings, Writer, is_marker, marker, same_or, within_json_string
from otel_telemetry.processors.ruleset import Rule, builtin_rules, load_rules
from otel_telemetry.processors.safe_values import SafeValues
from otel_telemetry.records import AnyValue

MAX_DEPTH: Final = 64
_MAX_PASSES: Final = 16
_SMALL: Final = 100_000_000
_STRUCTURED: Final = ("{", "[")
_PHONE: Final = "PHONE"
#: Where the paths of a policy have arrived inside a value.
_Places = list[tuple[JsonPath, Action, frozenset[int]]]


class Redactor:
    """Applies rules and policy. Raises RuleError or ConfigurationError at construction, never for what it redacts."""

    def __init__(self, settings: RedactionSettings) -> None:
        builtin = builtin_rules(optional=optional_of(settings))
        own = load_rules(settings.rules, builtin)
        rules = (*builtin, *own)
        policy = load_policy(settings.policy, _types(rules, settings)) if settings.policy else Policy()
        policy = _with_content(policy, settings)
        self._detector = Detector(rules, settings.engine, sorted(set(policy.named())))
        refuse_broken(own, self._detector)
        self._near = frozenset(rule.id for rule in rules if rule.near)
        self._pseudonyms = Pseudonyms(settings.pseudonyms)
        self.engine = self._detector.engine
        self._everything = policy.everything()
        self._services: Mapping[str, Redactor] = {}
        self._policy, self._writer = policy, Writer(policy, self._pseudonyms)
        self._services = {name: self._under(service) for name, service in policy.services.items()}

    def _under(self, policy: Policy) -> "Redactor":
        """Return a copy under another policy, on the same engine."""
        other = copy(self)
        other._policy, other._writer = policy, Writer(policy, self._pseudonyms)  # noqa: SLF001  # our own class
        return other

    def for_service(self, service: str) -> "Redactor":
        """Return the redactor with the policy's overrides for a service; itself where there are none."""
        return self._services.get(service, self)

    def hits(self, data: bytes) -> Sequence[int]:
        """Return the END offsets (exclusive, ascending) of every trigger in arbitrary bytes, such as OTLP on the wire.

        A superset: if `string(s)` or `item(k, v)` would change anything for a string that lies contiguously at
        data[a:b], for any service, then some offset has a < end <= b, or ends in that way inside the key. No offset:
        nothing to do. Under an allow-list, and where there are too many places, every offset is returned.
        """
        return range(1, len(data) + 1) if self._everything else self._detector.ends(data)

    def seen(self, texts: Sequence[str]) -> Sightings | None:
        """Return what one scan of many strings (values or keys) sees, for `Findings`; None where none can change."""
        return Sightings(texts, dict.fromkeys(texts)) if self._everything else self._detector.sightings(texts)

    def dirty(self, texts: Sequence[str]) -> Sequence[int]:
        """Return the indexes of the strings (values or keys) that may change, ascending; scanned as one block."""
        seen = self.seen(texts)
        return [index for index, text in enumerate(texts) if text in seen.hits] if seen else ()

    def string(self, text: str, key: str = "", findings: list[Finding] | None = None) -> str:
        """Return one string redacted; the same object where it is clean. JSON stays JSON, escaped or not."""
        found: list[Finding] = [] if findings is None else findings
        if key:
            changed = self._walk(text, key, found, 0)
            return changed if isinstance(changed, str) else ""
        hits = found.seen.of(text) if isinstance(found, Findings) else None
        sight = self._detector.look(text, hits)
        if sight is None:
            return text
        pieces: list[str] = []
        result = self._settled(text, sight.matches, found, pieces)
        if text.lstrip()[:1] not in _STRUCTURED:
            return result
        whole = all(map(within_json_string, pieces)) and result.count('"') == text.count('"')
        return result if whole and not (sight.named or "\\u" in text) else self._checked(text, result, found)

    def _settled(self, text: str, matches: Sequence[Match], found: list[Finding], pieces: list[str]) -> str:
        """Redact until nothing changes: a marker may lay bare what was glued to the value that it replaces.

        `pieces` grows with what was found on the way.
        """
        result = text
        for _ in range(_MAX_PASSES):
            new = self._writer.text(result, matches, found) if matches else result
            if new is result:
                return result
            pieces += [result[match.start : match.end] for match in matches]
            result, matches = new, self._detector.find(new)
        return marker("UNSETTLED")

    def value(self, value: AnyValue, key: str = "", findings: list[Finding] | None = None) -> AnyValue:
        """Return any attribute value redacted, nested or not; the same object where it is clean."""
        return self._walk(value, key, [] if findings is None else findings, 0)

    def item(self, key: str, value: AnyValue, findings: list[Finding] | None = None) -> tuple[str, AnyValue] | None:
        """Return one attribute redacted, key and value, or None where the policy drops it."""
        found: list[Finding] = [] if findings is None else findings
        policy = self._policy
        action = policy.of_key(key) if policy.keys else None
        if (
            action == "drop"
            or not policy.allows(key)
            or (action is None and policy.content == "drop" and is_content(key))
        ):
            return None
        if action == "keep" or (action is None and policy.content == "keep" and is_content(key)):
            return key, value
        before = len(found)
        clean = self._attribute(key, value, action, found)
        if any(policy.action(finding.type) == "drop" for finding in found[before:]):
            return None
        name = key if is_safe(key) else self.string(key, "", found)
        return name, clean if name is key else self._renamed(clean, name, found)

    def _attribute(self, key: str, value: AnyValue, action: Action | None, found: list[Finding]) -> AnyValue:
        if action is not None:
            return self._writer.whole(value, _type_of(key), action, "key", found)
        if is_safe(key):
            return SafeValues(self._detector.find, self._writer, self._policy).clean(key, value, found)
        if key in HASHED_KEYS:
            return self._writer.whole(
                value, HASHED_KEYS[key], self._policy.types.get(HASHED_KEYS[key], "hash"), key, found
            )
        if key in CLIENT_KEYS and self._policy.types.get("IP_ADDRESS", "hash") == "hash":
            return self._addresses(value, key, found)
        if self._policy.paths:
            paths = self._policy.paths_of(key)
            if paths:
                return self._along(value, [(path, act, frozenset({0})) for path, act in paths], found)
        return self._walk(value, key, found, 0)

    def _walk(self, value: AnyValue, key: str, found: list[Finding], depth: int) -> AnyValue:
        if value is None or isinstance(value, bool):
            return value
        if keys.is_strong(key) and not is_safe(key):
            return self._named(value, keys.classify(key), found)
        if isinstance(value, str):
            return self._beside(value, key, found) if self._named_beside(key) else self.string(value, "", found)
        if isinstance(value, bytes):
            return self._bytes(value, found)
        if isinstance(value, int | float):
            return self._number(value, key, found)
        if depth >= MAX_DEPTH:
            found.append(Finding("DEPTH", "limit", 0))
            return marker("DEPTH")
        if isinstance(value, Mapping):
            return self._mapping(value, found, depth)
        return same_or([self._walk(item, key, found, depth + 1) for item in value], value)

    def _renamed(self, value: AnyValue, name: str, found: list[Finding]) -> AnyValue:
        """A name from which something was taken may tell, from then on, what its value is."""
        return self._walk(value, name, found, 0) if keys.is_strong(name) else value

    def _named_beside(self, key: str) -> bool:
        """Tell whether the key of a value can be the name that some rule wants beside it."""
        return bool(self._near) or keys.names_phone(key)

    def _beside(self, text: str, key: str, found: list[Finding]) -> str:
        """Redact text under a key, which stands beside it for the rules that want a name there."""
        phone = keys.names_phone(key)
        head = f"{key.replace('.', '_') if phone else key}: "
        if key and text.lstrip()[:1] not in _STRUCTURED:
            for match in self._detector.candidates(head + text):
                if match.start >= len(head) and (match.rule in self._near or (phone and match.type == _PHONE)):
                    place = match._replace(start=match.start - len(head), end=match.end - len(head))
                    return self.string(self._writer.text(text, [place], found), "", found)
        return self.string(text, "", found)

    def _number(self, value: float, key: str, found: list[Finding]) -> AnyValue:
        """A number is looked at as its digits, where they are enough for a card or a telephone number."""
        if isinstance(value, float) or -_SMALL < value < _SMALL:
            return value
        digits = str(value)
        clean = self._beside(digits, key, found) if self._named_beside(key) else self.string(digits, "", found)
        return value if clean is digits else clean

    def _named(self, value: AnyValue, kind: str, found: list[Finding]) -> AnyValue:
        return self._writer.whole(value, kind, self._policy.action(kind), "key", found)

    def _mapping(self, value: Mapping[str, Any], found: list[Finding], depth: int) -> AnyValue:
        out: dict[str, Any] = {}
        changed = False
        for name, item in value.items():
            new_name = self.string(name, "", found) if isinstance(name, str) else name
            new_item = self._walk(item, name if isinstance(name, str) else "", found, depth + 1)
            new_item = new_item if new_name is name else self._renamed(new_item, new_name, found)
            changed = changed or new_name is not name or new_item is not item
            while new_name is not name and new_name in out:
                new_name += "_"
            out[new_name] = new_item
        return out if changed else value

    def _bytes(self, value: bytes, found: list[Finding]) -> AnyValue:
        """Bytes that are no UTF-8 are read as Latin-1: what is found in them is found, and the rest keeps its bytes."""
        try:
            text, encoding = value.decode(), "utf-8"
        except UnicodeDecodeError:
            text, encoding = value.decode("latin-1"), "latin-1"
        clean = self.string(text, "", found)
        return value if clean is text else clean.encode(encoding, "replace")

    def _addresses(self, value: AnyValue, key: str, found: list[Finding]) -> AnyValue:
        """Hash each address of a client attribute: one, a comma list, or a list."""
        if isinstance(value, str):
            parts = value.split(",")
            new = [self._writer.address(part, key, found) for part in parts]
            clean = ",".join(self.string(p, "", found) if n is None else n for p, n in zip(parts, new, strict=True))
            return value if clean == value else clean
        if isinstance(value, list | tuple):
            return same_or([self._addresses(item, key, found) for item in value], value)
        return self._walk(value, key, found, 0)

    def _along(self, value: AnyValue, places: _Places, found: list[Finding]) -> AnyValue:
        """Redact a value in which the policy names paths; JSON text is read, and written again where it changed."""
        if isinstance(value, str) and value.lstrip()[:1] in _STRUCTURED:
            try:
                parsed = json.loads(value)
            except (ValueError, RecursionError):
                return self.string(value, "", found)
            clean = self._down(parsed, "", places, found, 0)
            return value if clean is parsed else json.dumps(clean, ensure_ascii=False)
        return self._down(value, "", places, found, 0)

    def _down(self, value: AnyValue, key: str, places: _Places, found: list[Finding], depth: int) -> AnyValue:
        for path, action, at in places:
            if path.ends(at):
                return self._writer.whole(value, _type_of(key), action, path.text, found)
        members = isinstance(value, Mapping) or (isinstance(value, Sequence) and not isinstance(value, str | bytes))
        if not places or not members or depth >= MAX_DEPTH:
            return self._walk(value, key, found, depth)
        if isinstance(value, Mapping):
            return self._down_mapping(value, places, found, depth)
        steps = [(item, str(index)) for index, item in enumerate(value)]  # type: ignore[arg-type]  # a sequence, as tested
        return same_or([self._down(i, key, _step(places, n), found, depth + 1) for i, n in steps], value)  # type: ignore[arg-type]  # as above

    def _down_mapping(self, value: Mapping[str, Any], places: _Places, found: list[Finding], depth: int) -> AnyValue:
        out: dict[str, Any] = {}
        for name, item in value.items():
            further = _step(places, str(name))
            if any(action == "drop" and path.ends(at) for path, action, at in further):
                found.append(Finding(_type_of(str(name)), "path", 0))
                continue
            out[self.string(str(name), "", found)] = self._down(item, str(name), further, found, depth + 1)
        same = len(out) == len(value) and all(k is n and out[k] is value[n] for k, n in zip(out, value, strict=True))
        return value if same else out

    def _checked(self, text: str, result: str, found: list[Finding]) -> str:
        """Go by the structure of JSON text where markers broke it, or where the name of a secret has a list or map."""
        parsed = None if is_marker(result) else _parsed(text)
        if parsed is None or (not _hides(parsed) and (result is text or _intact(parsed, _parsed(result)))):
            return result
        return self._as_json(parsed, found)

    def _as_json(self, parsed: Any, found: list[Finding]) -> str:
        """Redact JSON by its structure, and then its text for what only names and values together give away."""
        text = json.dumps(self._walk(parsed, "", found, 0), ensure_ascii=False)
        result = self._settled(text, self._detector.find(text), found, [])
        if is_marker(result) or _intact(_parsed(text), _parsed(result)):
            return result
        return json.dumps(marker("JSON"))


def _step(places: _Places, key: str) -> _Places:
    further = ((path, action, path.step(at, key)) for path, action, at in places)
    return [place for place in further if place[2]]


def _type_of(key: str) -> str:
    kind = keys.classify(key)
    return kind if keys.is_strong(key) else "VALUE"


def _types(rules: Sequence[Rule], settings: RedactionSettings) -> set[str]:
    return {rule.type for rule in rules} | keys.TYPES | (NER_TYPES if settings.ner.enabled else set())


def _with_content(policy: Policy, settings: RedactionSettings) -> Policy:
    if settings.content is None:
        return policy
    services = {name: replace(own, content=settings.content) for name, own in policy.services.items()}
    return replace(policy, content=settings.content, services=services)


def _parsed(text: str) -> Any:
    """Return the list or map that JSON text holds, or None where it is no such text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _hides(value: Any) -> bool:
    """Tell whether somewhere a key that names a secret holds a list or a map that is more than its first text."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            for key, member in item.items():
                if isinstance(member, dict | list) and member and keys.is_strong(key) and not _is_done(member):
                    return True
            stack += item.values()
        elif isinstance(item, list):
            stack += item
    return False


def _intact(old: Any, new: Any) -> bool:
    """Tell whether all that was JSON, at any depth of strings within strings, still is."""
    stack = [(old, new)]
    while stack:
        before, after = stack.pop()
        if isinstance(before, str) and isinstance(after, str):
            if before == after or is_marker(after) or before.lstrip()[:1] not in _STRUCTURED:
                continue
            before, after = _parsed(before), _parsed(after)
            if before is None:
                continue
        if isinstance(before, dict | list):
            if not isinstance(after, dict | list):
                if isinstance(after, str) and is_marker(after):
                    continue
                return False
            stack += zip(_members(before), _members(after), strict=False)
    return new is not None


def _members(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else list(value)


def _is_done(member: Any) -> bool:
    return isinstance(member, list) and all(isinstance(item, str) and is_marker(item) for item in member)


__all__ = ["Finding", "Findings", "Redactor", "marker"]
