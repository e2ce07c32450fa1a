"""The alerts of the contract fire in a real Prometheus that scrapes a real gateway in trouble.

The rules are the shipped ones on a faster clock: each of their durations is a thirtieth.
"""

import http.server
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.backends import programs
from tests.backends.process import Process, free_port
from tests.deploy import running_gateway as running
from tests.deploy.test_alert_rules import RULES
from tests.exporters.gateway_program import Gateway
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(300)
FASTER: Final = 30
SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
OF_THE_CONTRACT: Final = {
    *("SlowFirstByte", "CacheHitRateLow", "RequestsFail", "PersonalDataAfterRedaction"),
    *("SpoolBehind", "DeadLettersGrow", "CostAboveBudget"),
}
#: An app that shows its metrics itself, and whose redactor sees no address: the check of what leaves does.
LEAKING: Final = """
import sys, time
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from otel_telemetry.exporters.prometheus.reader import PrometheusReader

metrics.set_meter_provider(MeterProvider([PrometheusReader("127.0.0.1", int(sys.argv[1]), "leaking")]))
from tests.processors.test_leak_check import PLANTED, RedactionSettings, OtlpRedactor, _Blind, spans
redactor = OtlpRedactor(_Blind(RedactionSettings()), leak_check_ratio=1)
while True:
    redactor.redact("traces", spans(PLANTED, "GET /"))
    time.sleep(0.5)
"""


class Refusing(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_error(400)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def faster(text: str) -> str:
    """Return an expression whose durations are shorter."""
    found = re.sub(r"\b(\d+)([smhd])\b", lambda d: f"{int(d[1]) * SECONDS[d[2]] // FASTER}s", text)
    return found.replace("_lag_seconds[4s]) > 300", f"_lag_seconds[4s]) > {300 // FASTER}")


@pytest.fixture(name="refusing")
def refusing_fixture() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(name="gateway")
def gateway_fixture(tmp_path: Path, refusing: str) -> Iterator[Gateway]:
    gateway = Gateway(
        tmp_path,
        request_log={"cost_budget_per_day_usd": 0.01},
        forward={
            "away": {"endpoint": "http://127.0.0.1:9"},
            "refuses": {"endpoint": refusing, "protocol": "http"},
        },
        gateway={"workers": 1},
    )
    yield gateway
    gateway.stop()


@pytest.fixture(name="leaking")
def leaking_fixture(tmp_path: Path) -> Iterator[int]:
    port = free_port()
    with (tmp_path / "leaking.log").open("w") as log:
        app = subprocess.Popen([sys.executable, "-c", LEAKING, str(port)], stderr=log)
    yield port
    app.kill()
    app.wait(10)


@pytest.fixture(name="alerts")
def alerts_fixture(tmp_path: Path, gateway: Gateway, leaking: int) -> Iterator["Alerts"]:
    groups = yaml.safe_load(RULES.read_text())
    for group in groups["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            rule |= {key: faster(rule[key]) for key in ("expr", "for") if key in rule}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(groups))
    jobs = {"gateway": gateway.port, "app": leaking}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for name, port in jobs.items()
        ],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    alerts = Alerts(tmp_path)
    alerts.start()
    yield alerts
    alerts.close()


class Alerts(Process):
    """A Prometheus with the rules."""

    def __init__(self, folder: Path) -> None:
        where = f"127.0.0.1:{free_port()}"
        self.url = f"http://{where}"
        command: list[str | Path] = [
            programs.program("prometheus", "prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={where}",
        ]
        super().__init__(command, folder / "prometheus", f"{self.url}/-/ready")

    def firing(self) -> set[str]:
        with urllib.request.urlopen(f"{self.url}/api/v1/alerts", timeout=10) as answer:
            alerts = yaml.safe_load(answer.read())["data"]["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}


def slow(body: bytes) -> bytes:
    """Return requests whose model calls take four seconds to begin an answer."""
    request = ExportTraceServiceRequest.FromString(body)
    for span in request.resource_spans[0].scope_spans[0].spans:
        for attribute in span.attributes:
            if attribute.key == "gen_ai.response.time_to_first_chunk":
                attribute.value.double_value = 4
    return request.SerializeToString()


def test_each_alert_of_the_contract_fires_and_none_before_there_is_a_reason(gateway: Gateway, alerts: Alerts) -> None:
    time.sleep(5)
    assert alerts.firing() <= {"PersonalDataAfterRedaction"}
    seeds = iter(range(10_000))

    def all_fire() -> bool:
        gateway.send(slow(running.requests(20, next(seeds))))
        for _ in range(5):
            gateway.get(f"/cache/get?key=none-{next(seeds)}")
        time.sleep(0.5)
        return alerts.firing() >= OF_THE_CONTRACT

    eventually(all_fire, seconds=180)
