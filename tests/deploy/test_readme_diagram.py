"""The README's diagram, and what is really there: ports, exporters, tables and what the Collector hands on to."""

import re
from pathlib import Path

import yaml

from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.settings import Settings

ROOT = Path(__file__).parents[2]
DIAGRAM = re.findall(r"^```\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[0]
COLLECTOR = yaml.safe_load((ROOT / "collector-config.yaml").read_text())


def test_the_gateway_s_ports_are_those_that_it_listens_on():
    assert re.findall(r":(\d+)", DIAGRAM) == [str(GatewaySettings().grpc_port), str(GatewaySettings().http_port)]


def test_what_comes_after_the_spool_are_the_exporters_that_settings_know():
    (line,) = (line for line in DIAGRAM.splitlines() if "forward: OTLP" in line)
    named = re.findall(r"request_log|forward|loki", line)
    assert named == ["request_log", "forward", "loki"]
    assert set(named) <= set(Settings.model_fields)


def test_the_tables_exist():
    named = re.findall(r"(\w+) \(one row per", DIAGRAM)
    assert named == ["request_log", "llm_call"]
    assert set(named) <= set(schema.metadata.tables)


def test_the_collector_hands_on_to_the_three_that_are_named_and_gets_everything_from_the_gateway():
    named = DIAGRAM.partition("a Collector ─▶ ")[2].partition(",")[0].lower().split(" · ")
    clean = [line for name, line in COLLECTOR["service"]["pipelines"].items() if name.endswith("/clean")]
    assert {exporter.rpartition("/")[2] for line in clean for exporter in line["exporters"]} == set(named)


def test_every_box_and_arrow_is_drawn_in_columns_that_meet():
    lines = DIAGRAM.splitlines()
    for number, line in enumerate(lines):
        for column, mark in enumerate(line):
            if mark == "▼":  # something comes from above
                above = lines[number - 1].ljust(column + 1)[column]
                assert above in "│┬┼┐┌" or above.isalnum(), (number, column, line)
            if mark in "┬┼" and "──" in line and number + 1 < len(lines):
                assert lines[number + 1].ljust(column + 1)[column] in "│▼ ", (number, column, line)
