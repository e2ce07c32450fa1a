"""The redactor: strings, nested values and attributes in; the same without personal data out.

One object for every surface (spans, logs, OTLP bytes, REST bodies). It is immutable after construction and thread-safe.
What is clean comes back as the very object that went in. What it writes (markers, masks, pseudonyms) it leaves alone
the second time.
"""

import json
import math
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import replace
from typing import Any, Final

from otel_telemetry.base.content import GONE
from otel_telemetry.base.records import AnyValue
from otel_telemetry.processors.config import NER_TYPES, RedactionSettings
from otel_telemetry.processors.detect import cpu_time
from otel_telemetry.processors.detect.detector import (
    UNSCANNED,
    Detector,
    Match,
    refuse_broken,
)
from otel_telemetry.processors.detect.engines.locator import Hit
from otel_telemetry.processors.detect.kinds import other_numbers
from otel_telemetry.processors.detect.names import keys, neighbours
from otel_telemetry.processors.detect.names.client_names import PEER_KEYS, is_client
from otel_telemetry.processors.detect.ruleset import Rule, builtin_rules, load_rules
from otel_telemetry.processors.detect.sightings import Sightings
from otel_telemetry.processors.redact import byte_values, content_rules
from otel_telemetry.processors.redact.chains import Chains
from otel_telemetry.processors.redact.paths import JsonPath
from otel_telemetry.processors.redact.policy import HASHED_KEYS, IP, Action, Policy, is_content, is_safe
from otel_telemetry.processors.redact.policy_file import load_policy, optional_of
from otel_telemetry.processors.redact.pseudonym import Pseudonyms, normalise_ip
from otel_telemetry.processors.redact.rewrite import (
    Finding,
    Findings,
    Writer,
    free_name,
    is_marker,
    marker,
    same_or,
    texts_of,
    within_json_string,
)
from otel_telemetry.processors.redact.safe_values import SafeValues

MAX_DEPTH: Final = 64
_MAX_PASSES: Final = 6
_LONG: Final = 1_000  # from here on the time of the passes counts
_SMALL: Final = 100_000_000
_MOST_VALUES: Final = 100_000  # of JSON in a text that has to be parsed
_STRUCTURED: Final = ("{", "[")
_PHONE: Final = "PHONE"
#: Between the addresses of a header; kept as they are.
_SEPARATORS: Final = re.compile(r"([,;])")
#: Rules that know where a program takes its password: the words of a command in a list are joined for them.
_COMMAND_RULES: Final = frozenset(
    {"command-line-login", "command-line-password", "registry-login-password", "sqlplus-login"}
)
#: Where triggers end in scanned bytes, and the places themselves; see Detector.located.
Located = tuple[Sequence[int], Sequence[Hit] | None]
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
        patterns = content_rules.TRIGGERS if policy.drops_content() else ()
        self._detector = Detector(rules, settings.engine, sorted(set(policy.named())), patterns)
        refuse_broken(own, self._detector)
        self._near = frozenset(rule.id for rule in rules if rule.near)
        self._pseudonyms = Pseudonyms(settings.pseudonyms)
        self.engine = self._detector.engine
        self._everything = policy.everything()
        self._services: Mapping[str, Redactor] = {}
        self._of_caller = False
        self._caller: Redactor | None = None
        self._policy, self._writer = policy, Writer(policy, self._pseudonyms)
        self._chains = Chains(self._detector.find, self._writer.instead)
        self._services = {name: self._under(service) for name, service in policy.services.items()}

    def _under(self, policy: Policy) -> "Redactor":
        """Return a copy under another policy, on the same engine."""
        other = copy(self)
        other._policy, other._writer = policy, Writer(policy, self._pseudonyms)  # noqa: SLF001  # our own class
        other._chains = Chains(self._detector.find, other._writer.instead)  # noqa: SLF001  # the same
        other._caller = None  # noqa: SLF001  # the same
        return other

    def of_caller(self) -> "Redactor":
        """Return the redactor for attributes of a span that calls somebody: whom it calls is nobody's secret."""
        if self._caller is None:
            other = copy(self)
            other._of_caller = True  # noqa: SLF001  # our own class
            other._caller = other  # noqa: SLF001  # the same
            self._caller = other
        return self._caller

    def for_service(self, service: str) -> "Redactor":
        """Return the redactor with the policy's overrides for a service; itself where there are none."""
        return self._services.get(service, self)

    @staticmethod
    def in_time(size: int) -> AbstractContextManager[None]:
        """Bound the CPU time of what is redacted in a block, a request of so many bytes; see `cpu_time`."""
        return cpu_time.for_request(size)

    def located(self, data: bytes) -> Located:
        """Return the END offsets (exclusive, ascending) of every trigger in arbitrary bytes, such as OTLP on the wire.

        A superset: if `string(s)` or `item(k, v)` would change anything for a string that lies contiguously at
        data[a:b], for any service, then some offset has a < end <= b, or ends in that way inside the key. No offset:
        nothing to do. Under an allow-list, and where there are too many places, every offset is returned.

        With them come the places themselves, for `placed`; None where every string may change.
        """
        return (range(1, len(data) + 1), None) if self._everything else self._detector.located(data)

    def placed(self, hits: Sequence[Hit], texts: Mapping[str, tuple[int, int]]) -> Findings:
        """Return findings, none yet, for strings that stand in scanned bytes, each from one offset to another."""
        seen = {text: self._detector.cut(hits, start, end) for text, (start, end) in texts.items()}
        return Findings(Sightings(tuple(texts), seen))

    def seen(self, texts: Sequence[str]) -> Sightings | None:
        """Return what one scan of many strings (values or keys) sees, for `Findings`; None where none can change."""
        return Sightings(texts, dict.fromkeys(texts)) if self._everything else self._detector.sightings(texts)

    def scanned(self, key: str, value: AnyValue) -> Findings:
        """Return findings, none yet, for one nested attribute whose names and texts were all scanned as one block."""
        texts = texts_of(key, value)
        return Findings(self.seen(texts) or Sightings(texts, {}))

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
        end = cpu_time.end_for(len(text)) if len(text) > _LONG else math.inf
        for count in range(_MAX_PASSES):
            if count and matches:  # seen now only, because of what was replaced: so may others be
                matches = self._chains.follow(result, matches)
            new = self._writer.text(result, matches, found) if matches else result
            if new is result or is_marker(new):
                return new
            if time.thread_time() > end or cpu_time.is_used_up():
                break
            pieces += ['"' if match.type == UNSCANNED else result[match.start : match.end] for match in matches]
            result, matches = new, self._detector.find(new)
        found.append(Finding("UNSETTLED", "limit", len(text)))
        return marker("UNSETTLED")

    def value(self, value: AnyValue, key: str = "", findings: list[Finding] | None = None) -> AnyValue:
        """Return any attribute value redacted, nested or not; the same object where it is clean."""
        return self._walk(value, key, [] if findings is None else findings, 0)

    def body(
        self, value: AnyValue, event: str = "", findings: list[Finding] | None = None, *, of_model: bool = False
    ) -> AnyValue:
        """Return the body of a log record redacted. `event` is the record's name; see `content_rules.body`."""
        if self.drops_content:
            value = content_rules.body(value, event, of_model=of_model)
        return self.value(value, findings=findings)

    @property
    def drops_content(self) -> bool:
        """True where the policy drops prompts and answers."""
        return self._policy.content == "drop"

    def item_of(
        self, event: str, key: str, value: AnyValue, findings: list[Finding] | None = None
    ) -> tuple[str, AnyValue] | None:
        """Return one attribute of the span event or log record of that name redacted, as `item` does."""
        if event and self.drops_content and not is_safe(key) and self._policy.of_key(key) is None:
            value = content_rules.attribute(key, value, event)
        return None if value is GONE else self.item(key, value, findings)

    def item(self, key: str, value: AnyValue, findings: list[Finding] | None = None) -> tuple[str, AnyValue] | None:
        """Return one attribute redacted, key and value, or None where the policy drops it."""
        found: list[Finding] = [] if findings is None else findings
        policy = self._policy
        action = policy.of_key(key) if policy.keys else None
        if action == "drop" or not policy.allows(key):
            return None
        if action is None and policy.content == "drop" and not is_safe(key):
            value = content_rules.attribute(key, value)
            if value is GONE:
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
        if self._of_caller and key in PEER_KEYS:
            return value if _is_address(value) else self._walk(value, "", found, 0)
        if is_client(key) and self._policy.types.get("IP_ADDRESS", "hash") == "hash":
            return self._addresses(value, key, found)
        if self._policy.paths:
            paths = self._policy.paths_of(key)
            if paths:
                return self._along(value, [(path, act, frozenset({0})) for path, act in paths], found)
        return self._walk(value, key, found, 0)

    def _walk(self, value: AnyValue, key: str, found: list[Finding], depth: int) -> AnyValue:
        if value is None or isinstance(value, bool):
            return value
        kind = neighbours.decides(key, value) if key else ""
        if kind and not is_safe(key):
            return self._named(value, kind, found)
        if depth and isinstance(value, str) and is_client(key) and self._policy.types.get(IP, "hash") == "hash":
            return self._addresses(value, key, found)
        if key and isinstance(value, str | int) and other_numbers.stays(key, value):
            return value
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
            return self._mapping(value, key, found, depth)
        return self._sequence(value, key, found, depth)

    def _sequence(self, value: Sequence[Any], key: str, found: list[Finding], depth: int) -> AnyValue:
        """Redact the items of a list; one may be the name of the next."""
        names = neighbours.named_items(value)
        if neighbours.is_command(value):
            value = self._command(value, found)
        return same_or([self._walk(item, names.get(at, key), found, depth + 1) for at, item in enumerate(value)], value)

    def _command(self, words: Sequence[Any], found: list[Finding]) -> Sequence[Any]:
        """Redact the words of a command line that only the program or the option before them gives away."""
        line = " ".join(word if isinstance(word, str) else "-" for word in words)
        matches = [match for match in self._detector.find(line) if match.rule in _COMMAND_RULES]
        if not matches:
            return words
        new: list[Any] = []
        at = 0
        for word in words:
            end = at + (len(word) if isinstance(word, str) else 1)
            own = [m._replace(start=m.start - at, end=m.end - at) for m in matches if at <= m.start and m.end <= end]
            new.append(self._writer.text(word, own, found) if own else word)
            at = end + 1
        return new

    def _renamed(self, value: AnyValue, name: str, found: list[Finding]) -> AnyValue:
        """A name from which something was taken may tell, from then on, what its value is."""
        return self._walk(value, name, found, 0) if neighbours.decides(name, value) else value

    def _named_beside(self, key: str) -> bool:
        """Return whether the key of a value can be the name that some rule wants beside it."""
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

    def _mapping(self, value: Mapping[str, Any], key: str, found: list[Finding], depth: int) -> AnyValue:
        out: dict[str, Any] = {}
        changed = False
        same: Counter[str] = Counter()  # names that redaction makes one: each further one gets a number
        for (name, item), (own, _) in zip(value.items(), neighbours.members(key, value), strict=True):
            new_name = self.string(name, "", found) if isinstance(name, str) else name
            new_item = self._walk(item, own, found, depth + 1)
            new_item = new_item if new_name is name else self._renamed(new_item, new_name, found)
            changed = changed or new_name is not name or new_item is not item
            out[new_name if new_name is name else free_name(new_name, out, same)] = new_item
        return out if changed else value

    def _bytes(self, value: bytes, found: list[Finding]) -> AnyValue:
        """Bytes that are no text are read as Latin-1: what is found in them is found, and the rest keeps its bytes."""
        if value.startswith(byte_values.GZIP):
            return self._packed(value, found)
        for read in (byte_values.wide, byte_values.plain):
            text, encoding = read(value)
            clean = self.string(text, "", found)
            if clean is not text:
                value = clean.encode(encoding, "replace")
        return value

    def _packed(self, value: bytes, found: list[Finding]) -> AnyValue:
        """Replace what gzip has packed as a whole, where something is found in it or it cannot be read whole."""
        plain = byte_values.unpacked(value)
        if plain is None or plain.startswith(byte_values.GZIP):
            found.append(Finding(UNSCANNED, "limit", len(value)))
            return marker(UNSCANNED).encode()
        before = len(found)
        if self._bytes(plain, found) is plain:
            return value
        return marker(found[before].type).encode()

    def _addresses(self, value: AnyValue, key: str, found: list[Finding]) -> AnyValue:
        """Hash each address of a client attribute: one, a comma list, or a list."""
        if isinstance(value, str):
            parts = _SEPARATORS.split(value)
            new = [self._writer.address(part, key, found) for part in parts]
            clean = "".join(self.string(p, "", found) if n is None else n for p, n in zip(parts, new, strict=True))
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
        if len(text) > _MOST_VALUES and sum(map(text.count, "{[,")) > _MOST_VALUES:
            found.append(Finding("JSON", "limit", 0))
            return json.dumps(marker("JSON"))  # parsed, it would take hundreds of bytes for each
        parsed = None if is_marker(result) else _parsed(text)
        if parsed is None:
            return result
        after = parsed if result is text else _parsed(result)
        if (result is text or _intact(parsed, after)) and not neighbours.exposed(after, self._settles):
            return result
        return self._as_json(text, parsed, found)

    def _settles(self, text: str) -> bool:
        """Return whether a text under a strong name needs nothing more."""
        return self._writer.written(text)

    def _as_json(self, before: str, parsed: Any, found: list[Finding]) -> str:
        """Redact JSON by its structure, and then its text for what only names and values together give away."""
        clean = self._walk(parsed, "", found, 0)
        text = before if clean is parsed else json.dumps(clean, ensure_ascii=False)
        result = self._settled(text, self._detector.find(text), found, [])
        if is_marker(result) or _intact(_parsed(text), _parsed(result)):
            return result
        return json.dumps(marker("JSON"))


def _step(places: _Places, key: str) -> _Places:
    further = ((path, action, path.step(at, key)) for path, action, at in places)
    return [place for place in further if place[2]]


def _is_address(value: AnyValue) -> bool:
    return isinstance(value, str) and normalise_ip(value) is not None


def _type_of(key: str) -> str:
    kind = keys.classify(key)
    return kind if keys.is_strong(key) else "VALUE"


def _types(rules: Sequence[Rule], settings: RedactionSettings) -> set[str]:
    return {rule.type for rule in rules} | keys.TYPES | (NER_TYPES if settings.looks_for_names else set())


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


def _intact(old: Any, new: Any) -> bool:
    """Return whether all that was JSON, at any depth of strings within strings, still is."""
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


__all__ = ["Finding", "Findings", "Redactor", "marker"]
