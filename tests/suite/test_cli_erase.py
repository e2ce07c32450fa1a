"""`otel-telemetry erase` takes one person out of the database and the spool, and says what went."""

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from typer.testing import CliRunner, Result

from otel_telemetry.cli import app
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.operate.report import ReportQueries
from otel_telemetry.gateway.spool.writer import Spool
from otel_telemetry.processors.config import PseudonymSettings
from otel_telemetry.processors.redact.pseudonym import Pseudonyms
from tests.suite import operated

JANE = Pseudonyms(PseudonymSettings.model_validate({"secret": operated.SECRET})).of("jane")
TEXT = "which tent for the winter"


@pytest.fixture(name="url", params=["sqlite", "postgres"])
def url_fixture(request: pytest.FixtureRequest, with_tables: Callable[[str], str]) -> str:
    """Return the URL of a database with two requests of jane, who is also known by her address, and one of ole."""
    url = with_tables(request.param)
    with operated.app(url) as handle:
        handle(request_log__user_id="jane", request_log__query_text=TEXT, client__address="203.0.113.9")
        handle(request_log__user_id="jane", request_log__session_id="s-1")
        handle(request_log__user_id="ole", request_log__query_text="hello", client__address="203.0.113.77")
    return url


@pytest.fixture(name="run")
def run_fixture(url: str, tmp_path: Path) -> Callable[..., Result]:
    def run(*arguments: str, **options: Any) -> Result:
        folder = ("--spool-dir", str(tmp_path / "spool"))
        environment = {**operated.ENVIRONMENT, **options.pop("env", {})}
        return CliRunner().invoke(app, ["erase", *arguments, "--db", url, *folder], env=environment, **options)

    return run


def left(url: str) -> int:
    with ReportQueries(RequestLogSettings(url=url)) as report:
        return len(report.latest())


def counts_of(result: Result) -> dict[str, int]:
    assert result.exit_code == 0, result.output
    return {row["where"]: row["rows"] for row in json.loads(result.stdout)}


def test_a_dry_run_counts_and_changes_nothing(run: Callable[..., Result], url: str) -> None:
    counts = counts_of(run("--user", "jane", "--dry-run", "--json"))
    assert counts == {"request_log": 2, "llm_call": 2, "trace_facts": 4}
    assert left(url) == 3


def test_what_goes_is_what_the_dry_run_said(run: Callable[..., Result], url: str, tmp_path: Path) -> None:
    counts = counts_of(run("--user", "jane", "--dry-run", "--json"))
    assert counts_of(run("--user", "jane", "--yes", "--json")) == counts
    assert left(url) == 1
    assert "nothing is known of this person" in run("--user", "jane", "--yes").output
    assert operated.no_bytes_of(tmp_path, JANE, TEXT)


@pytest.mark.parametrize(
    ("arguments", "count"),
    [(("--ip", "::ffff:203.0.113.9"), 1), (("--session", "s-1"), 1), (("--user", JANE), 2), (("--user", "nobody"), 0)],
)
def test_people_are_found_by_address_session_and_pseudonym_too(
    run: Callable[..., Result], url: str, arguments: tuple[str, str], count: int
) -> None:
    assert counts_of(run(*arguments, "--yes", "--json")).get("request_log", 0) == count
    assert left(url) == 3 - count


def test_rows_from_before_a_rotation_of_the_key_are_found_as_well(run: Callable[..., Result]) -> None:
    rotated = {
        "OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET": "the-secret-after-the-rotation",
        "OTEL_TELEMETRY_REDACTION__PSEUDONYMS__KEY_ID": "k2",
        "OTEL_TELEMETRY_REDACTION__PSEUDONYMS__PREVIOUS_SECRET": operated.SECRET,
        "OTEL_TELEMETRY_REDACTION__PSEUDONYMS__PREVIOUS_KEY_ID": "k1",
    }
    assert counts_of(run("--user", "jane", "--dry-run", "--json", env=rotated))["request_log"] == 2


def test_the_value_can_come_from_standard_input(run: Callable[..., Result]) -> None:
    assert counts_of(run("--user", "-", "--dry-run", "--json", input="jane\n"))["request_log"] == 2


def test_it_asks_before_it_deletes(run: Callable[..., Result], url: str) -> None:
    result = run("--user", "jane")
    assert "add --yes" in str(result.exception)
    assert left(url) == 3


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "exactly one of --user, --ip and --session"),
        (("--user", "a", "--ip", "203.0.113.9"), "exactly one of"),
        (("--user", "[REDACTED_USER_ID]"), "which names no single person"),
        (("--ip", "no address"), "is no IP address"),
    ],
)
def test_who_is_meant_has_to_be_clear(run: Callable[..., Result], arguments: tuple[str, ...], problem: str) -> None:
    result = run(*arguments, "--yes")
    assert result.exit_code == 2
    assert problem in result.output


def test_without_the_secret_nobody_is_found_and_that_is_said(run: Callable[..., Result], url: str) -> None:
    result = run("--user", "jane", "--yes", env={"OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET": ""})
    assert "redaction.pseudonyms.secret: is not set" in str(result.exception)
    assert left(url) == 3
    env = {"OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET": ""}
    assert counts_of(run("--user", JANE, "--dry-run", "--json", env=env))["request_log"] == 2


def test_the_spool_loses_the_same_traces_and_its_bytes(run: Callable[..., Result], url: str, tmp_path: Path) -> None:
    with ReportQueries(RequestLogSettings(url=url)) as report:
        trace = next(row.trace_id for row in report.latest() if row.query_text == TEXT)
    message = ExportTraceServiceRequest()
    scope = message.resource_spans.add().scope_spans.add()
    scope.spans.add(trace_id=bytes.fromhex(trace), span_id=b"12345678", name=TEXT)
    scope.spans.add(trace_id=b"0" * 16, span_id=b"12345678", name="somebody else's")
    scope.spans.add(trace_id=b"1" * 16, span_id=b"12345678").attributes.add(key="user.id").value.string_value = JANE
    spool = Spool(tmp_path / "spool", 1 << 30, 24)
    try:
        spool.append("traces", message.SerializeToString(), 3).result()
        counts = counts_of(run("--user", "jane", "--yes", "--json"))
        assert (counts["spool: items"], counts["spool: batches"]) == (2, 1)
        assert operated.no_bytes_of(tmp_path, JANE, TEXT)
        assert not operated.no_bytes_of(tmp_path / "spool", "somebody else's")
    finally:
        spool.close()
    for name in ("spool.damaged-1.db", "spool.saved-1.db"):
        (tmp_path / "spool" / name).touch()
    result = run("--user", "ole", "--yes")
    assert " ".join(result.output.split()).count("delete it if you can") == 2


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'none.db'}"
    result = CliRunner().invoke(app, ["erase", "--user", "a", "--db", url], env=operated.ENVIRONMENT)
    assert "there is no database" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_stays_locked_is_told_of_in_a_line(tmp_path: Path) -> None:
    with operated.app(f"sqlite:///{tmp_path / 'rows.db'}") as handle:
        handle(request_log__user_id="jane")
    holder = sqlite3.connect(tmp_path / "rows.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    arguments = ("erase", "--user", JANE, "--yes", "--db", f"sqlite:///{tmp_path / 'rows.db'}")
    process = operated.command(*arguments, env={**os.environ, **operated.ENVIRONMENT}, cwd=tmp_path)
    _, errors = process.communicate(timeout=60)
    holder.close()
    assert process.returncode == 1
    assert "database is locked" in errors
    assert "run this again" in errors
    assert "Traceback" not in errors
