"""`otel-telemetry clickhouse` without a server: what is wrong is named, and nothing is made."""

import pytest
from typer.testing import CliRunner

from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable
from otel_telemetry.cli import app

KEY = "OTEL_TELEMETRY_REQUEST_LOG__CLICKHOUSE__URL"


@pytest.mark.parametrize("word", ["init", "relay", "backfill", "status"])
def test_no_server_and_one_that_is_away(word, tmp_path, monkeypatch):
    command = ["clickhouse", word, "--db", f"sqlite:///{tmp_path / 'log.db'}"]
    with pytest.raises(ConfigurationError, match=r"request_log\.clickhouse\.url: is not set"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    monkeypatch.setenv(KEY, "http://user:secret@127.0.0.1:9/telemetry")
    with pytest.raises(StoreUnavailable, match="does not answer") as raised:
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert "secret" not in str(raised.value)
    assert not (tmp_path / "log.db").exists()
