"""Hostile names of services, routes and models break no exposition, rule, panel or sentence: they are only names."""

import json
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.openmetrics import parser as openmetrics
from typer.testing import CliRunner

from otel_telemetry.cli import app
from otel_telemetry.exporters.request_log.db import database, schema
from tests.deploy import running_gateway as running
from tests.deploy.test_alert_rules import RULES, promtool
from tests.deploy.test_dashboard import panels
from tests.deploy.test_dashboard_panels import PROMQL, SQL, Prometheus, filled_in
from tests.exporters.gateway_program import Gateway
from tests.exporters.test_anomalies import row
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(240)
NAMES = (
    'quote " and \\ and \n newline',
    "nul \x00 byte",
    "right \u202e to left \u2066",
    "x" * 10_000,
    "{{ $labels.job }} {{ $value }} }}",
    "$__timeFilter(ts) ${of:sqlstring} $__rate_interval",
    "'; DROP TABLE request_log; --",
    '",le="0.1"} 1\nfake_total 9',
    "\x1b[31m red [bold]",
)


def hostile() -> bytes:
    """Return a request with a model call for every name, which is that of its service, its route and its model."""
    body = ExportTraceServiceRequest()
    for number, name in enumerate(NAMES):
        own = ExportTraceServiceRequest.FromString(running.requests(4, number))
        for attribute in own.resource_spans[0].resource.attributes:
            attribute.value.string_value = name
        for span in own.resource_spans[0].scope_spans[0].spans:
            for attribute in span.attributes:
                if attribute.key in {"request_log.route", "gen_ai.request.model"}:
                    attribute.value.string_value = name
        body.resource_spans.extend(own.resource_spans)
    return body.SerializeToString()


@pytest.fixture(scope="module", name="url")
def url_fixture(postgres: Any) -> str:
    url: str = postgres.database()
    return url


@pytest.fixture(scope="module", name="gateway")
def gateway_fixture(tmp_path_factory: pytest.TempPathFactory, url: str) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), request_log={"url": url}, gateway={"workers": 1})
    gateway.send(hostile())
    eventually(lambda: running.shown(gateway, "otel_telemetry_requests_total")[()] == 4 * len(NAMES))
    yield gateway
    gateway.stop()


def test_every_name_is_a_label_and_nothing_else_is_shown(gateway: Gateway) -> None:
    seen = running.shown(gateway, "otel_telemetry_requests_total", "service")
    assert len(seen) == len(NAMES)
    assert "fake_total" not in running.names(gateway)
    assert max(len(service) for (service,) in seen) < 1_000
    assert not any("\x00" in service for (service,) in seen)
    asked = urllib.request.Request(f"{gateway.url}/metrics", headers={"accept": "application/openmetrics-text"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        families = {family.name for family in openmetrics.text_string_to_metric_families(answer.read().decode())}
    assert "otel_telemetry_requests" in families


def test_prometheus_reads_them_and_evaluates_every_rule_and_panel(gateway: Gateway, tmp_path: Path) -> None:
    groups = [{**group, "interval": "1s"} for group in yaml.safe_load(RULES.read_text())["groups"]]
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump({"groups": groups}))
    prometheus = Prometheus(tmp_path, {"gateway": gateway.port}, tmp_path / "alerts.yml")
    prometheus.start()
    try:
        total = "sum(otel_telemetry_requests_total)"
        eventually(lambda: prometheus.ask("query", query=total)["result"])
        assert prometheus.ask("query", query=total)["result"][0]["value"][1] == str(4 * len(NAMES))

        def evaluated() -> list[Any]:
            rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
            return rules if all(rule["health"] != "unknown" for rule in rules) else []

        assert {rule["health"] for rule in eventually(evaluated, seconds=120)} == {"ok"}
        for panel in panels():
            for target in panel["targets"]:
                if "expr" in target:
                    prometheus.ask("query", query=filled_in(target["expr"], PROMQL))
    finally:
        prometheus.close()


def test_an_alert_shows_a_name_as_it_is(tmp_path: Path) -> None:
    names = [name for name in NAMES if "\x00" not in name and len(name) < 1_000]
    for number, name in enumerate(names):
        value = json.dumps(name, ensure_ascii=False).replace("\\u001b", "\x1b")
        series = f'otel_telemetry_anomaly{{job="g", service={value}, level="service", name="", measure="cost"}}'
        labels = {"severity": "warning", "job": "g", "service": name, "level": "service", "measure": "cost"}
        expected = {
            "exp_labels": labels,
            "exp_annotations": {
                "summary": f"cost of service  in {name} is not as it was at this hour",
                "description": "`otel-telemetry anomalies --since 24h` says by how much, and why as far as that is "
                "known.",
            },
        }
        test = {
            "interval": "1m",
            "input_series": [{"series": series, "values": "1x20"}],
            "alert_rule_test": [{"eval_time": "10m", "alertname": "AnomalyOpen", "exp_alerts": [expected]}],
        }
        file = tmp_path / f"{number}.yml"
        file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
        done = promtool("test", "rules", file)
        assert done.returncode == 0, (name, done.stdout + done.stderr)


def test_panels_of_rows_show_them_and_the_table_is_still_there(gateway: Gateway, url: str) -> None:
    assert gateway.answers()
    with psycopg.connect(url, autocommit=True) as connection:
        services = [each for (each,) in connection.execute("SELECT DISTINCT service FROM request_log").fetchall()]
        assert len(services) == len(NAMES)
        chosen = ",".join("'" + service.replace("'", "''") + "'" for service in services)
        for panel in panels():
            for target in panel["targets"]:
                if "rawSql" in target:
                    values = {**SQL, "${of:sqlstring}": chosen}
                    connection.execute(filled_in(target["rawSql"], values).encode())
        assert connection.execute("SELECT count(*) FROM request_log").fetchone() == (4 * len(NAMES),)


def test_a_sentence_about_them_is_one_line_that_steers_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'rows.db'}"
    now = datetime(2026, 11, 26, 12, tzinfo=UTC)
    engine = database.connect(url)
    with engine.begin() as connection:
        for index, name in enumerate(NAMES):
            connection.execute(sa.insert(schema.request_log), [
                {**row(now - timedelta(hours=back, seconds=-number), f"{index}-{back}-{number}", name), "route": name}
                for back in range(9 * 24, 0, -1)
                for number in range(100 if back <= 3 else 25)
            ])  # fmt: skip
    engine.dispose()
    asked = ["anomalies", "--db", url, "--at", now.isoformat(), "--since", "24h"]
    found = json.loads(CliRunner().invoke(app, [*asked, "--json"], catch_exceptions=False).stdout)
    assert len(found) == len(NAMES)
    assert {one["service"] for one in found} >= {NAMES[0], NAMES[4], NAMES[6]}
    for one in found:
        assert len(one["text"]) < 400
        assert not any(sign in one["text"] for sign in "\n\x00\x1b\u202e\u2066")
    shown = CliRunner().invoke(app, asked, catch_exceptions=False).stdout
    assert not any(sign in shown for sign in "\x00\x1b\u202e\u2066")
