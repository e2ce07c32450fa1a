"""Text of any length is redacted in bounded memory, as if it were read at once, and is otherwise left as it is."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_telemetry.processors import streams
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.streams import Tally, redact_stream

KEY = (
    "-----BEGIN PRIVATE KEY-----\n" + "\n".join("Q" * 60 + f"{n:04}" for n in range(60)) + "\n-----END PRIVATE KEY-----"
)


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor(RedactionSettings())


def blocks(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def through(redactor: Redactor, data: bytes, size: int = 65_536) -> bytes:
    return b"".join(redact_stream(redactor, blocks(data, size), Tally()))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut often: a window of 200 characters, its margin 5,000."""
    monkeypatch.setattr(streams, "BLOCK", 200)
    monkeypatch.setattr(streams, "_MARGIN", 5_000)
    monkeypatch.setattr(streams, "LONGEST_LINE", 12_000)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("shift", range(0, 120, 7))
def test_nothing_slips_through_a_cut_wherever_it_falls(redactor: Redactor, shift: int) -> None:
    line = "user jane.roe@example.com paid with 4111 1111 1111 1111, password=hunter2\n"
    text = "x" * shift + "\n" + line * 300 + f"{KEY}\n" + line * 300 + 'password:\n  "hunter2"\n' + line
    clean = through(redactor, text.encode(), 777).decode()
    for secret in ("jane.roe", "4111", "hunter2", "QQQQ"):
        assert secret not in clean
    assert clean.count("[REDACTED_EMAIL]") == 601
    assert clean.startswith("x" * shift + "\nuser [REDACTED_EMAIL] paid with")


@pytest.mark.usefixtures("small")
def test_a_line_without_an_end_is_cut_outside_of_what_is_found(redactor: Redactor) -> None:
    text = "token password=hunter2 and jane.roe@example.com, " * 2_000
    clean = through(redactor, text.encode(), 999).decode()
    assert "hunter2" not in clean
    assert "jane.roe" not in clean
    assert clean.count("[REDACTED_EMAIL]") == 2_000


def test_no_more_than_a_window_is_held_at_once(redactor: Redactor) -> None:
    line = b"nothing to see in this line of a log\n"
    taken, given = 0, 0

    def source() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(80):
            taken += 100_000
            yield line * (100_000 // len(line)) + b"." * (100_000 % len(line))

    most = 0
    for piece in redact_stream(redactor, source(), Tally()):
        given += len(piece)
        most = max(most, taken - given)
    assert given == taken == 8_000_000
    assert most < 2 * streams.BLOCK


def test_lines_of_json_stay_json_and_keep_their_order_and_their_spacing(redactor: Redactor) -> None:
    records = [
        {"mail": "jane.roe@example.com", "ssn": 123456789, "text": 'he said "password=hunter2"'},
        {"n": 1, "list": [1.50, None, True], "inner": json.dumps({"card": "4111 1111 1111 1111"})},
    ]
    text = "".join(json.dumps(record) + "\n" for record in records) + "plain jane.roe@example.com\n" + '{"a":  1}\n'
    lines = through(redactor, text.encode()).decode().splitlines()
    first, second = json.loads(lines[0]), json.loads(lines[1])
    assert first["mail"] == "[REDACTED_EMAIL]"
    assert "hunter2" not in first["text"]
    assert "4111" not in json.loads(second["inner"])["card"]
    assert lines[2:] == ["plain [REDACTED_EMAIL]", '{"a":  1}']


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"no line end",
        b"windows\r\nline\r\nends\r\n",
        bytes(range(256)) * 40,
        "caf\u00e9 \u2028 \U0001f600 \x0b \x1c\n".encode(),
        b"\xff\xfe" + "Gr\u00fc\u00dfe\n".encode("utf-16-le"),
        b"\xef\xbb\xbfwith a mark\n",
    ],
)
@pytest.mark.parametrize("size", [1, 3, 65_536])
def test_bytes_with_nothing_in_them_come_out_as_they_went_in(redactor: Redactor, data: bytes, size: int) -> None:
    assert through(redactor, data, size) == data


def test_an_address_among_bytes_that_are_no_text_is_found_and_the_bytes_stay(redactor: Redactor) -> None:
    assert through(redactor, b"\xff\x80 jane.roe@example.com \xfe\n") == b"\xff\x80 [REDACTED_EMAIL] \xfe\n"


@pytest.mark.parametrize(("mark", "codec"), [(b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")])
def test_utf_16_is_read_where_a_mark_says_so(redactor: Redactor, mark: bytes, codec: str) -> None:
    clean = through(redactor, mark + "to jane.roe@example.com\n".encode(codec), 5)
    assert clean == mark + "to [REDACTED_EMAIL]\n".encode(codec)


def test_a_second_pass_changes_nothing(redactor: Redactor) -> None:
    text = f"jane.roe@example.com\n{KEY}\n" + json.dumps({"password": "hunter2", "ip": "203.0.113.9"}) + "\n"
    once = through(redactor, text.encode())
    tally = Tally()
    assert b"".join(redact_stream(redactor, [once], tally)) == once
    assert not tally.found


def test_where_the_policy_drops_a_type_the_lines_with_it_go_and_no_others(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("types: {SSN: drop, PRIVATE_KEY: drop}\n")
    dropping = Redactor(RedactionSettings(policy=policy))
    text = f"one\njane.roe@example.com\r\nssn 123-45-6789 of jane.roe@example.com\r\nfour {KEY} five\nsix\n"
    clean = through(dropping, text.encode()).decode()
    assert clean == "one\n[REDACTED_EMAIL]\r\n[REDACTED_SSN]\r\n[REDACTED_PRIVATE_KEY]\nsix\n"


def test_what_was_found_is_counted_by_type_and_rule_and_length(redactor: Redactor) -> None:
    tally = Tally()
    b"".join(redact_stream(redactor, [b"a@b.example.com c@d.example.com\n", b'{"m": "e@f.example.com"}\n'], tally))
    assert dict(tally.found) == {("EMAIL", "email"): 3}
    assert dict(tally.characters) == {("EMAIL", "email"): 45}
