"""Grafana's dashboard: it shows only what a running gateway really has, in words that Prometheus understands."""

import itertools
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from otel_telemetry.base import conventions, metrics
from tests.deploy import running_gateway as running
from tests.deploy.test_alert_rules import all_rules, promtool
from tests.exporters.gateway_program import Gateway
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"
FOLDER = PROVISIONING / "dashboards"
DOCS = ROOT / "docs" / "metrics.md"
BOARDS = sorted(FOLDER.glob("*.json"))
#: What Grafana puts in place of its variables.
VARIABLES = {"$__rate_interval": "5m", "$service": ".*"}


def in_prometheus(name: str, kind: str) -> set[str]:
    """Return what a metric of OpenTelemetry is called in Prometheus."""
    plain = name.replace(".", "_")
    return {"counter": {f"{plain}_total"}, "seconds": {f"{plain}_seconds_{part}" for part in ("bucket", "count")}}[kind]


#: Counters of what did not happen to the gateway of these tests.
UNSEEN = {"otel_telemetry_leaks_total": metrics.leaks}
#: What the apps' own instrumentation, Prometheus and the Collector count: tests/e2e sees them in a real Prometheus.
OTHERS = {
    *in_prometheus(conventions.OPERATION_DURATION_METRIC, "seconds"),
    *in_prometheus(conventions.TTFB_METRIC, "seconds"),
    *("up", "otelcol_exporter_queue_size", "otelcol_exporter_queue_capacity"),
    *in_prometheus("http.server.request.duration", "seconds"),
    # of gateways that check for anomalies: see test_dashboard_panels.py
    *("otel_telemetry_anomaly", "otel_telemetry_anomalies_open"),
    # of Redis, which this gateway has not: see test_dashboard_panels.py
    *(f"otel_telemetry_redis_{name}" for name in ("memory_bytes", "max_memory_bytes")),
    *(f"otel_telemetry_redis_{name}_keys_total" for name in ("evicted", "expired")),
}
#: Labels that Prometheus adds to what it reads, or makes.
ADDED = {"job", "instance", "le"}
#: What only tells since when an installation is seen.
ANCHORS = {"otel_telemetry_cost_budget_per_day_usd", "otel_telemetry_leak_checks_total"}
FUNCTIONS = {"histogram_quantile", "label_replace", "last_over_time", "max_over_time", "min_over_time", "group_left"}
NAME = re.compile(r"\b(?:up|[a-z]+(?:_[a-z]+)+)\b")


def panels() -> list[dict[str, Any]]:
    return [panel for board in BOARDS for panel in json.loads(board.read_text())["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """Return what the panels ask, as Prometheus gets it."""
    asked = [target["expr"] for panel in panels() for target in panel["targets"] if "expr" in target]
    for variable, value in VARIABLES.items():
        asked = [expression.replace(variable, value) for expression in asked]
    return asked


def names(expression: str) -> set[str]:
    """Return the metrics of an expression."""
    plain = re.sub(r'"[^"]*"', "", expression)
    without_labels = re.sub(r"\b(?:by|on) \([^)]*\)|\{[^}]*\}", "", plain)
    return set(NAME.findall(without_labels)) - FUNCTIONS


@pytest.fixture(scope="module", name="samples")
def samples_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, set[str]]]:
    """The labels of all samples of a gateway that took, refused, let go, and looked into its cache."""
    folder = tmp_path_factory.mktemp("gateway")
    away = {"endpoint": "http://127.0.0.1:9"}
    gateway = Gateway(
        folder, request_log={"cost_budget_per_day_usd": 5}, forward={"away": away}, gateway={"workers": 1}
    )
    try:
        gateway.send(running.requests(30, 1, "mail to jane@example.com"))
        with pytest.raises(urllib.error.HTTPError):
            gateway.send(b"no protobuf")
        for key in ("a", "b"):
            body = json.dumps({"key": "a", "data": {"x": 1}, "ttl": 60}).encode()
            head = {"content-type": "application/json"}
            urllib.request.urlopen(urllib.request.Request(f"{gateway.url}/cache/set", body, head), timeout=60).close()
            gateway.get(f"/cache/get?key={key}")
        eventually(lambda: running.shown(gateway, "otel_telemetry_requests_total") == {(): 30})
        drop = [
            sys.executable,
            "-m",
            "otel_telemetry.cli",
            "spool",
            "drop",
            "--exporter",
            "forward.away",
            "--undelivered",
            "-y",
        ]
        subprocess.run(drop, cwd=folder, check=True, capture_output=True, timeout=60)
        families = text_string_to_metric_families(gateway.get("/metrics"))
        found: dict[str, set[str]] = {}
        for sample in itertools.chain.from_iterable(family.samples for family in families):
            found.setdefault(sample.name, set()).update(sample.labels)
        yield found
    finally:
        gateway.stop()


def test_a_running_gateway_has_every_metric_that_is_shown_or_watched(samples: dict[str, set[str]]) -> None:
    watched = {name for rule in all_rules() for name in names(rule["expr"])}
    shown = {name for expression in expressions() for name in names(expression)}
    assert shown
    assert watched | shown <= samples.keys() | UNSEEN.keys() | OTHERS
    assert not UNSEEN.keys() & samples.keys()


def test_each_metric_that_was_not_seen_is_one_that_the_suite_counts() -> None:
    for name, counter in UNSEEN.items():
        assert in_prometheus(str(getattr(counter, "_name")), "counter") == {name}  # noqa: B009 - its proxy's own


def test_each_metric_has_the_labels_by_which_it_is_summed_up(samples: dict[str, set[str]]) -> None:
    for expression in [*expressions(), *(rule["expr"] for rule in all_rules())]:
        by = {label for found in re.findall(r"by \(([^)]*)\)", expression) for label in found.split(", ")}
        selected = set(re.findall(r'[{ ](\w+)[!=]=?~?"', expression))
        for name in names(expression) & samples.keys():
            if name not in ANCHORS:
                assert by | selected <= samples[name] | ADDED, expression


def documented() -> dict[str, set[str]]:
    """Return the labels of each metric as docs/metrics.md tells them: of all of a line, or of each with `;` between."""
    found: dict[str, set[str]] = {}
    given = ""
    for named, labels in re.findall(r"^\| (`otel_telemetry_.*?) \| (.*?) \| ", DOCS.read_text(), re.MULTILINE):
        given = given if labels == "the same" else labels
        words = re.findall(r"`(\w+)`", named)
        each = given.split("; ") if "; " in given else [given] * len(words)
        found |= {word: set(filter(None, one.split(", "))) for word, one in zip(words, each, strict=True)}
    return found


def test_docs_tell_the_labels_that_each_metric_has(samples: dict[str, set[str]]) -> None:
    compared = 0
    for name, labels in documented().items():
        seen = samples.get(name, samples.get(f"{name}_bucket"))
        if seen is not None:
            assert seen - {"process", "le"} == labels, name
            compared += 1
    assert compared > len(documented()) / 2


def test_docs_name_every_metric_of_the_suite() -> None:
    text = "".join(page.read_text() for page in DOCS.parent.glob("*.md"))
    for own, instrument in vars(metrics).items():
        name = getattr(instrument, "name", getattr(instrument, "_name", None))
        if not own.startswith("_") and isinstance(name, str) and name.startswith("otel_telemetry."):
            assert f"_{name.partition('.')[2]}" in text, name


def test_each_expression_is_one_for_prometheus(tmp_path: Path) -> None:
    asked = [{"record": f"asked:{number}", "expr": each} for number, each in enumerate(expressions())]
    file = tmp_path / "asked.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": asked}]}))
    done = promtool("check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(asked)} rules found" in done.stdout


def test_each_panel_has_a_place_of_its_own_and_a_source_that_is_there() -> None:
    text = (PROVISIONING / "datasources").joinpath(next((PROVISIONING / "datasources").iterdir()).name).read_text()
    sources = {source["uid"] for source in yaml.safe_load(text)["datasources"]}
    for board in map(json.loads, (board.read_text() for board in BOARDS)):
        taken: set[tuple[int, int]] = set()
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        for panel in board["panels"]:
            where = panel["gridPos"]
            cells = {(where["x"] + x, where["y"] + y) for x in range(where["w"]) for y in range(where["h"])}
            assert not cells & taken, panel["title"]
            assert max(x for x, _ in cells) < 24
            taken |= cells
            assert {target["datasource"]["uid"] for target in panel.get("targets", ())} <= sources
            assert len({target["refId"] for target in panel.get("targets", ())}) == len(panel.get("targets", ()))


def test_grafana_finds_the_dashboards_where_the_compose_file_puts_them() -> None:
    (provider,) = yaml.safe_load((FOLDER / "dashboards.yaml").read_text())["providers"]
    mounted = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]["volumes"]
    assert f"./{PROVISIONING.relative_to(ROOT)}:/etc/grafana/provisioning:ro" in mounted
    assert provider["options"]["path"] == f"/etc/grafana/provisioning/{FOLDER.name}"
    assert BOARDS
