"""Letters of other alphabets that look Latin do not hide a value, and prose in those alphabets is left alone."""

import pytest

from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.detect.detector import Detector
from otel_telemetry.processors.detect.ruleset import builtin_rules
from otel_telemetry.processors.redact.redactor import Redactor

REDACTOR = Redactor(RedactionSettings())
HIDDEN = [
    ("D\u041589370400440532013000", "[REDACTED_IBAN]"),
    ("pay \u0412\u041568539007547034 now", "pay [REDACTED_IBAN] now"),
    ("G\u039282 WEST 1234 5698 7654 32", "[REDACTED_IBAN]"),
    ("jane@ex\u0430mpl\u0435.c\u043em", "[REDACTED_EMAIL]"),
    ("j\u0430ne%40example.com", "[REDACTED_EMAIL]"),
    ("jane\uff20example\uff0ecom", "[REDACTED_EMAIL]"),
    ("\uff14111 1111 1111 111\u06f1", "[REDACTED_CREDIT_CARD]"),
    ("\u0440\u0430ssword=hunter22", "\u0440\u0430ssword=[REDACTED_PASSWORD]"),
    ("\u0391KIAIOSFODNN7EXAMPLE", "[REDACTED_API_KEY]"),
]


@pytest.mark.parametrize(("text", "clean"), HIDDEN)
def test_a_look_alike_beside_a_latin_letter_hides_nothing(text, clean):
    once = REDACTOR.string(text)
    assert once == clean
    assert REDACTOR.string(once) == once
    assert REDACTOR.located(text.encode())[0]


def test_both_engines_see_them_alike():
    pytest.importorskip("hyperscan")
    one, other = (Detector(builtin_rules(), engine) for engine in ("hyperscan", "re"))
    for text, _ in HIDDEN:
        assert one.find(text) == other.find(text)
        assert one.located(text.encode())[0] == other.located(text.encode())[0]


@pytest.mark.parametrize(
    "prose",
    [
        "\u042d\u0442\u043e \u0442\u0435\u0441\u0442 API \u0438 SQL \u0438 \u0434\u0440., 12 \u0448\u0442.",
        "\u0391\u03c5\u03c4\u03cc \u03b5\u03af\u03bd\u03b1\u03b9 \u03ad\u03bd\u03b1 API \u03ba\u03b1\u03b9 2 SQL",
    ],
)
def test_prose_in_those_alphabets_is_not_even_looked_at(prose):
    assert REDACTOR.string(prose) is prose
    assert not REDACTOR.located(prose.encode())[0]
