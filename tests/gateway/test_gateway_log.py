"""The log of `serve`: its format and level are settings, and SIGHUP changes them."""

import json
import logging
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.serve import logs
from otel_telemetry.gateway.serve.logs import RareFailures
from tests.gateway.served import Served
from tests.waiting import eventually

KEY = "ingest:a-key-0123456789"
FIELDS = {"time", "level", "logger", "message", "process", "pid"}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path, api_keys=[KEY])
    yield made
    made.close()


def test_json_is_one_object_a_line_from_the_first_to_the_last(served: Served) -> None:
    served.write(log_format="json")
    served.start()
    eventually(lambda: served.answers(KEY))
    served.close()
    lines = [json.loads(line) for line in served.logged.splitlines()]
    assert all(set(line) >= FIELDS for line in lines)
    assert {line["process"] for line in lines} >= {"supervisor", "receiver-1", "deliverer"}
    assert any("stopping" in line["message"] and line["level"] == "info" for line in lines)


def test_sighup_changes_level_and_format(served: Served) -> None:
    served.start()
    eventually(lambda: served.answers(KEY))
    eventually(lambda: "one delivering" in served.logged)
    served.write(log_format="json", log_level="warning")
    served.signal(signal.SIGHUP)
    eventually(lambda: '"level": "warning"' in served.logged)  # each new process warns that it has no secret
    served.close()
    changed = [json.loads(line) for line in served.logged.splitlines() if line.startswith("{")]
    assert {line["level"] for line in changed} <= {"warning", "error"}
    assert "stopping" not in served.logged


def test_an_unknown_level_is_refused_by_its_name(served: Served) -> None:
    served.write(log_level="loud")
    served.start()
    assert served.process is not None
    assert served.process.wait(30) == 2
    assert "gateway.log_level" in served.logged


def failed(message: str = "Exception in ASGI application") -> logging.LogRecord:
    try:
        raise ValueError
    except ValueError:
        return logging.LogRecord("uvicorn.error", logging.ERROR, __file__, 1, message, (), sys.exc_info())


def test_a_failure_that_a_sender_repeats_is_logged_once_a_minute() -> None:
    now = [100.0]
    rare = RareFailures(lambda: now[0])
    assert [rare.filter(failed()) for _ in range(3)] == [True, False, False]
    assert rare.filter(logging.LogRecord("uvicorn.error", logging.ERROR, __file__, 1, "no failure", (), None))
    now[0] += 61
    assert rare.filter(failed())


def test_the_gateway_filters_what_its_libraries_log_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs._State, "handler", None)
    before = logging.getLogger().level, logging.getLogger("otel_telemetry").level
    try:
        logs.use(GatewaySettings())
        logs.use(GatewaySettings())
        assert sum(isinstance(one, RareFailures) for one in logging.getLogger("uvicorn.error").filters) == 1
    finally:
        handler = logs._State.handler
        assert handler is not None
        logging.getLogger().removeHandler(handler)
        logging.getLogger().setLevel(before[0])
        logging.getLogger("otel_telemetry").setLevel(before[1])
        for name in ("uvicorn.error", "asyncio"):
            logging.getLogger(name).removeFilter(logs._State.rare)
