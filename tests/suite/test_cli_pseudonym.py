"""`otel-telemetry pseudonym` says what a person is called, under both keys of a rotation."""

import hashlib
import hmac

import pytest
from typer.testing import CliRunner

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.cli import app
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor

OLD, NEW = "the secret of last year", "the secret of this year"
VARIABLE = "OTEL_TELEMETRY_REDACTION__PSEUDONYMS__"
ROTATED = {VARIABLE + "SECRET": NEW, VARIABLE + "KEY_ID": "k2", VARIABLE + "PREVIOUS_SECRET": OLD}


def run(*arguments: str, **environment: str) -> list[str]:
    result = CliRunner().invoke(app, ["pseudonym", *arguments], env=environment, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def digest(secret: str, value: str) -> str:
    return hmac.new(secret.encode(), value.encode(), hashlib.sha256).hexdigest()[:12]


def test_an_address_in_any_spelling_has_one_pseudonym_a_key_the_present_one_first() -> None:
    expected = [digest(NEW, "203.0.113.9"), digest(OLD, "203.0.113.9")]
    assert run("--ip", "203.0.113.9", **ROTATED) == expected
    assert run("--ip", "[::ffff:203.0.113.9]:443", **ROTATED) == expected


def test_a_user_is_named_with_the_id_of_the_key() -> None:
    previous = {VARIABLE + "PREVIOUS_KEY_ID": "k1"}
    assert run("jane", **ROTATED, **previous) == [f"k2_{digest(NEW, 'jane')}", f"k1_{digest(OLD, 'jane')}"]


def test_it_is_what_the_redactor_writes() -> None:
    redactor = Redactor(RedactionSettings.model_validate({"pseudonyms": {"secret": NEW, "key_id": "k2"}}))
    assert redactor.item("user.id", "jane") == ("user.id", run("jane", **ROTATED)[0])
    assert redactor.item("client.address", "203.0.113.9") == (
        "client.address",
        run("--ip", "203.0.113.9", **ROTATED)[0],
    )


def test_after_a_rotation_older_pseudonyms_are_left_as_they_are() -> None:
    redactor = Redactor(RedactionSettings.model_validate({"pseudonyms": {"secret": NEW, "key_id": "k2"}}))
    older = f"k1_{digest(OLD, 'jane')}"
    assert redactor.item("user.id", older) == ("user.id", older)


def test_without_a_secret_the_next_step_is_named() -> None:
    with pytest.raises(ConfigurationError, match="is not set"):
        run("jane")


def test_a_previous_secret_that_is_too_short_is_named() -> None:
    with pytest.raises(ConfigurationError, match="previous_secret"):
        run("jane", **{VARIABLE + "SECRET": NEW, VARIABLE + "PREVIOUS_SECRET": "short"})


def test_what_is_no_address_is_refused() -> None:
    result = CliRunner().invoke(app, ["pseudonym", "--ip", "jane"], env=ROTATED)
    assert result.exit_code == 2
    assert "no IP address" in result.output
