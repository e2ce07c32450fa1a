"""Reads the YAML policy file. Unknown names, types and actions are RuleErrors that say file and line.

```yaml
default: replace            # replace | mask | hash | drop | keep
types: {EMAIL: hash, CREDIT_CARD: mask}
email_domain: true          # a hashed e-mail keeps its domain
keys: {app.note: keep, "app.secret.*": drop}
paths:
  gen_ai.input.messages: {"$[*].name": hash}
allow: [http.*, gen_ai.*]   # only these keys are kept; leave it out to keep all
addresses: {loopback: keep, private: redact}    # IP addresses in text: keep, or redact as IP_ADDRESS says
content: redact             # drop | redact | keep
optional: [national_id]     # groups of rules that are off by default
services:
  billing: {types: {IBAN: mask}}
```
"""

import difflib
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import yaml

from otel_telemetry.base.errors import RuleError
from otel_telemetry.processors.config import GROUPS, NER_TYPES, RedactionSettings
from otel_telemetry.processors.detect.kinds.addresses import KINDS
from otel_telemetry.processors.redact.paths import JsonPath
from otel_telemetry.processors.redact.policy import ACTIONS, CONTENTS, Action, Content, KeyRule, Policy, longest_part

_SECTIONS: Final = ("default", "types", "keys", "paths", "allow", "content", "email_domain", "addresses")
_FOR_ALL: Final = ("optional", "services")
"""Sections that the overrides of one service cannot have."""
_MIN_LITERAL: Final = 3
_OFF: Final = {
    **{kind: f"switch it on with `optional: [{group}]`" for group, kind in GROUPS.items()},
    **dict.fromkeys(NER_TYPES, "switch it on with the setting redaction.names"),
}
"""Types that nothing finds unless it is switched on, and how that is done."""


def load_policy(path: Path, types: Collection[str]) -> Policy:
    """Return the policy of a file; `types` are the types that rules or keys can give."""
    node = _composed(path)
    return _Reader(str(path), frozenset(types)).policy(node) if node is not None else Policy()


def optional_of(settings: RedactionSettings) -> tuple[str, ...]:
    """Return the groups of rules that the settings, or the policy file, switch on."""
    node = _composed(settings.policy) if settings.policy else None
    named = _Reader(str(settings.policy), frozenset()).optional(node) if node is not None else ()
    return tuple(dict.fromkeys((*settings.optional, *named)))


def _composed(path: Path) -> yaml.Node | None:
    try:
        text = path.read_text(encoding="utf-8")
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise RuleError(str(path), f"cannot be read: {error}", "name a readable YAML file") from None
    except yaml.YAMLError as error:
        raise RuleError(str(path), f"is not YAML: {' '.join(str(error).split())}", "correct the file") from None
    return node


class _Reader:
    """Turns YAML nodes, which know their lines, into a policy."""

    def __init__(self, file: str, types: frozenset[str]) -> None:
        self._file = file
        self._types = types

    def policy(self, node: yaml.Node, base: Policy | None = None) -> Policy:
        """Read the top, or with `base` the overrides of one service, which start from it."""
        sections = dict(self._members(node, (*_SECTIONS, *(() if base else _FOR_ALL))))
        policy = base or Policy()
        for name, child in sections.items():
            if name not in _FOR_ALL:
                policy = replace(policy, **self._section(name, child, policy))
        services = sections.get("services")
        if services is None:
            return policy
        return replace(policy, services={name: self.policy(child, policy) for name, child in self._members(services)})

    def optional(self, node: yaml.Node) -> list[str]:
        """Return the groups that the section `optional` names."""
        sections = dict(self._members(node, (*_SECTIONS, *_FOR_ALL)))
        named = self._items(sections["optional"]) if "optional" in sections else []
        return [self._choice(child, GROUPS) for child in named]

    def _section(self, name: str, node: yaml.Node, policy: Policy) -> dict[str, Any]:
        if name == "types":
            own = {kind: self._action(child) for kind, child in self._members(node, sorted(self._types))}
            return {"types": {**policy.types, **own}}
        if name == "keys":
            return {"keys": (*(self._key_rule(key, child) for key, child in self._members(node)), *policy.keys)}
        if name == "paths":
            return {"paths": (*self._paths(node), *policy.paths)}
        if name == "allow":
            return {"allow": tuple(self._text(child) for child in self._items(node))}
        if name == "addresses":
            return {"kept_addresses": self._kept(node, policy.kept_addresses)}
        if name == "email_domain":
            return {"email_domain": self._choice(node, ("true", "false")) == "true"}
        return {"default": self._action(node)} if name == "default" else {"content": self._content(node)}

    def _kept(self, node: yaml.Node, kept: frozenset[str]) -> frozenset[str]:
        """Return the kinds of address that are kept: those of before, changed by the section."""
        choices = {kind: self._choice(child, ("keep", "redact")) for kind, child in self._members(node, KINDS)}
        return frozenset(kind for kind in KINDS if choices.get(kind, "keep" if kind in kept else "redact") == "keep")

    def _key_rule(self, pattern: str, node: yaml.Node) -> KeyRule:
        action = self._action(node)
        if action != "keep" and len(longest_part(pattern)) < _MIN_LITERAL:
            self._refuse(node, f"the key pattern {pattern!r} names too little", "spell out three characters or more")
        return KeyRule(pattern, action)

    def _paths(self, node: yaml.Node) -> Iterator[tuple[str, JsonPath, Action]]:
        for pattern, child in self._members(node):
            if len(longest_part(pattern)) < _MIN_LITERAL:
                self._refuse(
                    child, f"the key pattern {pattern!r} names too little", "spell out three characters or more"
                )
            for text, action in self._members(child):
                try:
                    path = JsonPath.parse(text)
                except ValueError as error:
                    self._refuse(action, f"the path {text!r}: {error}", "write it like $.messages[*].content")
                else:
                    yield pattern, path, self._action(action)

    def _members(self, node: yaml.Node, known: Collection[str] = ()) -> Iterator[tuple[str, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self._refuse(node, "this is no mapping", "write name: value")
        seen: set[str] = set()
        for key_node, child in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            name = self._text(key_node)
            if known and name not in known:
                if name in _OFF and known == sorted(self._types):
                    self._refuse(key_node, f"nothing that is on finds {name}", _OFF[name])
                close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
                self._refuse(key_node, f"unknown name {name!r}", hint)
            if name in seen:
                self._refuse(key_node, f"{name!r} stands here twice", "keep one of them")
            seen.add(name)
            yield name, child

    def _items(self, node: yaml.Node) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            self._refuse(node, "this is no list", "write [a, b]")
        return cast("list[yaml.Node]", node.value)

    def _action(self, node: yaml.Node) -> Action:
        return cast("Action", self._choice(node, ACTIONS))

    def _content(self, node: yaml.Node) -> Content:
        return cast("Content", self._choice(node, CONTENTS))

    def _choice(self, node: yaml.Node, known: Collection[str]) -> str:
        text = self._text(node)
        if text not in known:
            self._refuse(node, f"unknown {text!r}", f"use one of {', '.join(known)}")
        return text

    def _text(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self._refuse(node, "this is no single value", "write one word")
        return str(node.value)

    def _refuse(self, node: yaml.Node, problem: str, hint: str) -> None:
        raise RuleError(f"{self._file}: line {node.start_mark.line + 1}", problem, hint)
