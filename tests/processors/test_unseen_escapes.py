r"""JSON's `\u` escapes hide no value and no name, at any depth; and names that only look like `password` are read."""

import json
from typing import Any

import pytest

from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.detect.detector import Detector
from otel_telemetry.processors.detect.ruleset import builtin_rules
from otel_telemetry.processors.redact.redactor import Redactor

REDACTOR: Any = Redactor(RedactionSettings())
VALUES = [
    ("mail", "jane.roe@example.com", "EMAIL"),
    ("paid", "4111 1111 1111 1111", "CREDIT_CARD"),
    ("call", "+49 171 2345678", "PHONE"),
    ("ssn", "536-90-4399", "SSN"),
    ("account", "DE89370400440532013000", "IBAN"),
    ("from", "203.0.113.9", "IP_ADDRESS"),
    ("key", "AKIAIOSFODNN7EXAMPLQ", "API_KEY"),
]


def escaped(text: str, every: int) -> str:
    r"""Write every n-th character as `\uXXXX`."""
    return "".join(f"\\u{ord(char):04x}" if at % every == 0 else char for at, char in enumerate(text))


@pytest.mark.parametrize(("name", "value", "kind"), VALUES)
@pytest.mark.parametrize("every", [1, 2, 5])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_value_with_escaped_characters_is_found_and_json_stays_json(name, value, kind, every, depth):
    text = f'{{"{name}":"{escaped(value, every)}","n":1}}'
    for _ in range(depth):
        text = json.dumps({"inner": text})
    clean = REDACTOR.string(text)
    assert f"[REDACTED_{kind}]" in clean
    data = json.loads(clean)
    for _ in range(depth):
        data = json.loads(data["inner"])
    assert data == {name: f"[REDACTED_{kind}]", "n": 1}
    assert REDACTOR.string(clean) == clean


@pytest.mark.parametrize("key", ["password", "apiKey", "client_secret", "authorization"])
@pytest.mark.parametrize("every", [1, 3])
def test_an_escaped_name_still_says_what_its_value_is(key, every):
    data = json.loads(REDACTOR.string(f'{{"{escaped(key, every)}":"tango-97-mike-xray"}}'))
    assert data[key].startswith("[REDACTED_")


def test_a_plus_that_dotnet_escapes_belongs_to_its_number():
    assert REDACTOR.string('{"to":"\\u002B14155550132"}') == '{"to":"[REDACTED_PHONE]"}'


def test_spaces_and_invisible_characters_that_python_escapes_hide_no_number():
    for gap in ("\u00a0", "\u202f", "\u2011", "\u200b"):
        text = json.dumps({"card": gap.join(("4111", "1111", "1111", "1111"))})
        assert json.loads(REDACTOR.string(text)) == {"card": "[REDACTED_CREDIT_CARD]"}
    assert json.loads(REDACTOR.string(json.dumps({"c": "\uff14111111111111111"}))) == {"c": "[REDACTED_CREDIT_CARD]"}


@pytest.mark.parametrize("key", ["p\u0430ssword", "\uff50assword", "pass\u200bword", "api_k\u0435y", "s\u0435cret"])
def test_a_name_with_look_alikes_counts_as_the_name_that_it_looks_like(key):
    assert REDACTOR.item(key, "x1")[1].startswith("[REDACTED_")
    assert REDACTOR.value({"a": {key: "x1"}})["a"][key].startswith("[REDACTED_")
    assert REDACTOR.dirty([key])
    assert REDACTOR.located(key.encode())[0]


@pytest.mark.parametrize(
    "text",
    [
        '{"html":"\\u003cb\\u003eTom \\u0026 Jerry\\u0027s\\u003c/b\\u003e"}',
        '{"text":"\\u4f60\\u597d\\uff0c\\u4e16\\u754c\\uff01 3\\u20135 \\u2019s"}',
        '{"text":"\\u043f\\u0440\\u0438\\u0432\\u0435\\u0442 \\u043c\\u0438\\u0440"}',
        '{"emoji":"\\ud83d\\udc68\\u200d\\ud83d\\udc69"}',
        "C:\\users\\u0061bc\\update",
    ],
)
def test_ordinary_escapes_change_nothing(text):
    assert REDACTOR.string(text) is text


def test_escapes_of_html_and_prose_are_not_even_looked_at_twice():
    for text in (
        "\\u003cb\\u003e \\u0026 \\u0027",
        "\\u043f\\u0440\\u0438\\u0432\\u0435\\u0442",
        "\\u4f60\\u597d\\uff0c",
    ):
        assert not REDACTOR.located(text.encode())[0], text


def test_both_engines_see_them_alike():
    pytest.importorskip("hyperscan")
    one, other = (Detector(builtin_rules(), engine) for engine in ("hyperscan", "re"))
    for name, value, _ in VALUES:
        text = f'{{"{name}":"{escaped(value, 2)}"}}'
        assert one.find(text) == other.find(text)
        assert one.located(text.encode())[0] == other.located(text.encode())[0]


ZERO_WIDTH = {
    "code point": r"\u{200b}",
    "long escape": r"\U0000200b",
    "bytes": r"\xe2\x80\x8b",
    "octal": r"\342\200\213",
    "soft hyphen": r"\xad",
    "URL": "%E2%80%8B",
    "URL in a URL": "%25E2%2580%258B",
}


@pytest.mark.parametrize("form", ZERO_WIDTH)
@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize(
    ("before", "behind", "kind"),
    [
        ("card 4111", "111111111111", "CREDIT_CARD"),
        ("mail jane", "@example.com", "EMAIL"),
        ("203.0", ".113.9", "IP_ADDRESS"),
    ],
)
def test_an_invisible_character_hides_no_value_in_any_language_s_escape(form, depth, before, behind, kind):
    text = before + ZERO_WIDTH[form] + behind
    for _ in range(depth):
        text = json.dumps({"inner": text})
    assert f"[REDACTED_{kind}]" in REDACTOR.string(text)


@pytest.mark.parametrize(
    "digits", ["%EF%BC%94%EF%BC%91%EF%BC%91%EF%BC%91", r"\u{34}\u{31}\u{31}\u{31}", "%D9%A4%D9%A1%D9%A1%D9%A1"]
)
def test_digits_that_are_escaped_are_digits(digits):
    assert "[REDACTED_CREDIT_CARD]" in REDACTOR.string(f"card={digits}111111111111")


@pytest.mark.parametrize(
    "text", ["q=2024%E5%B9%B4%E6%98%A5", r'"caf\xc3\xa9 \xe2\x80\x94 bar"', r"\u{1F600} done", "a%C3%A9b"]
)
def test_other_text_that_is_escaped_stays(text):
    assert REDACTOR.string(text) == text
