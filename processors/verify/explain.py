"""Why a text comes out as it does: each finding with its rule, its validator, its place and the policy entry it met."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from otel_telemetry.processors.config import NER_TYPES, RedactionSettings
from otel_telemetry.processors.detect.detector import Match, apply
from otel_telemetry.processors.detect.engines.locator import Locator, make_locator
from otel_telemetry.processors.detect.engines.patterns import widths
from otel_telemetry.processors.detect.kinds.addresses import kind_of
from otel_telemetry.processors.detect.kinds.official_ids import Stdnum
from otel_telemetry.processors.detect.names import keys
from otel_telemetry.processors.detect.names.client_names import is_client
from otel_telemetry.processors.detect.ruleset import VALIDATORS, Rule
from otel_telemetry.processors.ner.pipeline import DOCS as NER_DOCS
from otel_telemetry.processors.ner.text import NerRedactor, ner_of
from otel_telemetry.processors.redact import content_rules
from otel_telemetry.processors.redact.insight import active_rules, detector_of, policy_of
from otel_telemetry.processors.redact.policy import HASHED_KEYS, IP, Policy, is_content, is_safe
from otel_telemetry.processors.redact.pseudonym import Pseudonyms
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.redact.rewrite import Writer

_NAMES: Final = {validator: name for name, validator in VALIDATORS.items()}
_MOST_MATCHES: Final = 1000


@dataclass(frozen=True)
class Step:
    """One place in the text: characters `start` to `end` (exclusive), what saw it, and what became of it."""

    start: int
    end: int
    text: str
    type: str
    rule: str
    validator: str
    docs: str
    action: str
    entry: str
    became: str


@dataclass(frozen=True)
class NearMiss:
    """A place that looked like a rule's kind, until its validator said no."""

    start: int
    end: int
    text: str
    rule: str
    validator: str


@dataclass(frozen=True)
class Explanation:
    """What happens to one text. `result` is None where the policy drops it; `key` says what its name decides.

    `ner` names the pipeline that looked for names, "" where none did.
    """

    text: str
    result: str | None
    key: str
    engine: str
    ner: str
    policy: str
    steps: list[Step]
    near_misses: list[NearMiss]


def explain(settings: RedactionSettings, text: str, key: str = "", service: str = "") -> Explanation:
    """Explain a text, alone or as the value of the attribute `key`. Reads nothing but rules and policy."""
    redactor = Redactor(settings).for_service(service)
    policy = policy_of(redactor)
    rules = {rule.id: rule for rule in active_rules(settings)}
    writer = Writer(policy, Pseudonyms(settings.pseudonyms))
    matches = detector_of(redactor).find(text)
    ner = ner_of(settings, redactor)
    result, names = _without_names(ner, redactor, _result(redactor, text, key), key)
    steps = [_step(text, match, policy, rules, writer) for match in matches]
    steps += _names(text, names, policy, rules, writer)
    return Explanation(
        text=text,
        result=result,
        key=_key_entry(policy, key) if key else "",
        engine=redactor.engine,
        ner=ner.model if ner else "",
        policy=str(settings.policy or "built-in"),
        steps=sorted(steps, key=lambda step: step.start),
        near_misses=_near_misses(text, rules, matches),
    )


def _result(redactor: Redactor, text: str, key: str) -> str | None:
    if not key:
        return redactor.string(text)
    item = redactor.item(key, text)
    return None if item is None else str(item[1])


def _without_names(
    ner: NerRedactor | None, redactor: Redactor, result: str | None, key: str
) -> tuple[str | None, list[tuple[str, Match]]]:
    """Return what becomes of the text that the rules left, and the names found in it, in order."""
    if ner is None or result is None or (key and not ner.applies(key, redactor)):
        return result, []
    known = ner.known([result])
    item = ner.item(key, result, redactor, [], known)
    names = [(text[match.start : match.end], match) for text, matches in known.items() for match in matches]
    return None if item is None else str(item[1]), names


def _names(
    text: str, names: list[tuple[str, Match]], policy: Policy, rules: dict[str, Rule], writer: Writer
) -> Iterator[Step]:
    """Yield a step for each name, at its place in the text as it was before the rules."""
    at = 0
    for name, match in names:
        start = text.find(name, at)
        if start >= 0:  # JSON may spell it otherwise
            at = start + len(name)
            yield _step(text, match._replace(start=start, end=at), policy, rules, writer)


def _step(text: str, match: Match, policy: Policy, rules: dict[str, Rule], writer: Writer) -> Step:
    rule = rules.get(match.rule)
    piece = text[match.start : match.end]
    action: str = policy.of(match.type, piece)
    if writer.written(piece):
        action, became = "none", "left as it is: redacted before"
    elif action == "drop":
        became = "dropped, with the attribute that it stands in"
    else:
        became = writer.replacement(piece, match.type, policy.of(match.type, piece))
    return Step(
        start=match.start,
        end=match.end,
        text=piece,
        type=match.type,
        rule=match.rule,
        validator=_validator(rule),
        docs=rule.docs if rule else NER_DOCS if match.type in NER_TYPES else "",
        action=action,
        entry=_entry(policy, match.type, piece),
        became=became,
    )


def _entry(policy: Policy, kind: str, text: str) -> str:
    """Return the entry of the policy that decides about one finding."""
    if kind == IP and kind_of(text) in policy.kept_addresses:
        return f"addresses.{kind_of(text)}"
    return f"types.{kind}" if kind in policy.types else "default"


def _key_entry(policy: Policy, key: str) -> str:
    """Return what the name of an attribute decides, and by which entry, in the redactor's own order."""
    for rule in policy.keys:
        if rule.matches(key):
            return f"{rule.action}, by keys.{rule.pattern}"
    if not policy.allows(key):
        return "drop, because allow does not name it"
    if (is_content(key) and policy.content == "keep") or (policy.content == "drop" and content_rules.names(key)):
        return f"{policy.content}, by content"
    if is_safe(key):
        return "keep, as a safe name of the built-in policy, but for what cannot be an id"
    if key in HASHED_KEYS:
        return f"{policy.types.get(HASHED_KEYS[key], 'hash')}, as a {HASHED_KEYS[key]} of the built-in policy"
    if is_client(key):
        return f"{policy.types.get('IP_ADDRESS', 'hash')}, as the address of a client"
    if policy.paths_of(key):
        return "by the paths of the policy"
    kind = keys.classify(key)
    if kind and kind not in (keys.WEAK, keys.VENDOR):
        return f"{policy.action(kind)}, because the name says {kind}"
    return "nothing: the text is searched"


@lru_cache(maxsize=1024)
def _located(triggers: tuple[str, ...]) -> Locator:
    return make_locator("re", triggers)


def _near_misses(text: str, rules: dict[str, Rule], matches: list[Match]) -> list[NearMiss]:
    """Return where a rule's regex matched and only its validator refused, outside of what was found."""
    missed: dict[tuple[int, int], NearMiss] = {}
    data = text.encode("utf-8", "surrogatepass")
    for rule in rules.values():
        if rule.validator is None:
            continue
        for end, number in _located(rule.triggers).scan(data, _MOST_MATCHES):
            bounds = (end - widths(rule.triggers[number])[0], end)
            start, stop = (len(data[:at].decode("utf-8", "ignore")) for at in bounds)
            if apply(rule, text, start, stop) is not None:
                continue
            match = apply(dataclasses.replace(rule, validator=None), text, start, stop)
            if match and not any(m.start < match.end and match.start < m.end for m in matches):
                piece = text[match.start : match.end]
                miss = NearMiss(match.start, match.end, piece, rule.id, _validator(rule))
                missed.setdefault((match.start, match.end), miss)
    return sorted(missed.values(), key=lambda miss: miss.start)


def _validator(rule: Rule | None) -> str:
    if rule is None or rule.validator is None:
        return ""
    return rule.validator.name if isinstance(rule.validator, Stdnum) else _NAMES.get(rule.validator, "")
