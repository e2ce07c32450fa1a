"""What alerts watch and the dashboard shows is there: in a real Prometheus, from real calls of a real app."""

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.backends.process import Process, free_port
from tests.deploy import test_dashboard
from tests.deploy.test_alert_rules import all_rules
from tests.e2e import sending, stack

pytestmark = pytest.mark.timeout(180)
#: A counter of what must not happen, by type: nobody counts it in a run where nothing goes wrong. And what is there
#: while an anomaly is open: see tests/deploy/test_dashboard_panels.py.
UNSEEN = {"otel_telemetry_leaks_total", "otel_telemetry_anomaly"}
#: What the app does not say of its requests, or its model server of calls; and nobody posts events.
UNSAID = ('degraded_reason!=""', 'type="cached"', "otel_telemetry_posted_total")


@pytest.fixture
def model_server(tmp_path: Path) -> Iterator[str]:
    """The URL of the demo's model server."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "uvicorn", "--factory", "examples.chat_app.model_server:create_app"]
    environment = {**os.environ, "MODEL_SERVER_JOURNAL": str(tmp_path / "journal"), "PYTHONPATH": str(Path.cwd())}
    server = Process([*command, "--port", url.rpartition(":")[2]], tmp_path / "model", f"{url}/v1/models", environment)
    server.start()
    yield url
    server.close()


def test_every_metric_that_an_alert_watches_is_in_prometheus(tmp_path, model_server):
    with stack.running("collector-first", tmp_path / "stack", f"sqlite:///{tmp_path / 'rows.db'}", "memory") as running:
        environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": running.endpoints["grpc"]}
        app = [sys.executable, sending.SOURCES / "python" / "llm_app.py", model_server]
        subprocess.run(app, env=environment, check=True, capture_output=True, timeout=60)
        asked = functools.partial(ask, running)
        for name in sorted(watched() - UNSEEN):
            assert asked(name), name

        def value(promql: str) -> float:
            return float(asked(promql)[0]["value"][1])

        calls = 'gen_ai_client_operation_duration_seconds_count{job="llm-app"'
        assert value(f"sum({calls}}})") == 2
        assert value(f'sum({calls}, error_type!=""}})') == 1
        assert value('sum(telemetry_cache_cache_hits_total{job="llm-app"})') == 1
        assert value('sum(telemetry_cache_cache_misses_total{job="llm-app"})') == 1
        assert value('telemetry_cache_ttfb_seconds_bucket{job="llm-app", le="+Inf"}') == 1
        shown = [each for each in test_dashboard.expressions() if not any(some in each for some in UNSAID)]
        there = {each for expression in shown for each in test_dashboard.names(expression) if now(running, each)}
        assert len(there) > 15
        shown = [each for each in shown if test_dashboard.names(each) <= there]
        end = time.monotonic() + 20  # a rate takes two scrapes
        while (empty := [each for each in shown if not now(running, each)]) and time.monotonic() < end:
            time.sleep(1)
        assert empty == []
        rules = json.loads(running.prometheus.rules())["data"]["groups"]
        health = {rule["name"]: rule["health"] for group in rules for rule in group["rules"]}
        assert "CostAboveBudget" in health  # it is evaluated every five minutes only
        assert {name for name, each in health.items() if each != "ok"} <= {"CostAboveBudget"}, health


def now(running: stack.Stack, promql: str) -> list[dict[str, Any]]:
    """Return the result of a query, as it is."""
    found: list[dict[str, Any]] = json.loads(running.prometheus.query(promql) or b"{}")["data"]["result"]
    return found


def ask(running: stack.Stack, promql: str) -> list[dict[str, Any]]:
    """Return the result of a query, once there is one."""

    def found(answer: bytes) -> list[dict[str, Any]] | None:
        return json.loads(answer)["data"]["result"] or None

    return running.ask(lambda: running.prometheus.query(promql), found)


def watched() -> set[str]:
    """Return the names of the metrics in all rules."""
    return {name for rule in all_rules() for name in test_dashboard.names(rule["expr"])}
