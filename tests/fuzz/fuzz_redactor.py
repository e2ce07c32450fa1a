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
    from otel_telemetry.processors.otlp import OtlpRedactor
    from otel_telemetry.processors.redactor import Redactor
    from otel_telemetry.processors.ruleset import builtin_rules, expand

from otel_telemetry.errors import MalformedTelemetry

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


def check_text(text: str) -> None:
    """Check one string."""
    for redactor in REDACTORS:
        once = redactor.string(text)
        require(redactor.string(once) == once, "a second pass changes nothing", text)
        raw = text.encode("utf-8", "surrogatepass")
        require(once == text or bool(redactor.hits(raw)), "the locator sees what changes", text)
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
    piece: str = draw.choice(PIECES if draw.random() < 0.5 else GLUE)  # half of these
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
    """Fuzz until told to stop."""
    atheris.Setup(list(arguments), test_one_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
