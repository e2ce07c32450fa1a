"""`otel-telemetry scan` says what today's rules find in stored rows, and cleans them on demand."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from otel_telemetry.cli import app
from tests.suite import operated

MAIL = "jane.doe@example.com"


@pytest.fixture(name="url", params=["sqlite", "postgres"])
def url_fixture(request: pytest.FixtureRequest, with_tables: Callable[[str], str]) -> str:
    """Return the URL of a database that was written without redaction."""
    url = with_tables(request.param)
    with operated.app(url, redacted=False) as handle:
        handle(request_log__query_text=f"I am {MAIL}", request_log__order="A-17")
        handle(request_log__query_text="a clean one")
    return url


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["scan", *arguments], env=operated.ENVIRONMENT)


def test_findings_are_shown_without_their_values_and_the_exit_code_says_so(url: str) -> None:
    result = run("--db", url)
    assert result.exit_code == 1
    assert "query_text" in result.output
    assert "EMAIL" in result.output
    assert "scan --fix" in result.output
    assert MAIL not in result.output
    assert run("--db", url).exit_code == 1


def test_after_fixing_nothing_is_found_not_even_in_the_bytes_of_a_file(url: str, tmp_path: Path) -> None:
    fixed = run("--db", url, "--fix", "--json")
    assert fixed.exit_code == 0
    found = {(row["table"], row["column"], row["type"]): row["found"] for row in json.loads(fixed.stdout)}
    assert found == {("request_log", "query_text", "EMAIL"): 1, ("trace_facts", "request_fields", "EMAIL"): 1}
    assert operated.no_bytes_of(tmp_path, MAIL)
    again = run("--db", url)
    assert again.exit_code == 0
    assert "nothing found" in again.output


def test_of_a_database_that_an_older_version_wrote_it_is_said_how_to_bring_it_up_to_date(url: str) -> None:
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE trace_facts")
    engine.dispose()
    command = [str(Path(sys.executable).parent / "otel-telemetry"), "scan", "--db", url]
    done = subprocess.run(
        command, env=os.environ | operated.ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "trace_facts" in done.stderr
    assert "up to date" in done.stderr


def test_a_policy_of_today_holds_for_rows_of_the_past(url: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("keys:\n  order: drop\n")
    found = json.loads(run("--db", url, "--json", "--policy", str(policy)).stdout)
    assert {"table": "request_log", "column": "meta", "type": "POLICY", "found": 1} in found
