"""The redaction policy: the action for each type of finding, each attribute key and each path inside values.

The built-in policy is `Policy()`; `policy_file.load_policy` reads a YAML file over it. docs/privacy.md describes both.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal, get_args

from otel_telemetry.base import conventions
from otel_telemetry.processors.detect.kinds.addresses import LOOPBACK, kind_of
from otel_telemetry.processors.redact.paths import JsonPath

IP: Final = "IP_ADDRESS"
Action = Literal["replace", "mask", "hash", "drop", "keep"]
Content = Literal["drop", "redact", "keep"]
ACTIONS: Final = get_args(Action)
CONTENTS: Final = get_args(Content)

#: Attributes that hold one person's or session's id: pseudonyms keep them countable.
HASHED_KEYS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (*conventions.USER_ID_KEYS, "request_log.user_id", "enduser.pseudo.id", "user.name", "db.user"), "USER_ID"
    ),
    **dict.fromkeys((*conventions.SESSION_ID_KEYS, "request_log.session_id", "session.previous_id"), "SESSION_ID"),
}
#: Attributes that hold addresses of clients: each address becomes the contract's ip_hash.
CLIENT_KEYS: Final = frozenset(conventions.CLIENT_ADDRESS_KEYS)
#: Attributes that are never touched: ids of telemetry itself, names of code, models and services, counts.
SAFE_KEYS: Final = frozenset(
    {
        conventions.REQUEST_MODEL,
        conventions.RESPONSE_MODEL,
        conventions.RESPONSE_ID,
        conventions.CONVERSATION_ID,
        conventions.OPERATION_NAME,
        conventions.PROVIDER_NAME,
        conventions.RESPONSE_FINISH_REASONS,
        conventions.OUTPUT_TYPE,
        conventions.TOOL_NAME,
        conventions.TOKEN_TYPE,
        conventions.HTTP_REQUEST_METHOD,
        conventions.HTTP_ROUTE,
        conventions.SERVICE_NAME,
        conventions.SERVICE_INSTANCE_ID,
        conventions.DEPLOYMENT_ENVIRONMENT,
        conventions.DEPLOYMENT_ENVIRONMENT_OLD,
        "gen_ai.system",
        "service.namespace",
        "service.version",
        "error.type",
        "network.protocol.name",
        "network.protocol.version",
        "url.scheme",
        "trace_id",
        "span_id",
        "traceId",
        "spanId",
    }
)
SAFE_PREFIXES: Final = ("gen_ai.usage.", "telemetry.sdk.", "code.")
#: Text of any kind under one of these prefixes.
_NOT_SAFE: Final = frozenset({"code.stacktrace"})


@dataclass(frozen=True)
class KeyRule:
    """An action for the attributes whose key matches a pattern; `*` stands for anything."""

    pattern: str
    action: Action

    def matches(self, key: str) -> bool:
        """Return whether the pattern covers the whole key."""
        return glob(self.pattern).fullmatch(key) is not None


@dataclass(frozen=True)
class Policy:
    """What to do, for one service or for all.

    `keys` come before everything else, the first that matches wins. `allow`, where it is not None, names the only keys
    that are kept at all: an empty one keeps nothing. `kept_addresses` are the kinds of IP address that stay in text.
    """

    default: Action = "replace"
    types: Mapping[str, Action] = field(default_factory=dict)
    keys: tuple[KeyRule, ...] = ()
    paths: tuple[tuple[str, JsonPath, Action], ...] = ()
    allow: tuple[str, ...] | None = None
    content: Content = "redact"
    email_domain: bool = False
    kept_addresses: frozenset[str] = frozenset({LOOPBACK})
    services: Mapping[str, "Policy"] = field(default_factory=dict)

    def action(self, kind: str) -> Action:
        """Return what becomes of a finding of this type."""
        return self.types.get(kind, self.default)

    def of(self, kind: str, text: str) -> Action:
        """Return what becomes of one text of this type: an IP address may be of a kind that is kept."""
        if kind == IP and self.kept_addresses and kind_of(text) in self.kept_addresses:
            return "keep"
        return self.types.get(kind, self.default)

    def of_key(self, key: str) -> Action | None:
        """Return the policy's action for an attribute key, or None if it has none."""
        for rule in self.keys:
            if rule.matches(key):
                return rule.action
        return None

    def allows(self, key: str) -> bool:
        """Return whether the allow-list, if there is one, names the key."""
        return self.allow is None or any(glob(pattern).fullmatch(key) for pattern in self.allow)

    def paths_of(self, key: str) -> list[tuple[JsonPath, Action]]:
        """Return the paths that apply inside the values of an attribute key."""
        return [(path, action) for pattern, path, action in self.paths if glob(pattern).fullmatch(key)]

    def everything(self) -> bool:
        """Return whether any attribute at all may change, because some allow-list is in force."""
        return self.allow is not None or any(policy.everything() for policy in self.services.values())

    def drops_content(self) -> bool:
        """Return whether prompts and answers are dropped, for some service at least."""
        return self.content == "drop" or any(policy.drops_content() for policy in self.services.values())

    def named(self) -> Iterator[str]:
        """Yield a literal part of each key that the policy acts on by name: the triggers of the locator."""
        yield from CLIENT_KEYS
        yield from HASHED_KEYS
        for pattern in (*(rule.pattern for rule in self.keys if rule.action != "keep"), *(p for p, _, _ in self.paths)):
            yield longest_part(pattern)
        for policy in self.services.values():
            yield from policy.named()


@lru_cache(maxsize=1024)
def glob(pattern: str) -> re.Pattern[str]:
    """Return what matches the keys that a pattern names; `*` stands for anything."""
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def longest_part(pattern: str) -> str:
    """Return the longest stretch without `*` of a key pattern."""
    return max(pattern.split("*"), key=len)


def is_safe(key: str) -> bool:
    """Return whether the built-in policy leaves an attribute alone."""
    return key in SAFE_KEYS or (key.startswith(SAFE_PREFIXES) and key not in _NOT_SAFE)


def is_content(key: str) -> bool:
    """Return whether an attribute holds messages between people and models."""
    return key in conventions.CONTENT_KEYS or key.startswith(conventions.CONTENT_PREFIXES)
