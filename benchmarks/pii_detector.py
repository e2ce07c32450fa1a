"""The detector as ../shared/pii/evaluate.py asks for it: `make()` returns detect(text) -> [(start, end, type)]."""

import os
from collections.abc import Callable
from typing import Final

from otel_telemetry.processors.detect.detector import Detector
from otel_telemetry.processors.detect.ruleset import builtin_rules

#: Our types in the words of the evaluation; the others are secrets there.
_NAMES: Final = {
    "EMAIL": "EMAIL",
    "PHONE": "PHONE",
    "SSN": "SSN",
    "CREDIT_CARD": "CARD",
    "IBAN": "IBAN",
    "IP_ADDRESS": "IP",
    "MAC_ADDRESS": "MAC",
    "URL_CREDENTIALS": "URL_CRED",
    "PRIVATE_KEY": "PRIVATE_KEY",
    "JWT": "JWT",
    "PASSWORD": "PASSWORD",
    "USER_ID": "USER_ID",
    "SESSION_ID": "SESSION_ID",
}


def make() -> Callable[[str], list[tuple[int, int, str]]]:
    """Build the detector of the built-in rules on the engine that OTEL_TELEMETRY_REDACTION__ENGINE names."""
    detector = Detector(builtin_rules(), os.environ.get("OTEL_TELEMETRY_REDACTION__ENGINE", "auto"))
    find = detector.find
    names = _NAMES

    def detect(text: str) -> list[tuple[int, int, str]]:
        return [(match.start, match.end, names.get(match.type, "SECRET")) for match in find(text)]

    return detect
