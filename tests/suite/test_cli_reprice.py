"""`otel-telemetry reprice` shows what present prices change, by model and in sum, and does it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from otel_telemetry.cli import app
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.operate.report import ReportQueries
from otel_telemetry.exporters.request_log.price import cost
from tests.suite import operated

NOW = (1000 * 0.15 + 100 * 0.60) / 1e6


@pytest.fixture(name="url")
def url_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a database with a call that nobody had a price for when it came."""
    url = f"sqlite:///{tmp_path / 'rows.db'}"
    with monkeypatch.context() as older:
        older.setattr(cost, "price", lambda *_: cost.NoPrice("not in the list yet"))
        with operated.app(url) as handle:
            handle()
            handle()
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
    with ReportQueries(RequestLogSettings(url=url)) as report:
        (group,) = report.calls()
        assert float(group["cost_usd"]) == pytest.approx(2 * NOW)
        assert group["unpriced"] == 0
    assert json.loads(run("--db", url, "--since", "1d", "--json").stdout)[0]["changed"] == 0


def test_since_when_has_to_be_said(url: str) -> None:
    assert run("--db", url).exit_code == 2
    assert "no model calls in that time" in run("--db", url, "--since", "2999-01-01").output
