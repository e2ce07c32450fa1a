"""Telephone numbers of every region, by the examples of libphonenumber, in the ways that people write them."""

import re
from typing import Any

import phonenumbers
import pytest

from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor

REDACTOR: Any = Redactor(RedactionSettings())
REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
KINDS = (phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE)
FORMAT = phonenumbers.PhoneNumberFormat
#: How a number with its country is written: from its code, and the rest in groups.
WITH_COUNTRY = {
    "E.164": "+{code}{bare}",
    "international": "+{code} {groups}",
    "in brackets": "(+{code}) {groups}",
    "with slashes": "+{code}/{slashed}",
    "with dots": "+{code}.{dotted}",
    "with hyphens": "+{code}-{hyphens}",
    "with its exit code": "00{code} {groups}",
    "as a URI": "tel:+{code}-{hyphens}",
    "glued to its word": "Phone+{code} {groups}",
    "percent-encoded": "%2B{code}{bare}",
}
WORDS = (
    *(
        "phone: {}",
        "Tel. {}",
        "call me at {}",
        '{{"phone": "{}"}}',
        "mobile={}",
        "Telefon: {}",
        "t\u00e9l\u00e9phone : {}",
    ),
    *(
        "\u7535\u8bdd\uff1a{}",
        "\u96fb\u8a71\u756a\u53f7\u306f{}\u3067\u3059",
        "\uc804\ud654 {}",
        "\u0442\u0435\u043b. {}",
        "\u0422\u0435\u043b\u0435\u0444\u043e\u043d: {}",
    ),
    *(
        "\u03c4\u03b7\u03bb. {}",
        "\u0647\u0627\u062a\u0641: {}",
        "\u05d8\u05dc\u05e4\u05d5\u05df {}",
        "\u092b\u094b\u0928: {}",
        "\u0e42\u0e17\u0e23 {}",
        "Cep: {}",
        "tel\u00e9fono: {}",
    ),
    *("{} (mobile)", "{} is my phone number", "reach me on {}", "\\u7535\\u8bdd: {}", "Handy {}", "m\u00f3vil {}"),
)


def examples() -> list[tuple[str, Any]]:
    numbers = ((region, phonenumbers.example_number_for_type(region, kind)) for region in REGIONS for kind in KINDS)
    return [(region, number) for region, number in numbers if number is not None]


EXAMPLES = examples()


def groups_of(number: Any) -> dict[str, str]:
    written = phonenumbers.format_number(number, FORMAT.INTERNATIONAL)
    code, _, rest = written[1:].partition(" ")
    groups = re.findall(r"\d+", rest)
    bare = "".join(groups)
    return {
        "code": code,
        "bare": bare,
        "groups": " ".join(groups),
        "slashed": "/".join(groups),
        "dotted": ".".join(groups),
        "hyphens": "-".join(groups),
    }


def digits_left(text: str, written: str) -> bool:
    """Tell whether the last digits of a number are still there."""
    last = re.sub(r"\D", "", written)[-4:]
    return last in re.sub(r"\D", "", REDACTOR.string(text))


@pytest.mark.parametrize("form", WITH_COUNTRY)
def test_a_number_with_its_country_is_found_without_a_word(form: str) -> None:
    texts = [WITH_COUNTRY[form].format(**groups_of(number)) for _, number in EXAMPLES]
    left = [text for text in texts if digits_left(text, text)]
    assert len(left) <= len(texts) * 0.02, left


@pytest.mark.parametrize("word", WORDS)
def test_a_national_number_is_found_beside_a_word_of_any_language(word: str) -> None:
    written = [phonenumbers.format_number(number, FORMAT.NATIONAL) for _, number in EXAMPLES]
    written = [text for text in written if sum(map(str.isdigit, text)) >= 6]
    left = [text for text in written if digits_left(word.format(text), text)]
    assert len(left) <= len(written) * 0.05, left
