"""Users' own figures through a real gateway: /metrics, the report and the tables say the same."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from tests.backends import programs
from tests.deploy import running_gateway as running
from tests.exporters.gateway_program import Gateway
from tests.waiting import eventually

ROUTE = {"route": {"path": "route", "most": 2}}
MODEL = {"model": {"path": "gen_ai.request.model", "values": ["gpt-4o", "gpt-4o-mini"]}}
KPI: dict[str, Any] = {
    "first_byte": {"source": "requests", "kind": "histogram", "value": "ttfb_ms", "buckets": [500, 2000], "unit": "ms"},
    "routes": {"source": "requests", "kind": "counter", "labels": ROUTE},
    "prompt_size": {"source": "calls", "kind": "counter", "value": "prompt_tokens", "unit": "tokens"},
    "asked": {"source": "spans", "kind": "counter", "where": {"gen_ai.operation.name": "chat"}, "labels": MODEL},
    "longest": {"source": "spans", "kind": "gauge", "value": "duration_ms"},
    "log_size": {"source": "logs", "kind": "counter", "value": "body.parts[0].size", "labels": {"from": {
        "path": "origin", "most": 5}}},
    "verdicts": {"source": "feedback", "kind": "counter", "labels": {"verdict": {"path": "verdict", "values": ["up"]}}},
    "clicks": {"source": "events", "kind": "counter", "value": "data.count"},
}  # fmt: skip
HOSTILE = 'a"b\\c\n{d="e"} [REDACTED] \u202e'


@pytest.fixture(name="url", params=["sqlite", "postgres"])
def url_fixture(request: pytest.FixtureRequest, empty_database: Callable[[str], str]) -> str:
    return empty_database(request.param)


@pytest.fixture(name="gateway")
def gateway_fixture(url: str, tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path, request_log={"url": url}, kpi=KPI, gateway={"workers": 1, "telemetry_per_minute": 0})
    yield gateway
    gateway.stop()


def logs() -> bytes:
    body = ExportLogsServiceRequest()
    records = body.resource_logs.add().scope_logs.add().log_records
    for number, size in enumerate((5, 7, -1)):
        record = records.add(time_unix_nano=running.START + number)
        record.body.string_value = json.dumps({"parts": [{"size": size}]})
        running.attribute(record, "origin", HOSTILE)
    return body.SerializeToString()


def report(url: str, *arguments: str) -> Any:
    command = [sys.executable, "-m", "otel_telemetry.cli", "report", "--json", "--db", url, *arguments]
    environment = {"OTEL_TELEMETRY_KPI": json.dumps(KPI), "PATH": "/usr/bin"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_metrics_report_and_tables_say_the_same(gateway: Gateway, url: str, tmp_path: Path) -> None:
    for seed in (1, 2, 1, 2):  # a batch that comes again counts once
        gateway.send(running.requests(30, seed))
        gateway.send(logs(), "logs")
    feedback = json.dumps({"verdict": "up", "trace_id": "ab" * 16}).encode()
    for path, body in (("feedback", feedback), ("event", b'{"type": "click", "data": {"count": 4}}')):
        running_post(gateway, path, body)
    eventually(lambda: not any(running.shown(gateway, "otel_telemetry_spool_lag_items", "exporter").values()))
    eventually(lambda: running.shown(gateway, "clicks_total")[()] == 4)

    assert running.shown(gateway, "first_byte_milliseconds_count")[()] == 60
    assert (
        running.shown(gateway, "first_byte_milliseconds_bucket", "le")["500.0",]
        == running.asked(url, "SELECT 'n', count(*) FROM request_log WHERE ttfb_ms <= 500")["n",]
    )
    routes = running.shown(gateway, "routes_total", "route")
    assert sum(routes.values()) == 60
    assert len(routes) == 3  # two, and other
    assert ("other",) in routes
    tokens = running.asked(url, "SELECT 'n', sum(prompt_tokens) FROM llm_call")["n",]
    assert running.shown(gateway, "prompt_size_total")[()] == tokens
    asked = running.shown(gateway, "asked_total", "model")
    assert sum(asked.values()) == 120
    assert {words for (words,) in asked} == {"gpt-4o", "gpt-4o-mini", "other"}
    assert list(running.shown(gateway, "log_size_total", "from").values()) == [12]
    assert running.shown(gateway, "otel_telemetry_kpi_skipped_total", "kpi", "reason")["log_size", "negative"] >= 1
    assert running.shown(gateway, "verdicts_total", "verdict")["up",] == 1

    found = report(url, "--kpi", "routes")
    assert sum(row["routes"] for row in found) == 60
    assert report(url, "--kpi", "prompt_size,first_byte", "--by", "day")[0]["prompt_size"] == tokens
    assert {row["model"]: row["asked"] for row in report(url, "--kpi", "asked")}.keys() >= {"house-model-7b"}
    assert report(url, "--kpi", "log_size")[0]["log_size"] == 12
    assert report(url, "--kpi", "longest")[0]["longest_max"] > 0

    page = gateway.get("/ui/?range=90d")
    assert "Figures of your own" in page
    assert "prompt_size" in page

    promtool = programs.program("promtool", "prometheus")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=gateway.get("/metrics"), text=True, capture_output=True, check=False
    )
    assert "error" not in checked.stderr.lower().replace("errors_total", ""), checked.stderr


def running_post(gateway: Gateway, path: str, body: bytes) -> None:
    import urllib.request

    asked = urllib.request.Request(f"{gateway.url}/{path}", body, {"content-type": "application/json"})
    urllib.request.urlopen(asked, timeout=60).close()
