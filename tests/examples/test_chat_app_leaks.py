"""The demo's search for planted values finds them wherever and however they are written."""

import base64
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import phonenumbers
import pytest

from examples.chat_app.demo import leaks
from examples.chat_app.demo.planted import Garden

SPELLED: dict[str, Callable[[str], bytes]] = {
    "plain": lambda v: f"mail {v} now".encode(),
    "upper case": lambda v: v.upper().encode(),
    "hex": lambda v: v.encode().hex().encode(),
    "upper hex": lambda v: v.encode().hex().upper().encode(),
    "json": lambda v: json.dumps({"a": json.dumps({"b": v})}).encode(),
    "percent": lambda v: b"?q=" + quote(v, safe="").encode(),
    "plus": lambda v: b"?q=" + quote_plus(v).encode(),
    "utf-16": lambda v: v.encode("utf-16-le"),
    "base64": lambda v: base64.b64encode(v.encode()),
    "base64 after one": lambda v: base64.b64encode(f"x{v} y".encode()),
    "base64 after two": lambda v: base64.b64encode(f"xx{v}".encode()),
    "base64url": lambda v: base64.urlsafe_b64encode(f"???{v}???".encode()),
}


def one_of_each(seed: int) -> Garden:
    garden = Garden(seed)
    for make in (
        garden.email, garden.card, garden.phone, garden.ssn, garden.iban, garden.openai_key, garden.github_token,
        garden.aws_key, garden.jwt, garden.secret, garden.user, garden.ipv4, garden.ipv6,
    ):  # fmt: skip
        make()
    return garden


@pytest.mark.parametrize("how", SPELLED)
def test_every_kind_of_value_is_found_however_it_is_spelled(tmp_path: Path, how: str) -> None:
    for number, planted in enumerate(one_of_each(1).planted):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "file").write_bytes(b"\x00\xff" + SPELLED[how](planted.value) + b"\x01")
        assert [leak.value for leak in leaks.find([planted.value], folder)] == [planted.value]


@pytest.mark.parametrize("kind", ["card", "iban", "phone"])
def test_numbers_are_found_without_their_spaces(tmp_path: Path, kind: str) -> None:
    value = getattr(Garden(2), kind)()
    (tmp_path / "file").write_text("n=" + "".join(c for c in value if c.isalnum()))
    assert leaks.find([value], tmp_path)


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(Path(leaks.__file__).read_bytes())
    assert leaks.find([p.value for p in one_of_each(3).planted], tmp_path) == []


def test_a_value_across_two_pages_and_one_in_a_deleted_row_of_a_database_are_found(tmp_path: Path) -> None:
    garden = Garden(4)
    across, deleted = garden.email(), garden.email()
    connection = sqlite3.connect(tmp_path / "some.db")
    connection.execute("PRAGMA page_size = 512")
    connection.execute("PRAGMA secure_delete = OFF")
    connection.execute("CREATE TABLE t (body BLOB)")
    text = (across.encode() + b"....") * 200
    connection.execute("INSERT INTO t VALUES (?)", (text[: len(across) + 600] + b"x" * 3000,))
    connection.execute("INSERT INTO t VALUES (?)", (deleted.encode(),))
    connection.commit()
    connection.execute("DELETE FROM t WHERE body = ?", (deleted.encode(),))
    connection.commit()
    connection.close()
    assert {leak.value for leak in leaks.find([across, deleted], tmp_path)} == {across, deleted}


def test_the_same_seed_plants_the_same_and_another_one_plants_something_else() -> None:
    assert one_of_each(5).planted == one_of_each(5).planted
    assert not set(one_of_each(5).planted) & set(one_of_each(6).planted)


def test_what_is_planted_is_valid_in_form() -> None:
    for seed in range(50):
        garden = Garden(seed)
        digits = [int(d) for d in reversed(garden.card().replace(" ", ""))]
        assert sum(digits[0::2]) + sum(sum(divmod(2 * d, 10)) for d in digits[1::2]) in range(0, 200, 10)
        iban = garden.iban().replace(" ", "")
        assert int("".join(str(int(c, 36)) for c in iban[4:] + iban[:4])) % 97 == 1
        assert phonenumbers.is_valid_number(phonenumbers.parse(garden.phone(), None))
