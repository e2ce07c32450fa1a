"""The Collector's files: the real Collector takes them, they keep raw data off every exporter but the gateway's."""

import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from otel_telemetry import settings
from tests.backends import builds, observability

LOOP = observability.COLLECTOR_CONFIG
CLICKHOUSE = Path(__file__).parents[2] / "deploy" / "collector" / "clickhouse.yaml"
FILES = [LOOP, observability.GATEWAY_FIRST_CONFIG]


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


@pytest.mark.parametrize(
    ("file", "recipe"),
    [*((file, builds.COLLECTOR) for file in FILES), (CLICKHOUSE, builds.CLICKHOUSE_COLLECTOR)],
    ids=lambda each: each.name,
)
def test_the_real_collector_finds_the_file_valid(file, recipe, tmp_path):
    command = [builds.built(recipe), "validate", "--config", file]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_what_comes_from_apps_goes_to_the_gateway_and_nowhere_else():
    pipelines = read(LOOP)["service"]["pipelines"]
    raw = {name: line["exporters"] for name, line in pipelines.items() if "otlp" in line["receivers"]}
    assert raw == {signal: ["otlp_grpc/gateway"] for signal in ("traces", "logs", "metrics")}
    others = [line for name, line in pipelines.items() if name not in raw]
    assert all(line["receivers"] == ["otlp/clean"] for line in others)
    assert not any("otlp_grpc/gateway" in line["exporters"] for line in others), "a circle"


def test_what_is_not_redacted_yet_is_kept_on_no_disk():
    gateway = read(LOOP)["exporters"]["otlp_grpc/gateway"]
    assert "storage" not in gateway["sending_queue"]
    assert gateway["retry_on_failure"]["max_elapsed_time"] == "0s"


def test_both_shapes_do_the_same_with_clean_data():
    loop, first = read(LOOP), read(observability.GATEWAY_FIRST_CONFIG)
    del loop["exporters"]["otlp_grpc/gateway"], loop["receivers"]["otlp"]
    assert loop["exporters"] == first["exporters"]
    assert loop["receivers"] == first["receivers"]
    clean = {name.removesuffix("/clean"): line for name, line in loop["service"]["pipelines"].items() if "/" in name}
    assert clean == first["service"]["pipelines"]
    assert loop["extensions"] == first["extensions"]


def test_the_gateway_forwards_to_where_the_file_of_clickhouse_listens(monkeypatch):
    page = (CLICKHOUSE.parents[2] / "docs" / "scale.md").read_text()
    for name, value in re.findall(r"^export (OTEL_TELEMETRY_FORWARD__CLICKHOUSE__\w+)=(.*)$", page, re.MULTILINE):
        monkeypatch.setenv(name, value.strip("'"))
    forward = settings.load().forward["clickhouse"]
    file = read(CLICKHOUSE)
    listens = file["receivers"]["otlp/clean"]["protocols"]["grpc"]["endpoint"]
    assert listens.endswith(f"{urlsplit(str(forward.endpoint)).port}}}")
    assert set(forward.signals) == set(file["service"]["pipelines"])
