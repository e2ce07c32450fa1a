"""No character that nobody sees hides a value, wherever in it one stands; and such characters stay where none is.

Generated: each of them in the middle of one value of each type.
"""

import gzip
import json
import unicodedata
from typing import cast

import pytest

from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.detect.text import ignorable
from otel_telemetry.processors.redact.redactor import Redactor
from tests.processors.test_borders import VALUES

REDACTOR = Redactor(RedactionSettings())
#: But for those that stand between the texts of OTLP, tags and lengths (docs/privacy.md).
CONTROLS = ignorable.characters(
    ((0x00, 0x01), (0x08, 0x08), (0x0B, 0x0C), (0x0E, 0x0F), (0x13, 0x17), (0x19, 0x19), (0x1B, 0x1F)),
    ((0x7F, 0x84), (0x86, 0x9F)),
)
TAGS = ignorable.characters(((0xE0001, 0xE0001), (0xE0020, 0xE007F), (0xE0100, 0xE01EF)))
OTHERS = "".join(
    char
    for char in ignorable.characters(ignorable.DEFAULT_IGNORABLE, ((0xFFF9, 0xFFFC),))
    if unicodedata.category(char) != "Cn" and char not in TAGS
)
EVERY = CONTROLS + OTHERS + TAGS[::7] + TAGS[-1]
#: Where a mark hides most of a value, and where a plain part of one is found by itself.
PLACES = {
    "EMAIL": "jane.doe^@mail.example.com",
    "EMAIL, in its domain": "jane.doe@mail.exam^ple.com",
    "PASSWORD": "passw^ord=hunter22x",
    **{kind: value[: len(value) // 2] + "^" + value[len(value) // 2 :] for kind, value in VALUES.items()},
}


@pytest.mark.parametrize("kind", PLACES)
def test_no_invisible_character_hides_a_value(kind: str) -> None:
    texts = {f"{ord(char):04x}": PLACES[kind].replace("^", char) for char in EVERY}
    assert not [code for code, text in texts.items() if text in REDACTOR.string(text)]


@pytest.mark.parametrize("kind", ["EMAIL", "CREDIT_CARD, spaced", "IBAN", "PASSWORD"])
def test_nor_does_one_that_json_escapes(kind: str) -> None:
    for char in set(EVERY) - set("\x1b\b\f"):  # the first begins a colour, and the others have letters for names
        text = json.dumps({"a": PLACES[kind].replace("^", char)})
        clean = REDACTOR.string(text)
        assert "[REDACTED_" in clean, f"{ord(char):04x}"
        json.loads(clean)


#: One of each kind by which they are looked for.
SOME = "\x01\x7f\u0080\u00ad\u034f\u061c\u180e\u200b\u2060\ufe0f\ufeff\ufff9\U0001d173\U000e0041\U000e0101"


@pytest.mark.parametrize("kind", [kind for kind in VALUES if " " in VALUES[kind] and "\n" not in VALUES[kind]])
def test_nor_does_one_at_any_other_place(kind: str) -> None:
    """Behind the spaces and other separators of a value, too, as in text that was copied from a page of the web."""
    value = VALUES[kind]
    for at in range(1, len(value)):
        for char in SOME if value[at - 1].isascii() and at < len(value) - 1 else "":
            text = f"It is {value[:at]}{char}{value[at:]} there"
            assert text != REDACTOR.string(text), (at, f"{ord(char):04x}")
            if value[at - 1] in " ()/" and char != "\x7f":
                text = json.dumps(text)
                assert text != REDACTOR.string(text), (at, f"{ord(char):04x}")


@pytest.mark.parametrize(
    "text",
    [
        "secret =^ hunter22",
        "secret ^= hunter22",
        '{"password"^:"hunter22"}',
        '{"password":^"hunter22"}',
        "jane&shy;doe@mail.example.com",
    ],
)
def test_nor_does_one_between_a_name_and_its_value(text: str) -> None:
    for char in "\u200b\u2060\ufeff\u00ad":
        assert "hunter22" not in REDACTOR.string(text.replace("^", char))
        assert "doe" not in REDACTOR.string(text)


def test_nor_do_two_in_a_row() -> None:
    assert "1111" not in REDACTOR.string("4111 \u200b\u200b1111 1111 1111")
    for two in ("\u2063\U000e0041", "\ufe0f\u200d"):
        assert REDACTOR.string(f"jane{two}doe@mail.example.com") != f"jane{two}doe@mail.example.com"
        assert "1111" not in REDACTOR.string(f"4111 1111{two} 1111 1111")


@pytest.mark.parametrize(
    "text",
    [
        "Well done \u2764\ufe0f \U0001f469\u200d\U0001f4bb 1\ufe0f\u20e3 \u2705 \u2600\ufe0f",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f 2 : 1",
        "\u0915\u094d\u200d\u0937 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\u0e2b\u0e21\u0e32\u0e22\u200b\u0e40\u0e25\u0e02 12",
        "one\x00two\x00three\x1fthree\x0c2. Page\u0085next",
        "\x1b[31mERROR\x1b[0m disk is full",
        "HOME=/root\x00LANG=C.UTF-8\x00SHLVL=1",
    ],
)
def test_text_with_them_stays_where_nothing_is_found(text: str) -> None:
    assert REDACTOR.string(text) is text


def test_emoji_and_keys_of_digits_are_not_even_folded() -> None:
    text = "Well done \u2764\ufe0f \U0001f469\u200d\U0001f4bb 1\ufe0f\u20e3, 2\ufe0f\u20e3 and \u2600\ufe0f"
    assert not REDACTOR.located(text.encode())[0]


def test_strings_that_are_scanned_together_have_nothing_between_them() -> None:
    assert not REDACTOR.dirty(["one", "two", "n", "three"])
    assert list(REDACTOR.dirty(["one", "jane\x00doe@mail.example.com", "two", "a@mail.example.com"])) == [1, 3]


def test_the_entries_of_an_environment_stay_apart() -> None:
    clean = REDACTOR.string("HOME=/root\x00MAIL=jane.doe@mail.example.com\x00LANG=C.UTF-8")
    assert clean == "HOME=/root\x00MAIL=[REDACTED_EMAIL]\x00LANG=C.UTF-8"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_bytes_in_utf_16_are_read_and_written_as_such(encoding: str) -> None:
    value = "Write to jane.doe@mail.example.com now".encode(encoding)
    assert REDACTOR.located(value)[0]
    after = REDACTOR.value(value)
    assert isinstance(after, bytes)
    assert after.decode(encoding) == "Write to [REDACTED_EMAIL] now"
    clean = "Nothing in here".encode(encoding)
    assert REDACTOR.value(clean) is clean


@pytest.mark.parametrize(
    "around", [b"\xff\xfe%b", b"\xfe\xff%b", b"\xff\xfe%b\x00", b"\x00a" * 200 + b"%b", b"%b" + b"a\x00" * 200]
)
def test_bytes_that_look_like_utf_16_are_read_as_plain_text_too(around: bytes) -> None:
    assert b"jane" not in cast("bytes", REDACTOR.value(around % b" jane.doe@mail.example.com "))
    assert REDACTOR.value(clean := around % b" Nothing in here ") is clean


def test_bytes_that_gzip_packed_are_unpacked() -> None:
    value = gzip.compress(b"Write to jane.doe@mail.example.com now")
    assert REDACTOR.located(value)[0]
    assert REDACTOR.value(value) == b"[REDACTED_EMAIL]"
    clean = gzip.compress(b"Nothing in here")
    assert REDACTOR.value(clean) is clean


HIDDEN = gzip.compress(b"jane.doe@mail.example.com")
NOT_WHOLE = {
    "too large": gzip.compress(b"x" * 70_000),
    "cut off": gzip.compress(b"Nothing in here")[:-9],
    "two in a row": gzip.compress(b"Nothing") + HIDDEN,
    "one in the other": gzip.compress(HIDDEN),
}


@pytest.mark.parametrize("case", NOT_WHOLE)
def test_what_cannot_be_unpacked_whole_is_replaced(case: str) -> None:
    assert REDACTOR.value(NOT_WHOLE[case]) == b"[REDACTED_UNSCANNED]"
