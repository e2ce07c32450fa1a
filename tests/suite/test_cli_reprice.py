"""`otel-telemetry reprice` shows what present prices change, by model and in sum, and does it."""

import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from otel_telemetry.cli import app
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.report import Report
from tests.suite import operated

NOW = (1000 * 0.15 + 100 * 0.60) / 1e6


@pytest.fixture(name="url")
def url_fixture(tmp_path: Path) -> str:
    """Return the URL of a database with a call that nobody had a price for when it came."""
    url = f"sqlite:///{tmp_path / 'rows.db'}"
    with operated.app(url) as handle:
        handle()
        handle()
    connection = sqlite3.connect(tmp_path / "rows.db")
    connection.execute("UPDATE llm_call SET cost_usd = NULL, cost_source = 'unpriced', price_version = NULL")
    connection.commit()
    connection.close()
    return url


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["reprice", *arguments], env=operated.ENVIRONMENT)


def test_a_dry_run_shows_the_change_and_makes_none(url: str) -> None:
    result = run("--db", url, "--since", "1d", "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    assert (row["model"], row["calls"], row["newly_priced"]) == ("gpt-4o-mini", 2, 2)
    assert float(row["change_usd"]) == pytest.approx(2 * NOW)
    assert "would be repriced by genai-prices/" in run("--db", url, "--since", "1d", "--dry-run").output


def test_afterwards_the_rows_have_present_prices(url: str) -> None:
    result = run("--db", url, "--since", "1d")
    assert "2 requests have new costs" in result.output
    with Report(RequestLogSettings(url=url)) as report:
        (group,) = report.calls()
        assert float(group["cost_usd"]) == pytest.approx(2 * NOW)
        assert group["unpriced"] == 0
    assert json.loads(run("--db", url, "--since", "1d", "--json").stdout)[0]["changed"] == 0


def test_since_when_has_to_be_said(url: str) -> None:
    assert run("--db", url).exit_code == 2
    assert "no model calls in that time" in run("--db", url, "--since", "2999-01-01").output
