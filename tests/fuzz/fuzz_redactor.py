"""Coverage-guided fuzzing of the redactor: `make fuzz`, or `python tests/fuzz/fuzz_redactor.py -max_total_time=600`.

Needs atheris (pip install atheris), which is in no extra: it has wheels for few platforms. Arguments are libFuzzer's.
Each input must come back without an exception, unchanged by a second pass, still JSON where it was JSON, and without
what the locator overlooks in raw bytes.
"""

import json
import random
import sys
from collections.abc import Iterable
from typing import Any, Final

import atheris

with atheris.instrument_imports(include=["otel_telemetry.processors"]):
    from otel_telemetry.processors.config import PseudonymSettings, RedactionSettings
    from otel_telemetry.processors.detect.ruleset import builtin_rules, expand
    from otel_telemetry.processors.otlp.redactor import OtlpRedactor
    from otel_telemetry.processors.redact.redactor import Redactor

from otel_telemetry.base.errors import MalformedTelemetry

SECRET: Final = "a-secret-for-fuzzing"
GROUPS: Final = ("passport", "crypto_wallet")
REDACTORS: Final = (
    Redactor(RedactionSettings(engine="re", pseudonyms=PseudonymSettings(secret=SECRET), optional=GROUPS)),
    Redactor(RedactionSettings(engine="re")),
)
OTLP: Final = OtlpRedactor(REDACTORS[0])
KEYS: Final = ("note", "password", "user.id", "client.address", "http.route", "gen_ai.input.messages", "passport_no")
PIECES: Final = [expand(text, rule.id) for rule in builtin_rules(optional=GROUPS) for text in rule.match]
GLUE: Final = (*' \n"\\=:@.,{}[]+', "\u200b", "\x00", "\ud800", "%40", "%22", "\\u0040", "\\\\n", "&#64;", "\uff20")


#: Letters of the scripts, and what is invisible, joins itself to a character, or turns the direction of writing.
HOSTILE: Final = (
    *("\u00e9", "\u043a", "\u03b1", "\u0631", "\u05de", "\u0928", "\u0e2b", "\u53f7", "\u30ca", "\uac00"),
    *("\u0301", "\u20dd", "\u094d", "\u0e31", "\u064b", "\u05b0", "\u3099", "\ufe0f", "\U000e0041"),
    *("\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u034f", "\u115f", "\u3164"),
    *("\u200e", "\u200f", "\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069"),
    *("\uff11", "\u0661", "\u0967", "\u2460", "\U0001f600", "\u3000", "\u3002"),
)


def check_text(text: str) -> None:
    """Check one string."""
    for redactor in REDACTORS:
        once = redactor.string(text)
        require(redactor.string(once) == once, "a second pass changes nothing", text)
        raw = text.encode("utf-8", "surrogatepass")
        require(once == text or bool(redactor.located(raw)[0]), "the locator sees what changes", text)
        before = _json(text)
        require(not isinstance(before, dict | list) or _json(once) is not None, "JSON stays JSON", text)


def check_item(key: str, value: str) -> None:
    """Check one attribute."""
    for redactor in REDACTORS:
        once = redactor.item(key, value)
        require(once is None or redactor.item(*once) == once, "a second pass changes nothing", f"{key}={value}")


def check_wire(data: bytes) -> None:
    """Check bytes that may be OTLP."""
    try:
        OTLP.redact("traces", data)
    except MalformedTelemetry:
        return


def require(holds: bool, what: str, text: str) -> None:
    """Raise where something does not hold."""
    if not holds:
        raise AssertionError(f"{what}: {text!r}")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Put an example of some rule, or what glues values together, somewhere into an input; or leave it to libFuzzer."""
    draw = random.Random(seed)  # noqa: S311  # repeatable, not secret
    if draw.random() < 0.5:  # half of all
        return bytes(atheris.Mutate(data, len(data) + 16))[:max_size]
    text = data.decode("utf-8", "surrogatepass" if _is_text(data) else "ignore")
    at = draw.randint(0, len(text))
    end = min(len(text), at + draw.choice((0, 0, 0, 1, 4)))
    piece: str = draw.choice(PIECES if draw.random() < 0.5 else GLUE + HOSTILE)  # half of these
    return (text[:at] + piece + text[end:]).encode("utf-8", "surrogatepass")[:max_size]


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def test_one_input(data: bytes) -> None:
    """Check one input in every way."""
    text = data.decode("utf-8", "surrogatepass" if _is_text(data) else "replace")
    check_text(text)
    check_item(KEYS[len(data) % len(KEYS)], text)
    check_text(json.dumps({"k": text}))
    check_wire(data)


def main(arguments: Iterable[str]) -> None:
    """Fuzz until stopped."""
    atheris.Setup(list(arguments), test_one_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
