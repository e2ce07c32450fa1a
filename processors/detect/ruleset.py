"""Detection rules as data: the fields of a rule, how a file of them is read, and why a rule is refused.

A rule finds one kind of value. Engines only *locate* its triggers; then the rule's regex runs anchored at that
position, and its validator decides. Triggers have a fixed length, so that every engine reports the same positions, and
contain no boundary assertions, so that they also work on raw OTLP bytes where any byte may be next to a string.

A file contains `[[rule]]` tables. Examples may contain placeholders such as `{alnum:36}` (see `expand`), so that none
of our files contains anything that looks like a live token.
"""

import importlib.util
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any, Final

from otel_telemetry.base.errors import RuleError
from otel_telemetry.processors.detect.engines import (
    pattern_cost,
    patterns,
)
from otel_telemetry.processors.detect.kinds import (
    emails,
    ip_addresses,
    payments,
    phones,
    wallets,
)
from otel_telemetry.processors.detect.kinds.official_ids import STDNUM, Stdnum, passport_zone
from otel_telemetry.processors.detect.kinds.validators import VALIDATORS as _PLAIN
from otel_telemetry.processors.detect.kinds.validators import PerText, Validator
from otel_telemetry.processors.detect.names import (
    assignments,
    calls,
    commands,
    described,
    key_material,
    sentences,
    tables,
)
from otel_telemetry.processors.detect.text import (
    spelt,
)

VALIDATORS: Final[Mapping[str, Validator]] = {
    **_PLAIN,
    "base58_wallet": wallets.base58_wallet,
    "bech32_wallet": wallets.bech32_wallet,
    "ethereum_wallet": wallets.ethereum_wallet,
    "passport_zone": passport_zone,
    "assignment": assignments.assignment,
    "card": payments.card,
    "client_password": commands.client_password,
    "email": emails.email,
    "email_in_base64": emails.email_in_base64,
    "flag": commands.flag,
    "iban": payments.iban,
    "ip": ip_addresses.ip,
    "jwk_member": key_material.jwk_member,
    "keyword_token": commands.keyword_token,
    "login_and_password": commands.login_and_password,
    "client_login": commands.client_login,
    "login_call": calls.login_call,
    "password_input": described.password_input,
    "mixed_password": sentences.mixed_password,
    "named_argument": commands.named_argument,
    "plain_password": commands.plain_password,
    "columns": PerText(lambda: tables.Tables().columns),
    "copied": PerText(lambda: tables.Tables().copied),
    "foreign_password": sentences.foreign_password,
    "told_password": sentences.told_password,
    "set_password": sentences.set_password,
    "used_password": sentences.used_password,
    "any_argument": commands.any_argument,
    "bearer": commands.bearer,
    "device_password": commands.device_password,
    "service_key": commands.service_key,
    "called_with": commands.called_with,
    "constructor_key": commands.constructor_key,
    "sql_password": commands.sql_password,
    "sql_insert": tables.sql_insert,
    "stated": sentences.stated,
    "private_key_in_base64": key_material.private_key_in_base64,
    "url_signature": key_material.url_signature,
    "phone_exit_code": phones.exit_code,
    "phone_international": phones.international,
    "phone_named": phones.named,
    "phone_national": phones.national,
}
TYPE_PATTERN: Final = re.compile(r"[A-Z][A-Z0-9_]{1,39}")
_ID_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{1,63}")
_REQUIRED: Final = {"id", "type", "regex", "docs", "match"}
_OPTIONAL: Final = {
    "left",
    "back",
    "validator",
    "priority",
    "no_match",
    "often",
    "words",
    "trigger",
    "near",
    "optional",
    "spelt",
}
_OPTIONAL_FILE: Final = "_optional.toml"
_TEXTS: Final = {"regex", "docs", "left", "validator", "optional"}
_LISTS: Final = {"match", "no_match", "words", "often", "near", "spelt"}
_MAX_BACK: Final = 512
_MOST_WAYS: Final = 100_000
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_ALPHABETS: Final[Mapping[str, str]] = {
    "digit": "0123456789",
    "hex": "0123456789abcdef",
    "HEX": "0123456789ABCDEF",
    "lower": _LETTERS,
    "upper": _LETTERS.upper(),
    "loweralnum": _LETTERS + "0123456789",
    "upperalnum": _LETTERS.upper() + "0123456789",
    "base32": _LETTERS.upper() + "234567",
    "alnum": _LETTERS + _LETTERS.upper() + "0123456789",
    "b64": _LETTERS + _LETTERS.upper() + "0123456789+/",
    "b64url": _LETTERS + _LETTERS.upper() + "0123456789-_",
}
#: Between a name and its value: in prose, logfmt, YAML, and in JSON that stands up to three times in other JSON.
_SEPARATORS: Final = (
    *("=", ":", " ", ".", "#", ": ", "= ", " :", " #", "='", ":'", " '", ": '", " = ", " : ", ":\n", "\n", " is "),
    *(
        form.replace('"', escape + '"')
        for escape in ("", "\\", "\\" * 3, "\\" * 7)
        for form in ('":"', '": "', '":', '": ', '="', ':"')
    ),
    *(":" + "\\" * level + "n" for level in (1, 2, 4)),
)
_NARROW: Final = frozenset({None, commands.keyword_token, commands.service_key, phones.national})
#: Between a name and a number beside it, and before the name: it starts a word, also in camelCase.
_BESIDE: Final = r"(?:[\W_]{0,24}+(?i:n[a-z\u00fa.]{0,7}+|is|was|id|code|card|value)){0,3}[\W_]{1,24}+"
_WORD_START: Final = "(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))"
_PLACEHOLDER: Final = re.compile(r"\{(" + "|".join(_ALPHABETS) + r"):(\d{1,4})\}")


@dataclass(frozen=True)
class Rule:
    r"""One detection rule.

    `triggers` locate it; `left` is a character class that is walked back over, at most `back` characters, from the
    trigger's start to where `regex` is tried. The span found is the group `v` where the regex has one, else the match.
    Of overlapping findings the higher `priority` names the type. `optional` names the group that switches it on.
    `near`: it is found beside a name only, so an attribute's key counts as that name too.

    Patterns are read with `re.ASCII`: letters and digits of other scripts are borders of a value, because Chinese,
    Japanese and Thai write no spaces. `(?u:\w)` is a letter or digit of any script.
    """

    id: str
    type: str
    triggers: tuple[str, ...]
    pattern: str
    source: str
    docs: str
    left: str = ""
    back: int = 0
    validator: Validator | None = None
    priority: int = 50
    match: tuple[str, ...] = ()
    no_match: tuple[str, ...] = ()
    optional: str = ""
    near: bool = False

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The pattern, compiled when first needed: most rules never meet a candidate."""
        return re.compile(self.pattern, re.ASCII)

    @cached_property
    def left_run(self) -> re.Pattern[str] | None:
        """Matches the characters of `left` in reversed text; none where the rule starts at its trigger."""
        return re.compile(rf"{self.left}{{0,{self.back}}}", re.ASCII) if self.left else None

    @cached_property
    def group(self) -> int:
        """The number of the group `v`, or 0 where the regex has none: what is found then is all that it matches."""
        return self.regex.groupindex.get("v", 0)

    @cached_property
    def narrows(self) -> bool:
        """Whether the validator never takes more than the group `v`; where there is none, that is all that is taken."""
        return self.validator in _NARROW

    @cached_property
    def per_text(self) -> PerText | None:
        """The validator, where it remembers what it has read of a text."""
        return self.validator if isinstance(self.validator, PerText) else None

    @cached_property
    def ends_left(self) -> frozenset[str]:
        """The characters of ASCII that are none of `left`: behind one of these, the rule starts at its trigger."""
        return patterns.others(self.left)

    @cached_property
    def never_behind(self) -> frozenset[str]:
        """The characters of ASCII behind which the regex does not match, by the look-behind that it begins with."""
        return patterns.never_behind(self.pattern)


def builtin_rules(*, optional: Collection[str] = (), check: bool = False) -> tuple[Rule, ...]:
    """Return the rules that ship with the package, in the order of files and entries, with those of `optional` groups.

    Their patterns need no check at each start: a test does it.
    """
    rules: list[Rule] = []
    folder = resources.files("otel_telemetry.processors") / "rules"
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".toml") and (optional or not entry.name.endswith(_OPTIONAL_FILE)):
            rules += parse_rules(entry.read_text(encoding="utf-8"), entry.name, check=check, optional=optional)
    _refuse_duplicates(rules)
    return tuple(rules)


def load_rules(paths: Iterable[Path], beside: Iterable[Rule] = ()) -> tuple[Rule, ...]:
    """Return the rules of a user's files, or raise RuleError naming the file and the rule.

    `beside` are the rules that they are used with: no two may have the same id.
    """
    rules: list[Rule] = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RuleError(str(path), f"cannot be read: {error}", "name a readable TOML file") from None
        rules += parse_rules(text, str(path))
    _refuse_duplicates((*beside, *rules))
    return tuple(rules)


def parse_rules(text: str, source: str, *, check: bool = True, optional: Collection[str] | None = None) -> list[Rule]:
    """Read one TOML text; `source` names it in errors; `check`: validate its patterns.

    Rules of a group that `optional` does not name are left out; None: these are a user's rules, which have no groups.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RuleError(source, f"is not TOML: {error}", "correct the file") from None
    unknown = set(document) - {"rule"}
    entries = document.get("rule", [])
    if unknown or not isinstance(entries, list):
        raise RuleError(source, f"holds {sorted(unknown) or 'no list of rules'}", "use [[rule]] tables only")
    rules = [_rule(entry, source) for entry in entries if _is_on(entry, source, optional)]
    for rule in rules if check else ():
        _check_patterns(rule, f"{rule.source}: {rule.id}")
    return rules


def expand(example: str, seed: str = "") -> str:
    """Fill the placeholders of an example: `{hex:8}` becomes eight hex digits, the same ones each time."""
    random = Random(f"{seed}:{example}")  # noqa: S311  # examples want repeatable, not secret, characters

    def fill(match: re.Match[str]) -> str:
        alphabet, count = _ALPHABETS[match[1]], int(match[2])
        return "".join(random.choice(alphabet) for _ in range(count))

    return _PLACEHOLDER.sub(fill, example)


def _refuse_duplicates(rules: Iterable[Rule]) -> None:
    seen: dict[str, Rule] = {}
    for rule in rules:
        if rule.id in seen:
            raise RuleError(f"{rule.source}: {rule.id}", f"is also in {seen[rule.id].source}", "rename one of them")
        seen[rule.id] = rule


def _is_on(entry: Any, source: str, optional: Collection[str] | None) -> bool:
    if not isinstance(entry, dict) or "optional" not in entry:
        return True
    if optional is None:
        raise RuleError(f"{source}: {entry.get('id', '?')}", "has optional", "leave it out: your own rules are on")
    return entry["optional"] in optional


def _rule(entry: Any, source: str) -> Rule:
    name = f"{source}: {entry.get('id', '?') if isinstance(entry, dict) else '?'}"
    if not isinstance(entry, dict):
        raise RuleError(name, "is no table", "write [[rule]]")
    _check_names(entry, name)
    _check_kinds(entry, name)
    triggers = entry.get("trigger", [])
    triggers = triggers if isinstance(triggers, list) else [triggers]
    near = entry.get("near", [])
    back = entry.get("back", 64 if "left" in entry else 0)
    if not isinstance(back, int) or not 0 <= back <= _MAX_BACK:
        raise RuleError(name, f"back = {back!r}", f"use a number from 0 to {_MAX_BACK}")
    return Rule(
        id=entry["id"],
        type=entry["type"],
        triggers=(
            *_spell_out(triggers, entry.get("words", []), entry.get("often", [])),
            *_near_triggers(near),
            *spelt.located(entry.get("spelt", ())),
        ),
        pattern=_near_pattern(near, entry["regex"]) if near else _with_spelt(entry),
        source=source,
        docs=entry["docs"],
        left=entry.get("left", ""),
        back=back,
        validator=_validator(entry.get("validator"), name),
        priority=entry.get("priority", 50),
        match=tuple(entry["match"]),
        no_match=tuple(entry.get("no_match", ())),
        optional=entry.get("optional", ""),
        near=bool(near),
    )


def _with_spelt(entry: Mapping[str, Any]) -> str:
    """Return the regex of a rule; `{spelt}` in it stands for the words of any script that the rule names."""
    regex: str = entry["regex"]
    return regex.replace("{spelt}", spelt.pattern(entry["spelt"])) if "spelt" in entry else regex


def _near_triggers(names: Iterable[str]) -> Iterator[str]:
    """Yield triggers for names such as `tax file`, also written tax_file, tax-file and taxFile."""
    for name in names:
        yield "(?i)" + re.escape(name).replace("\\ ", "[ _-]")
        if " " in name:
            yield "(?i)" + re.escape(name.replace(" ", ""))


def _near_pattern(names: Iterable[str], value: str) -> str:
    spelt = "|".join(re.escape(name).replace("\\ ", "[ _-]?") for name in names)
    return rf"{_WORD_START}(?i:{spelt}){_BESIDE}(?P<v>{value})(?!\w|[-.]\d)"


def _spell_out(triggers: list[str], words: list[str], often: list[str]) -> list[str]:
    """Fill the placeholders of triggers, one trigger per length.

    `{word}` stands for each of `words`, `{often}` for those that ordinary text is full of, `{each}` and `{each:lower}`
    for `words` too, but with a trigger for every single one; `{sep}` for what may stand between a name and its value,
    also in JSON within JSON.
    """
    spelt = [text for trigger in triggers for text in _with_each(trigger, words)]
    spelt = [text for trigger in spelt for text in _with_any(trigger, "{word}", words)]
    spelt = [text for trigger in spelt for text in _with_any(trigger, "{often}", often)]
    return [text for trigger in spelt for text in _with_any(trigger, "{sep}", _SEPARATORS)]


def _with_each(trigger: str, words: Iterable[str]) -> list[str]:
    if "{each" not in trigger:
        return [trigger]
    return [trigger.replace("{each}", word).replace("{each:lower}", word.lower()) for word in words]


def _with_any(trigger: str, placeholder: str, texts: Iterable[str]) -> list[str]:
    if placeholder not in trigger:
        return [trigger]
    groups: dict[int, list[str]] = {}
    for text in texts:
        groups.setdefault(len(text), []).append(re.escape(text))
    return [trigger.replace(placeholder, f"(?:{'|'.join(group)})") for group in groups.values()]


def _check_names(entry: Mapping[str, Any], name: str) -> None:
    missing, unknown = _REQUIRED - set(entry), set(entry) - _REQUIRED - _OPTIONAL
    if missing:
        raise RuleError(name, f"lacks {', '.join(sorted(missing))}", "add it")
    if unknown:
        raise RuleError(name, f"has unknown {', '.join(sorted(unknown))}", f"known: {sorted(_REQUIRED | _OPTIONAL)}")
    if not isinstance(entry["id"], str) or not _ID_PATTERN.fullmatch(entry["id"]):
        raise RuleError(name, "its id is not like vendor-kind", "use a-z, 0-9, - and .")
    if not isinstance(entry["type"], str) or not TYPE_PATTERN.fullmatch(entry["type"]):
        raise RuleError(name, f"its type {entry['type']!r} is not like API_KEY", "use A-Z, 0-9 and _")
    if not entry["match"]:
        raise RuleError(name, "has no example in match", "add a text that must be found")
    if "trigger" not in entry and not _is_names(entry.get("near")) and not _is_names(entry.get("spelt")):
        raise RuleError(name, "has neither trigger nor near", 'add trigger = ["..."], or near = ["badge"]')


def _check_kinds(entry: Mapping[str, Any], name: str) -> None:
    for field in _TEXTS & set(entry):
        if not isinstance(entry[field], str):
            raise RuleError(name, f"{field} = {entry[field]!r}", "write a text in quotes")
    for field in _LISTS & set(entry):
        if not isinstance(entry[field], list) or not all(isinstance(item, str) for item in entry[field]):
            raise RuleError(name, f"{field} = {entry[field]!r}", 'write a list of texts, ["..."]')
    if type(entry.get("priority", 0)) is not int:
        raise RuleError(name, f"priority = {entry['priority']!r}", "write a number; the built-in rules have 10 to 90")
    triggers = entry.get("trigger", "")
    if not all(isinstance(item, str) for item in (triggers if isinstance(triggers, list) else [triggers])):
        raise RuleError(name, f"trigger = {triggers!r}", 'write a list of texts, ["..."]')


def _is_names(near: Any) -> bool:
    return bool(near) and isinstance(near, list) and all(isinstance(item, str) and len(item) > 1 for item in near)


def _stdnum(value: str, name: str) -> Validator:
    try:
        return Stdnum(value)
    except (ImportError, ValueError, AttributeError):
        installed = importlib.util.find_spec("stdnum") is not None
    if installed:
        raise RuleError(name, f"python-stdnum has no {value!r}", "name one of its modules, such as stdnum.gb.nhs")
    raise RuleError(name, f"needs python-stdnum for {value!r}", "pip install 'otel-telemetry[ids]'")


def _validator(value: Any, name: str) -> Validator | None:
    if value is None:
        return None
    if isinstance(value, str) and value.startswith(STDNUM):
        return _stdnum(value, name)
    found = VALIDATORS.get(value)
    if found is None:
        raise RuleError(name, f"unknown validator {value!r}", f"known: {', '.join(sorted(VALIDATORS))}")
    return found


def _check_patterns(rule: Rule, name: str) -> None:
    for trigger in rule.triggers:
        _check_trigger(trigger, name)
    if rule.left and not (re.fullmatch(r"\[[^\]]*(?:\\\][^\]]*)*\]", rule.left) and _compiles(rule.left)):
        raise RuleError(name, f"left = {rule.left!r}", "write one character class, such as [A-Za-z0-9]")
    low, _ = _widths(rule.pattern, name, "regex")
    if not _compiles(rule.pattern):
        hint = "give what it looks behind at one length; see https://docs.python.org/3/library/re.html"
        raise RuleError(name, f"its regex {rule.pattern[:80]!r} is none that Python's re takes", hint)
    if low == 0:
        raise RuleError(name, "its regex matches the empty text", "make some part mandatory")
    problem, _, hint = patterns.blow_up(rule.pattern).partition(": ")
    if problem:
        raise RuleError(name, f"its regex {problem}", hint)
    if pattern_cost.ways(rule.pattern) > _MOST_WAYS:
        hint = "make neighbouring repeats possessive, as in [a-z]{1,40}+, or let them take different characters"
        raise RuleError(name, f"its regex can be tried in over {_MOST_WAYS:,} ways at one place", hint)


def _check_trigger(trigger: Any, name: str) -> None:
    low, high = _widths(trigger, name, "trigger")
    if low != high:
        raise RuleError(name, f"trigger {trigger!r} is not of one length", "list one trigger per length")
    if low < 2:
        raise RuleError(name, f"trigger {trigger!r} is too short", "name at least two characters")
    if patterns.looks_around(trigger):
        raise RuleError(name, f"trigger {trigger!r} looks around", "leave boundaries to the regex")
    if patterns.steers(trigger) or not _compiles(trigger):
        hint = "use literals, classes, groups and fixed repeats only"
        raise RuleError(name, f"trigger {trigger!r} holds what a locator cannot do", hint)
    if patterns.shapeless(trigger):
        raise RuleError(name, f"trigger {trigger!r} is found nearly everywhere", "name a character that the value has")
    if not trigger.isascii():
        raise RuleError(name, f"trigger {trigger!r} is not ASCII", "locate the ASCII part of the value")


def _widths(pattern: Any, name: str, what: str) -> tuple[int, int]:
    try:
        return patterns.widths(pattern)
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        shown = repr(pattern)[:80]
        raise RuleError(name, f"its {what} {shown} is no regular expression: {error}", "correct it") from None


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern, re.ASCII)
    except (re.error, ValueError, RecursionError, OverflowError):
        return False
    return True
