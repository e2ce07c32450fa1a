"""What stands in a URL or a form is found as what it means, percent-encoded or with plus signs for spaces."""

import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus, unquote_plus

import pytest

from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor

VALUES = {
    "EMAIL": "jane.doe@mail-server.com",
    "CREDIT_CARD": "4111 1111 1111 1111",
    "PHONE": "+44 20 7946 0958",
    "SSN": "123 45 6789",
    "IBAN": "GB82 WEST 1234 5698 7654 32",
}
ENCODINGS: dict[str, Callable[[str], str]] = {
    "percent": lambda text: quote(text, safe=""),
    "percent, lower case": lambda text: quote(text, safe="").replace("%2B", "%2b"),
    "plus": quote_plus,
}


@pytest.fixture(scope="module", params=["hyperscan", "re"])
def redactor(request: pytest.FixtureRequest) -> Redactor:
    return Redactor(RedactionSettings(engine=request.param))


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("kind", VALUES)
def test_a_value_in_a_query_is_redacted_and_the_rest_of_the_query_stays(
    redactor: Redactor, kind: str, encode: Callable[[str], str]
) -> None:
    url = f"https://shop.test/find?a=1&q={encode(VALUES[kind])}&page=2"
    assert redactor.string(url) == f"https://shop.test/find?a=1&q=[REDACTED_{kind}]&page=2"


# An address's local part may hold a percent sign, so that more than the address goes there: too much, never too little.
@pytest.mark.parametrize("kind", sorted(set(VALUES) - {"EMAIL"}))
def test_a_value_in_encoded_json_is_redacted_and_stays_json(redactor: Redactor, kind: str) -> None:
    encoded = quote(json.dumps({"note": f"it is {VALUES[kind]}", "n": 1}))
    clean = unquote_plus(redactor.string(f"filter={encoded}"))
    assert json.loads(clean.removeprefix("filter=")) == {"note": f"it is [REDACTED_{kind}]", "n": 1}


@pytest.mark.parametrize("kind", VALUES)
def test_its_place_is_reported_in_raw_bytes_too(redactor: Redactor, kind: str) -> None:
    text = f"q={quote_plus(VALUES[kind])}"
    data = b"\x0a\x20" + text.encode() + b"\x12"
    assert [end for end in redactor.located(data)[0] if 2 < end <= len(data) - 1]
    assert list(redactor.dirty(["clean", text])) == [1]


@pytest.mark.parametrize(
    "text",
    ["q=caf%C3%A9+au+lait&n=12+34", "100%25 sure", "1+1=2 and 10+20=30", "a%20b%2Fc", "%zz %4", "x=%F0%9F%8D%95"],
)
def test_what_is_clean_comes_back_as_it_was(redactor: Redactor, text: str) -> None:
    assert redactor.string(text) is text


@pytest.mark.parametrize("number", ["4084 9711 0016 4014", "4020-1234-5678-9013", "4046 1018 4000 0008"])
@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
def test_a_number_behind_an_equals_sign_is_no_byte_of_quoted_printable(
    redactor: Redactor, encode: Callable[[str], str], number: str
) -> None:
    """`=40` is an at sign where mail is encoded; in a query it begins a card."""
    assert redactor.string(f"note={encode(number)}&page=2") == "note=[REDACTED_CREDIT_CARD]&page=2"


def test_a_telephone_number_behind_an_equals_sign_goes_whole(redactor: Redactor) -> None:
    assert redactor.string("phone=202%2D555%2D0123&page=2") == "phone=[REDACTED_PHONE]&page=2"
