"""The types that are searched for under the built-in safe names: values that cannot be an id, a model or a count.

Dashboards are built on these names, so their values are kept unless they are unmistakable: an e-mail address or an
international telephone number that some app uses as its conversation id, credentials in a URL, a JWT, a private key.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

from otel_telemetry.base import conventions
from otel_telemetry.base.records import AnyValue
from otel_telemetry.processors.detect.detector import Match
from otel_telemetry.processors.redact.policy import Policy
from otel_telemetry.processors.redact.rewrite import Finding, Writer, same_or

#: What a text must hold to be looked at; most safe values hold none of it.
_SHAPE: Final = re.compile(r"@|%40|\\u0040|^\+|\+\d{6}|eyJ|://|-----BEGIN")
_SURE: Final = frozenset({"EMAIL", "URL_CREDENTIALS", "JWT", "PRIVATE_KEY"})
_PHONE: Final = "PHONE"
#: Ids by which rows are counted and joined: a pseudonym, unless the policy says otherwise of the type.
_IDS: Final = frozenset({conventions.CONVERSATION_ID, conventions.RESPONSE_ID, conventions.SERVICE_INSTANCE_ID})


class SafeValues:
    """Cleans values of safe attributes under one policy."""

    def __init__(self, find: Callable[[str], Sequence[Match]], writer: Writer, policy: Policy) -> None:
        self._find = find
        self._writer = writer
        self._policy = policy

    def clean(self, key: str, value: AnyValue, found: list[Finding]) -> AnyValue:
        """Return the value of a safe attribute: nearly always the same object."""
        if isinstance(value, str):
            return self._text(key, value, found) if _SHAPE.search(value) else value
        if isinstance(value, list | tuple):
            return same_or([self.clean(key, item, found) for item in value], value)
        return value

    def _text(self, key: str, text: str, found: list[Finding]) -> AnyValue:
        matches = [match for match in self._find(text) if _sure(text, match)]
        if key in _IDS and matches:
            first = matches[0]
            return self._writer.whole(text, first.type, self._policy.types.get(first.type, "hash"), first.rule, found)
        return self._writer.text(text, matches, found) if matches else text


def _sure(text: str, match: Match) -> bool:
    return match.type in _SURE or (match.type == _PHONE and "+" in text[max(0, match.start - 1) : match.start + 1])
