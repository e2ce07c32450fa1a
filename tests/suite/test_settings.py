"""Settings: argument over environment over file over default, and a mistake names its key and the next step."""

from pathlib import Path

import pytest

from otel_telemetry import settings
from otel_telemetry.base.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    import os

    for name in list(os.environ):
        if name.startswith(settings.ENV_PREFIX):
            monkeypatch.delenv(name)


def test_an_argument_wins_over_the_environment_and_that_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "otel-telemetry.toml").write_text("[request_log]\nbatch_size = 1\nqueue_size = 101\ndebounce = 1.0\n")
    monkeypatch.setenv("OTEL_TELEMETRY_REQUEST_LOG__BATCH_SIZE", "2")
    monkeypatch.setenv("OTEL_TELEMETRY_REQUEST_LOG__QUEUE_SIZE", "102")
    resolved = settings.load(request_log={"batch_size": 3}).request_log
    assert (resolved.batch_size, resolved.queue_size, resolved.debounce) == (3, 102, 1.0)


def test_the_file_that_the_environment_names_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("enabled = false\n")
    monkeypatch.setenv("OTEL_TELEMETRY_FILE", "other.toml")
    assert settings.load().enabled is False


@pytest.mark.parametrize(
    ("arguments", "key", "hint"),
    [
        ({"request_logs": {}}, "request_logs", "did you mean request_log?"),
        ({"request_log": {"batch_sizes": 1}}, "request_log.batch_sizes", "did you mean request_log.batch_size?"),
        ({"request_log": {"batch_size": 0}}, "request_log.batch_size", "OTEL_TELEMETRY_REQUEST_LOG__BATCH_SIZE"),
        ({"redaction": {"engine": "pcre"}}, "redaction.engine", "OTEL_TELEMETRY_REDACTION__ENGINE"),
    ],
)
def test_a_wrong_argument_is_named_with_the_next_step(arguments: dict[str, object], key: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings.load(**arguments)
    assert caught.value.key == key
    assert hint in caught.value.hint


def test_a_mistyped_variable_is_named_with_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TELEMETRY_REQUEST_LOG__URI", "sqlite://")
    with pytest.raises(ConfigurationError, match="did you mean OTEL_TELEMETRY_REQUEST_LOG__URL"):
        settings.load()


def test_a_mistyped_key_in_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "otel-telemetry.toml").write_text("[gateway]\nprot = 1\n")
    with pytest.raises(ConfigurationError, match=r"gateway\.prot: no such setting"):
        settings.load()


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "otel-telemetry.toml").write_text("[gateway\n")
    with pytest.raises(ConfigurationError, match=r"otel-telemetry\.toml: cannot be read"):
        settings.load()


def test_a_file_that_is_named_but_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TELEMETRY_FILE", "gone.toml")
    with pytest.raises(ConfigurationError, match=r"there is no file gone\.toml"):
        settings.load()


def test_secrets_show_in_no_representation() -> None:
    resolved = settings.load(
        redaction={"pseudonyms": {"secret": "correct horse battery staple"}},
        gateway={"api_keys": ["key-of-the-kingdom"]},
        request_log={"url": "postgresql://me:hunter2@db/telemetry"},
    )
    for shown in (repr(resolved), str(resolved)):
        assert "horse" not in shown
        assert "kingdom" not in shown
        assert "hunter2" not in shown


def test_the_page_of_settings_is_up_to_date() -> None:
    from otel_telemetry.commands.show_settings import settings_markdown

    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == settings_markdown(), (
        "otel-telemetry settings --markdown > docs/settings.md"
    )
