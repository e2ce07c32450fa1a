"""docs/switching.md: each line of its tables names something that is there."""

import re
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import yaml
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest

from otel_telemetry import assemble, settings
from otel_telemetry.app import older_variables
from otel_telemetry.base import conventions
from otel_telemetry.exporters.request_log.db import database
from otel_telemetry.instrument.cache_measures import CacheMeasures
from otel_telemetry.older import bot, chronicle, module
from tests.exporters.gateway_program import Gateway

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "switching.md").read_text(encoding="utf-8")
SETTINGS = {name for name, _ in settings.describe()}
NOT_TOLD = {"DATABASE_URL", "HOST", "PORT"}
BODIES: dict[str, Any] = {
    "/telemetry": {"type": "page_view"},
    "/feedback": {"verdict": "up"},
    "/log": {"event": "policy_violation", "payload": {}},
    "/cache/set": {"key": "K", "data": {"a": 1}, "ttl": 60},
    **{path: {"type": "approval"} for path in ("/event", "/events", "/v1/event", "/v1/events")},
}


def lines(title: str) -> list[list[str]]:
    """Return the cells of each line of a part's table; what stands in code there, without its marks."""
    part = TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = [line for line in part.splitlines() if line.startswith("|")][2:]
    assert rows, title
    return [[re.sub(r"^`(.*)`$", r"\1", cell.strip()) for cell in row.strip("|").split(" | ")] for row in rows]


@pytest.fixture(name="columns", scope="module")
def columns_fixture(tmp_path_factory) -> dict[str, set[str]]:
    """The columns of each table and view of a new database."""
    path = tmp_path_factory.mktemp("switching") / "new.db"
    database.connect(f"sqlite:///{path}").dispose()
    connection = sqlite3.connect(path)
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
    found = {name: {row[1] for row in connection.execute(f"PRAGMA table_info({name})")} for name in names}
    connection.close()
    return found


@pytest.mark.parametrize(("old", "setting"), [(row[0], row[2]) for row in lines("Variables")])
def test_each_variable_is_known_and_its_setting_is_there(old, setting):
    assert setting in SETTINGS
    known = {each.name: each.setting for each in older_variables.VARIABLES}
    assert known.get(old) == (None if old in NOT_TOLD else setting)


def test_every_variable_that_is_told_of_is_on_the_page():
    assert {row[0] for row in lines("Variables")} == {each.name for each in older_variables.VARIABLES} | NOT_TOLD


@pytest.mark.parametrize(("old", "used"), [(row[0], row[3].startswith("yes")) for row in lines("Variables")])
def test_each_variable_is_used_where_the_page_says_so(old, used):
    readers = {each.name: each.read for each in older_variables.VARIABLES}
    assert (readers.get(old) is not None) == used


@pytest.fixture(name="gateway", scope="module")
def gateway_fixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    running = Gateway(folder, request_log={"url": f"sqlite:///{folder / 'new.db'}"})
    yield running
    running.stop()


@pytest.mark.parametrize("endpoint", [row[2] for row in lines("Endpoints")])
def test_each_endpoint_answers(gateway, endpoint):
    method, path = endpoint.split()
    body = {} if path not in BODIES else {"json": BODIES[path]}
    answer = httpx.request(method, gateway.url + path, timeout=30, **body)
    assert answer.status_code in {200, 202}


@pytest.mark.parametrize(("header", "column"), [(row[0], row[2]) for row in lines("Headers")])
def test_each_header_fills_its_column(columns, header, column):
    table, _, name = column.partition(".")
    assert conventions.METADATA_HEADERS[header] == name
    assert name in columns[table] | {"application", "environment"}


def test_every_header_is_on_the_page():
    assert {row[0] for row in lines("Headers")} == set(conventions.METADATA_HEADERS)


def test_each_metric_is_shown(gateway):
    answered = {"text": "a", "tokens": 30, "latency_ms": 900, "ttfb_ms": 200}
    sent: list[tuple[str, dict[str, Any]]] = [
        ("policy_violation", {}),
        ("response_generation", {"response": answered, "repairs": 1}),
    ]
    for event, payload in sent:
        httpx.post(f"{gateway.url}/log", json={"event": event, "payload": payload}, timeout=30)
    httpx.get(f"{gateway.url}/cache/get?key=nothing", timeout=30)
    shown = httpx.get(f"{gateway.url}/metrics", timeout=30).text
    registry = CollectorRegistry()
    of_apps = MeterProvider([PrometheusMetricReader(registry=registry)])
    CacheMeasures(of_apps.get_meter("app")).repaired("json", 1)
    told_by_apps = generate_latest(registry).decode()
    of_apps.shutdown()
    for old, _, here, source in lines("Metrics"):
        text = told_by_apps if source.startswith("apps") else shown
        assert old == here
        assert re.search(rf"^{here}(_bucket)?[{{ ]", text, re.MULTILINE), here


@pytest.mark.parametrize(("old", "system", "here"), lines("Tables and columns"))
def test_each_column_is_there_under_both_names(columns, old, system, here):
    table, _, column = here.partition(".")
    assert column in columns[table]
    old_table, _, old_column = old.partition(".")
    if system == "chat bot":
        assert bot._column(old_column) == column
    else:
        assert old_column in (module.COLUMNS | chronicle.COLUMNS)[old_table]


def test_every_column_that_an_import_reads_is_on_the_page():
    shown = {row[0] for row in lines("Tables and columns")}
    read = {f"{table}.{name}" for table, names in (module.COLUMNS | chronicle.COLUMNS).items() for name in names}
    assert read <= shown


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_each_query_runs_as_it_is(tmp_path, request, kind):
    url = f"sqlite:///{tmp_path / 'new.db'}" if kind == "sqlite" else request.getfixturevalue("postgres").database()
    engine = database.connect(url)
    for query, _ in lines("Queries"):
        with engine.connect() as connection:
            assert connection.execute(sa.text(query)).keys()
    engine.dispose()


@pytest.mark.parametrize("alert", [row[1] for row in lines("Alerts")])
def test_each_alert_ships(alert):
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules" / "alerts.yml").read_text(encoding="utf-8"))
    assert alert in {rule.get("alert") for group in rules["groups"] for rule in group["rules"]}


@pytest.mark.parametrize(("kind", "example", "marker"), lines("Redaction"))
def test_each_type_is_shown_with_its_marker(gateway, kind, example, marker):
    answer = httpx.post(f"{gateway.url}/log", json={"event": "seen", "payload": {kind: example}}, timeout=30).json()
    assert answer["redacted_fields"] == [kind]
    clean = assemble.redactor_of(settings.load()).item(kind, example)
    assert clean == (kind, marker)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]+)\)", TEXT))))
def test_each_link_leads_somewhere(link):
    path, _, part = link.partition("#")
    text = (ROOT / "docs" / path).read_text(encoding="utf-8")
    titles = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    assert not part or part in titles
