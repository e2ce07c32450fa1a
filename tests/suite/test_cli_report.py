"""`otel-telemetry report` says what the rows say."""

import csv
import json
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from typer.testing import CliRunner

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.cli import app
from otel_telemetry.exporters.request_log import RequestLogSpanExporter
from otel_telemetry.exporters.request_log.rollup.build import Builder


@pytest.fixture
def database(tmp_path: Path) -> str:
    """Return the URL of a database with three requests: two on one route, and one that failed on another."""
    url = f"sqlite:///{tmp_path / 'rows.db'}"
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(RequestLogSpanExporter(url=url)))
    tracer = provider.get_tracer("t")
    call: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 100,
    }
    for route in ("direct", "direct", "web"):
        attributes: dict[str, Any] = {"request_log.route": route, "request_log.ok": route == "direct"}
        with (
            tracer.start_as_current_span("request", attributes=attributes),
            tracer.start_as_current_span("chat", attributes=call),
        ):
            pass
    provider.shutdown()
    return url


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["report", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def test_the_table_sums_up_by_route(database: str) -> None:
    lines = [line.split() for line in run("--db", database).splitlines()]
    assert next(line for line in lines if line[:1] == ["direct"])[1:4] == ["2", "2", "2"]
    assert next(line for line in lines if line[:1] == ["web"])[1:4] == ["1", "0", "1"]


def test_json_holds_the_same_and_more(database: str) -> None:
    routes = {row["route"]: row for row in json.loads(run("--db", database, "--json"))}
    assert (routes["direct"]["prompt_tokens"], routes["direct"]["completion_tokens"]) == (2000, 200)
    assert float(routes["direct"]["cost_usd"]) == pytest.approx(2 * (1000 * 0.15 + 100 * 0.60) / 1e6)


def test_the_latest_requests_come_newest_first_and_no_more_than_asked(database: str) -> None:
    latest = json.loads(run("--db", database, "--by", "request", "--limit", "2", "--json"))
    assert [row["route"] for row in latest] == ["web", "direct"]


def test_since_leaves_older_requests_out(database: str) -> None:
    assert len(json.loads(run("--db", database, "--by", "request", "--json"))) == 3
    assert "no requests yet" in run("--db", database, "--since", "2999-01-01")


def test_a_since_that_is_no_time_is_refused_with_examples(database: str) -> None:
    result = CliRunner().invoke(app, ["report", "--db", database, "--since", "yesterday"])
    assert result.exit_code == 2
    assert "neither an age like 24h nor a date" in result.output


@pytest.mark.parametrize("content", [b"this is not a database, whatever its name says", b""])
def test_a_file_that_is_no_request_log_is_named_without_a_traceback(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.db").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"request_log\.url: cannot be read as a request_log"):
        CliRunner().invoke(app, ["report", "--db", f"sqlite:///{tmp_path}/other.db"], catch_exceptions=False)


def test_in_a_narrow_window_columns_are_left_out_and_no_figure_is_cut(database: str) -> None:
    result = CliRunner().invoke(app, ["report", "--db", database], env={"COLUMNS": "60"})
    assert "0.000420" in result.output
    assert "…" not in result.output
    assert max(len(line) for line in result.output.splitlines()) <= 60


def test_csv_has_a_line_of_names_and_all_columns(database: str) -> None:
    rows = list(csv.DictReader(run("--db", database, "--by", "day,route", "--csv").splitlines()))
    assert [(row["route"], row["requests"]) for row in rows] == [("direct", "2"), ("web", "1")]
    assert rows[0].keys() == json.loads(run("--db", database, "--by", "day,route", "--json"))[0].keys()
    assert "cost_usd" in run("--db", database, "--csv", "--since", "2999-01-01")


def test_a_table_says_where_its_percentiles_are_from(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Builder(database, lambda: time.time() + 200_000) as builder:
        assert list(builder.steps())
    monkeypatch.setattr("otel_telemetry.exporters.request_log.operate.figures.FEW", 0)
    monkeypatch.setattr("otel_telemetry.exporters.request_log.rollup.reading.Plan.row_count", lambda *_: 0)
    assert "--exact sorts all values" in run("--db", database)
    assert "--exact" not in run("--db", database, "--exact")


def test_by_model_sums_up_model_calls(database: str) -> None:
    (row,) = json.loads(run("--db", database, "--by", "model", "--json"))
    assert (row["model"], row["llm_calls"], row["prompt_tokens"]) == ("gpt-4o-mini", 3, 3000)
    assert "gpt-4o-mini" in run("--db", database, "--by", "day,model,service")


def test_cache_and_feedback_are_questions_of_their_own(database: str) -> None:
    assert {
        row["route"]: row["cache_hits"] for row in json.loads(run("--db", database, "--by", "cache", "--json"))
    } == {
        "direct": 0,
        "web": 0,
    }
    assert "hit rate" in run("--db", database, "--by", "cache,day")
    assert "no feedback yet" in run("--db", database, "--by", "feedback")


@pytest.mark.parametrize(
    ("by", "problem"),
    [
        ("rout", "not by rout"),
        ("route,model", "models are those of calls"),
        ("cache,model", "cache can be shown by day, hour, route, service"),
        ("request,day", "request can be shown as it is only"),
        ("cache,feedback", "asks for 2 things at once"),
        (",", "asks for 0 things"),
    ],
)
def test_what_there_is_no_report_by_is_refused_with_what_there_is(database: str, by: str, problem: str) -> None:
    result = CliRunner().invoke(app, ["report", "--db", database, "--by", by], env={"COLUMNS": "300"})
    assert result.exit_code == 2
    assert problem in result.output


def test_piped_tables_are_plain_and_leave_nothing_out(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    output = CliRunner().invoke(app, ["report", "--db", database]).output
    assert "p99 ms" in output
    assert "unpriced" in output
    assert "\x1b" not in output


def test_help_shows_examples() -> None:
    assert "--by degraded" in run("--help")
