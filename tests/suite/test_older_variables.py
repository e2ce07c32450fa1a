"""Variables of older systems are logged with their new names, and used where they mean the same."""

import os
import subprocess
import sys

import pytest

from otel_telemetry import assemble, settings
from otel_telemetry.app import older_variables


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(older_variables, "_logged", set())
    for each in older_variables.VARIABLES:
        monkeypatch.delenv(each.name, raising=False)


@pytest.mark.parametrize(("value", "enabled"), [("0", False), ("off", False), ("False", False), ("1", True)])
def test_telemetry_enabled_is_used_as_enabled(monkeypatch, value, enabled):
    monkeypatch.setenv("TELEMETRY_ENABLED", value)
    assert settings.load().enabled is enabled


def test_urls_are_used_as_what_they_mean(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://cache:6379/1")
    monkeypatch.setenv("LOKI_URL", "http://loki:3100/loki/api/v1/push")
    found = settings.load()
    assert found.cache.url is not None
    assert found.cache.url.get_secret_value() == "redis://cache:6379/1"
    assert found.loki.endpoint == "http://loki:3100"


def test_a_loki_that_is_called_loki_stays_one(monkeypatch):
    monkeypatch.setenv("LOKI_URL", "https://loki")
    assert settings.load().loki.endpoint == "https://loki"


def test_each_is_told_once_with_its_name_here_and_without_its_value(monkeypatch, caplog):
    values = {"TPR_DB": "/data/secret.db", "REDIS_URL": "redis://:secret@cache", "PROMETHEUS_PORT": "8000"}
    for name, value in {**values, "LOKI_URL": "http://loki:3100", "TELEMETRY_ENABLED": "yes"}.items():
        monkeypatch.setenv(name, value)
    settings.load()
    settings.load()
    logged = [record.getMessage() for record in caplog.records if record.name == older_variables.__name__]
    assert len(logged) == len(older_variables.VARIABLES)
    for each, line in zip(older_variables.VARIABLES, logged, strict=True):
        assert line.startswith(each.name)
        assert settings.variable(each.setting) in line
        assert "secret" not in line


def test_a_name_of_ours_goes_before_in_silence(monkeypatch, caplog):
    monkeypatch.setenv("REDIS_URL", "redis://of-the-app")
    monkeypatch.setenv("OTEL_TELEMETRY_CACHE__URL", "redis://ours")
    monkeypatch.setenv("TELEMETRY_ENABLED", "0")
    found = settings.load(enabled=True)
    assert found.cache.url is not None
    assert found.cache.url.get_secret_value() == "redis://ours"
    assert found.enabled
    assert not caplog.records


def test_the_file_goes_before_too(monkeypatch, tmp_path):
    (tmp_path / "otel-telemetry.toml").write_text('[loki]\nendpoint = "http://ours:3100"\n')
    monkeypatch.setenv("LOKI_URL", "http://theirs:3100")
    assert settings.load().loki.endpoint == "http://ours:3100"


@pytest.mark.parametrize(
    ("name", "value"), [("REDIS_URL", "memory://"), ("LOKI_URL", "loki"), ("TELEMETRY_ENABLED", "?")]
)
def test_a_value_that_cannot_be_used_stops_nothing_and_says_what_can(monkeypatch, caplog, name, value):
    monkeypatch.setenv(name, value)
    found = settings.load()
    assert (found.enabled, found.cache.url, found.loki.endpoint) == (True, None, None)
    assert "it is not used: write" in caplog.text


def test_the_port_is_that_of_the_sdk_s_own_exporter(monkeypatch):
    monkeypatch.setattr(os, "environ", {"PROMETHEUS_PORT": "9477"})
    assemble.default_environment(settings.load())
    assert os.environ["OTEL_EXPORTER_PROMETHEUS_PORT"] == "9477"


@pytest.mark.parametrize(
    "program",
    [
        ["-c", "import otel_telemetry; otel_telemetry.configure(exporter='none')"],
        ["-m", "otel_telemetry.cli", "trim", "--older-than", "1d"],
        ["-m", "otel_telemetry.cli", "serve", "--http-port", "-1"],
    ],
    ids=["app", "command", "gateway"],
)
def test_apps_commands_and_the_gateway_tell_it_as_they_start(tmp_path, program):
    environment = {**os.environ, "TPR_DB": str(tmp_path / "old.db")}
    done = subprocess.run(
        [sys.executable, *program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "TPR_DB is set, which is called OTEL_TELEMETRY_REQUEST_LOG__URL here" in " ".join(done.stderr.split())
