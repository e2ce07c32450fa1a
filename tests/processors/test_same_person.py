"""The same number or address has the same pseudonym in any spelling, and a mask shows nothing that opens something."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from otel_telemetry.processors.config import PseudonymSettings, RedactionSettings
from otel_telemetry.processors.redact.pseudonym import Pseudonyms
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.redact.same_person import normal_form

KEYS = PseudonymSettings(secret=SecretStr("a secret of sixteen letters and more"))
SAME = {
    "PHONE": ("+49 30 5550 1234", "+49 (0)30 5550-1234", "0049 30 55501234", "+49/30/5550-1234", "tel:+493055501234"),
    "PHONE of America": ("+1 415 555 0132", "(415) 555-0132", "415.555.0132", "1-415-555-0132", "001 415 555 0132"),
    "CREDIT_CARD": ("4111 1111 1111 1111", "4111-1111-1111-1111", "4111111111111111", "٤١١١١١١١١١١١١١١١"),
    "SSN": ("536-90-4399", "536904399", "536 90 4399"),
    "IBAN": ("DE89 3704 0044 0532 0130 00", "de89370400440532013000", "DE89-3704-0044-0532-0130-00"),
    "EMAIL": ("Jane.Roe@Example.com", "jane.roe@example.com", "jane.roe%40example.com", "mailto:jane.roe@example.com"),
}


@pytest.mark.parametrize("kind", SAME)
def test_all_spellings_are_one(kind: str) -> None:
    assert len({normal_form(kind.partition(" ")[0], text) for text in SAME[kind]}) == 1


@pytest.mark.parametrize("kind", ["PHONE", "CREDIT_CARD", "SSN", "IBAN", "EMAIL"])
def test_other_people_stay_apart(kind: str) -> None:
    text = SAME[kind][0]
    other = text.replace("1", "2").replace("Jane", "Joan").replace("536", "537").replace("370", "371")
    assert normal_form(kind, text) != normal_form(kind, other)


def test_the_redactor_writes_one_pseudonym_for_all_of_them(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("default: hash\n")
    redactor = Redactor(RedactionSettings(policy=policy, pseudonyms=KEYS))
    texts = ["card 4111 1111 1111 1111", "card 4111-1111-1111-1111", "card 4111111111111111"]
    left = {redactor.string(text) for text in texts}
    assert len(left) == 1
    assert left.pop().startswith("card k1_")
    assert redactor.item("credit_card", 4111111111111111) == redactor.item("credit_card", "4111 1111 1111 1111")


def test_the_command_that_names_a_person_knows_the_spelling(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("default: hash\n")
    written = Redactor(RedactionSettings(policy=policy, pseudonyms=KEYS)).string("call +49 30 5550 1234").split()[1]
    assert written in Pseudonyms(KEYS).every("0049 (30) 55501234")
    assert Pseudonyms(KEYS).every("anna") == [Pseudonyms(KEYS).of("anna")]


@pytest.mark.parametrize("password", ["hunter22x", "Tr0ub4dor&3", "a horse, a battery and a staple"])
def test_a_mask_shows_nothing_of_a_password(tmp_path: Path, password: str) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("default: mask\nkeys: {my.field: mask}\n")
    redactor = Redactor(RedactionSettings(policy=policy))
    assert redactor.item("db.password", password) == ("db.password", "****")
    assert redactor.item("my.field", password) == ("my.field", "****")
    assert password[-4:] not in redactor.string(f'{{"password": "{password}"}}')


def test_a_mask_shows_the_end_of_what_people_know_by_its_end(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("default: mask\n")
    redactor = Redactor(RedactionSettings(policy=policy))
    assert redactor.string("card 4111 1111 1111 1111") == "card ****1111"
    assert redactor.item("client_secret", "short-secret") == ("client_secret", "****")
