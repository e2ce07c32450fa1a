"""Values in odd spacing and other encodings are found, and what only looks like a value stays."""

import base64
import json
import random
from typing import Any

import pytest

from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.detect.ruleset import expand
from otel_telemetry.processors.redact.redactor import Redactor

REDACTOR: Any = Redactor(RedactionSettings())
SEPARATORS = (
    *(".", "-", " ", "  ", "\t", "/", "_", "\n", "\r\n", "\u00a0", "\u2009", "\u202f", "\u3000", " - "),
    *("\u2010", "\u2011", "\u2013", "\u2014", "\u2212", "\uff0d", "&nbsp;", "&#32;", "&#160;", "%20", "%2520", "\\x20"),
    *("\\u0020", "\\t", "\\u00a0", "&ndash;", "=20"),
)
CARDS = (("4111", "1111", "1111", "1111"), ("5500", "0055", "5555", "5559"), ("6011", "0009", "9013", "9424"))
IBANS = (("DE89", "3704", "0044", "0532", "0130", "00"), ("GB82", "WEST", "1234", "5698", "7654", "32"))
AT = (
    *(
        "@",
        "%40",
        "%2540",
        "%252540",
        "\\x40",
        "\\u0040",
        "&#64;",
        "&#064;",
        "&#x40;",
        "&#X0040;",
        "&commat;",
        "&amp;#64;",
        "=40",
        "\uff20",
    ),
)


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("groups", CARDS)
def test_a_card_is_found_however_it_is_spaced(groups: tuple[str, ...], separator: str) -> None:
    for text in (f"card {separator.join(groups)} ok", f"{separator.join(groups)}"):
        assert groups[2] + separator + groups[3] not in REDACTOR.string(text), text


@pytest.mark.parametrize("separator", [s for s in SEPARATORS if s not in (" - ", "_", "=20", "&ndash;")])
@pytest.mark.parametrize("groups", IBANS)
def test_an_iban_is_found_however_it_is_spaced(groups: tuple[str, ...], separator: str) -> None:
    text = f"to {separator.join(groups)} today"
    assert separator.join(groups[2:5]) not in REDACTOR.string(text), text


@pytest.mark.parametrize("at", AT)
def test_an_address_is_found_with_its_sign_in_any_encoding(at: str) -> None:
    text = f"mail jane.roe{at}example.com now"
    once = REDACTOR.string(text)
    assert once == "mail [REDACTED_EMAIL] now"
    assert REDACTOR.located(text.encode())[0]


UNCHANGED = (
    *("chatcmpl-AP7kQ2mZxV9tR4wL8nB3cD6fG1hJ", "sha512-AP3" + "x1Yz" * 20 + "==", "order no. 4111111111111111"),
    *('{"order_id": 4111111111111111}', '{"trackingNumber":"5500005555555559"}', "invoice #4111111111111111"),
    *(
        '{"order_ids": ["4012888888881881", "4111111111111111"]}',
        "request_id=4111111111111111",
        "订单号4111111111111111",
    ),
    *("job-4111111111111111-fcc8495b", "trace 4111111111111111a0b1", "curl 7.68.0.2", "app version is 1.2.3.4"),
    *("requests==2.31.0.1", "lib-1.2.3.4.jar", "ssh deploy@build.example.com", "scp x deploy@build.example.com:/srv"),
    *("docker run -v `pwd`:/mnt x", "date -u '+%Y-%m-%dT%H:%M:%SZ'", "?code=US", "?state=california-northern"),
)


@pytest.mark.parametrize("text", UNCHANGED)
def test_what_only_looks_like_a_value_stays(text: str) -> None:
    assert REDACTOR.string(text) == text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("order.id", "4111111111111111"), ("order.id", 4111111111111111), ("tracking_number", "5500005555555559")),
        *(("x-request-id", "4111111111111111"), ("app.version", "1.2.3.4"), ("invoiceNumber", "4012888888881881")),
        ("order_ids", ["4111111111111111", "5500005555555559"]),
    ],
)
def test_a_number_stays_under_a_name_that_says_whose_it_is(key: str, value: Any) -> None:
    assert REDACTOR.item(key, value) == (key, value)


@pytest.mark.parametrize("text", ["4111111111111111", "paid 4111111111111111 today", "card_4111111111111111"])
def test_a_bare_card_number_goes(text: str) -> None:
    assert "4111111111111111" not in REDACTOR.string(text)


@pytest.mark.parametrize("width", [0, 64, 76])
@pytest.mark.parametrize(
    "encode", [base64.b64encode, base64.urlsafe_b64encode, base64.b16encode], ids=lambda f: f.__name__
)
def test_images_and_audio_come_through_whole(encode: Any, width: int) -> None:
    for seed in range(3):
        blob = encode(random.Random(seed).randbytes(300_000)).decode()  # noqa: S311  # repeatable, not secret
        if width:
            blob = "\n".join(blob[at : at + width] for at in range(0, len(blob), width))
        assert REDACTOR.string(blob) == blob
        message = json.dumps([{"role": "user", "parts": [{"type": "blob", "content": blob}]}])
        assert REDACTOR.item("gen_ai.input.messages", message) == ("gen_ai.input.messages", message)


def test_silence_in_base64_comes_through_whole() -> None:
    blob = base64.b64encode(b"RIFF" + bytes(20_000) + random.Random(1).randbytes(3000) + bytes(5000)).decode()  # noqa: S311
    assert REDACTOR.string(f'{{"data":"{blob}"}}') == f'{{"data":"{blob}"}}'


@pytest.mark.parametrize("rule", ["ghp_{alnum:36}", "AKIA{base32:16}", "sk-proj-{alnum:48}"])
def test_a_key_goes_beside_paths_and_names(rule: str) -> None:
    key = expand(rule)
    for text in (
        f"/srv/{key}/x",
        f"https://host.example/{key}",
        f"a={key}&b",
        f"my-{key}" if rule[0] != "A" else f"my {key}",
    ):
        assert key not in REDACTOR.string(text), text


@pytest.mark.parametrize(
    "text",
    ["203.0.113.9, 198.51.100.7", "[2001:db8::1]:80", "203.0.113.9,10.0.0.1,2001:db8::7", "[4111111111111111] failed"],
)
def test_no_quotes_are_put_where_there_is_no_json(text: str) -> None:
    assert '"' not in REDACTOR.string(text)
    assert '"' not in str(REDACTOR.item("http.request.header.x-forwarded-for", text))


@pytest.mark.parametrize(
    "text", ["message: {}", '{{"message": "{}"}}', "event {}", "request failed for {}", "claim {}"]
)
def test_a_card_goes_under_names_that_may_hold_anything(text: str) -> None:

    redactor = Redactor(RedactionSettings())
    assert "4111111111111111" not in redactor.string(text.format("4111111111111111"))
    assert redactor.item("exception.message", "4111111111111111") == ("exception.message", "[REDACTED_CREDIT_CARD]")
