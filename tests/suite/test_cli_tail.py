"""`otel-telemetry tail` prints requests as they are committed, until Ctrl-C."""

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.suite import operated


@pytest.fixture(name="url", params=["sqlite", "postgres"])
def url_fixture(request: pytest.FixtureRequest, with_tables: Callable[[str], str]) -> str:
    return with_tables(request.param)


@pytest.fixture(name="tail")
def tail_fixture(url: str) -> Any:
    """Start `tail`, and kill it at the end if it still runs."""
    started = []

    def tail(*arguments: str) -> Any:
        environment = {**os.environ, "COLUMNS": "200"}
        started.append(operated.command("tail", "--db", url, *arguments, env=environment))
        return started[-1]

    yield tail
    for process in started:
        process.kill()
        process.communicate(timeout=30)


def test_rows_come_as_lines_of_json_and_ctrl_c_ends_it_quietly(url: str, tail: Callable[..., Any]) -> None:
    with operated.app(url) as handle:
        handle(request_log__route="before")
        process = tail("--json")
        assert json.loads(process.stdout.readline())["route"] == "before"
        handle(request_log__route="after")
        assert json.loads(process.stdout.readline())["route"] == "after"
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    problems = [line for line in errors.splitlines() if "the password in --db" not in line]
    assert (process.returncode, output, problems) == (0, "", [])


def test_only_what_was_asked_for_is_shown(url: str, tail: Callable[..., Any]) -> None:
    with operated.app(url) as handle:
        handle(request_log__route="direct")
        process = tail("--failed", "--lines", "5")
        handle(request_log__route="direct")
        handle(request_log__route="web", request_log__degraded="web_failed", request_log__ok=False)
        line = process.stdout.readline()
    assert line.split()[1:3] == ["web", "gpt-4o-mini"]
    assert "0.000210 USD  web_failed" in line
    assert "\x1b" not in line


def test_a_reader_that_has_enough_ends_it(url: str, tail: Callable[..., Any]) -> None:
    with operated.app(url) as handle:
        handle()
        process = tail("--json")
        process.stdout.readline()
        process.stdout.close()
        handle()
        assert process.wait(30) == 0
    process.stdout = None
