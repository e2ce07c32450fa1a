"""docs/switching.md: each line of its tables is true of a gateway and of imported rows, and none is missing."""

import json
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
from otel_telemetry.exporters.request_log.db import database, schema
from otel_telemetry.gateway.receive.auth import EVENT_PATHS, HEALTH_PATHS
from otel_telemetry.instrument.cache_measures import CacheMeasures
from otel_telemetry.older import bot, chronicle, module
from tests.exporters.gateway_program import Gateway
from tests.older import databases
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "switching.md").read_text(encoding="utf-8")
SETTINGS = {name for name, _ in settings.describe()}
NOT_ON_THE_PAGE = {"DATABASE_URL", "HOST", "PORT"}
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
    assert known.get(old) == (None if old in NOT_ON_THE_PAGE else setting)


def test_every_variable_that_is_told_of_is_on_the_page():
    assert {row[0] for row in lines("Variables")} == {each.name for each in older_variables.VARIABLES} | NOT_ON_THE_PAGE


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


def test_every_endpoint_of_the_older_systems_is_on_the_page():
    posts = ("/telemetry", "/feedback", "/log", "/cache/set", *EVENT_PATHS)
    reads = ("/cache/get?key=K", "/metrics", *HEALTH_PATHS)
    wanted = {f"POST {path}" for path in posts} | {f"GET {path}" for path in reads} | {"DELETE /cache?key=K"}
    assert {row[0] for row in lines("Endpoints")} == {row[2] for row in lines("Endpoints")} == wanted


VALUES: dict[str, Any] = {"x-chronicle-extra-meta": {"plan": "gold"}, "x-chronicle-step-index": 3}
SPAN = {
    "traceId": "5b8efff798038103d269b633813fc60c",
    "spanId": "eee19b7ec3c1b174",
    "name": "chat m",
    "kind": 3,
    "startTimeUnixNano": "1795963000000000000",
    "endTimeUnixNano": "1795963001000000000",
    "attributes": [
        {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
        {"key": "gen_ai.request.model", "value": {"stringValue": "m"}},
    ],
}


@pytest.fixture(name="rows_of_headers", scope="module")
def rows_of_headers_fixture(gateway) -> dict[str, dict[str, Any]]:
    """The rows of a model call and of an event that came with every header of the page, by their tables."""
    given = {row[0]: VALUES.get(row[0], f"value-{number}") for number, row in enumerate(lines("Headers"))}
    headers = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [SPAN]}]}]}
    httpx.post(f"{gateway.url}/v1/traces", json=body, headers=headers, timeout=30).raise_for_status()
    event = {"type": "headed", "time": "2026-11-29T10:00:00Z"}
    httpx.post(f"{gateway.url}/events", json=event, headers=headers, timeout=30).raise_for_status()
    engine = database.reader(f"sqlite:///{gateway.folder / 'new.db'}")

    def only(table: str, column: str, value: str) -> dict[str, Any] | None:
        known = schema.metadata.tables[table]
        with engine.connect() as connection:
            row = connection.execute(sa.select(known).where(known.c[column] == value)).mappings().first()
        return dict(row) if row else None

    found = {
        "given": given,
        "llm_call": eventually(lambda: only("llm_call", "trace_id", str(SPAN["traceId"]))),
        "workflow_event": eventually(lambda: only("workflow_event", "type", "headed")),
    }
    engine.dispose()
    return found


@pytest.mark.parametrize(("header", "column"), [(row[0], row[2]) for row in lines("Headers")])
def test_each_header_fills_its_column(rows_of_headers, header, column):
    table, _, name = column.partition(".")
    given, call, event = (rows_of_headers[each] for each in ("given", table, "workflow_event"))
    if name == "meta":
        assert call[name].items() >= given[header].items()
        assert event[name].items() >= given[header].items()
    elif name == "user_id":  # a pseudonym, or its place
        assert call[name]
        assert call[f"request_{name}"]
        assert given[header] not in {call[name], call[f"request_{name}"]}
    else:
        assert call[name] == given[header]
        assert name not in event or event[name] == given[header]
        assert call.get(f"request_{name}", given[header]) == given[header]


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
    exposition = generate_latest(registry).decode()
    of_apps.shutdown()
    for old, _, here, source in lines("Metrics"):
        text = exposition if source.startswith("apps") else shown
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


LATER = "2026-11-29T10:00:00"
FULL: dict[str, dict[str, list[dict[str, Any]]]] = {
    "module": {
        "ask_logs": [{**databases.ASKED, "ts": LATER}],
        "feedback": [{**databases.JUDGED, "answer": "the red one"}],
        "events": [dict(databases.SEEN)],
    },
    "chronicle": {
        "chronicle_events": [
            {
                **databases.CALLED,
                **{name: f"{name}-1" for name in ("project_id", "user_id", "workflow_id", "workflow_name")},
                **{name: f"{name}-1" for name in ("request_organization_id", "request_project_id")},
                "response_meta": {"load_duration": 5},
            },
            {**databases.CALLED, "id": databases.RUN, "chat_response": None, "error": {"status": 500}},
            {**databases.HAPPENED, "meta": {"plan": "gold"}},
        ],
        "chronicle_runs": [{**databases.RAN, "description": "d", "trace_id": "ab" * 16, "span_id": "cd" * 8}],
        "chronicle_steps": [
            {**databases.STEPPED, "parent_step": databases.EVENT, "input": {"n": 1}, "span_id": "ef" * 8}
        ],
    },
}
FLAGS = ("Escalated", "FallbackFired", "CacheHit", "CeilingHit", "PerUserCapHit", "OK")
BOT = {
    **dict.fromkeys(FLAGS, 1),
    **{name: f"{name}-1" for name in ("ID", "RoomID", "Sender", "Route", "RouterSource", "PromptVersion")},
    "ProviderRequestID": "p-1",
    "Degraded": "web_failed",
    "Err": "boom",
    "QueryText": "who?",
    "TS": LATER,
    "PromptTokens": 30,
    "CachedTokens": 10,
    "CompletionTokens": 5,
    "LatencyMS": 2100.5,
    "Cost": 0.5,
    "RouterConfidence": 0.5,
    "Models": '{"final": "large"}',
    "StageMS": '{"web": 1400}',
}


@pytest.fixture(name="imported")
def imported_fixture(tmp_path: Path, bring: Any, new: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database to which all older ones came over, each column of theirs filled."""
    monkeypatch.setenv("OTEL_TELEMETRY_REQUEST_LOG__STORE_TEXT", "true")
    bring(databases.module(tmp_path / "module.db", rows=FULL["module"]), new)
    bring(databases.bot(tmp_path / "bot.db", [BOT], ", ".join(BOT)), new)
    bring(databases.chronicle(tmp_path / "chronicle.db", FULL["chronicle"]), new)
    return new


def test_each_query_finds_what_came_over_as_it_is(imported):
    engine = database.reader(imported)
    for query, _ in lines("Queries"):
        with engine.connect() as connection:
            found = connection.execute(sa.text(query)).all()
        assert any(value not in {None, 0} for row in found for value in row if not isinstance(value, dict | list)), (
            query
        )
    engine.dispose()


def test_each_table_of_the_older_systems_has_a_query_on_the_page():
    asked = {name for query, _ in lines("Queries") for name in re.findall(r"FROM (\w+)", query)}
    assert asked == {row[0].partition(".")[0] for row in lines("Tables and columns")}


def test_each_column_holds_after_an_import_what_the_old_one_held(imported):
    """Under both names; the page says of `pricing_plan` that it is always NULL."""
    engine = database.reader(imported)
    with engine.connect() as connection:
        for old, system, here in lines("Tables and columns"):
            names = [here, *([old] if system != "chat bot" else [])]
            for table, column in (name.split(".") for name in names):
                count = connection.exec_driver_sql(f"SELECT count({column}) FROM {table}").scalar()  # noqa: S608
                assert bool(count) is (column != "pricing_plan"), (old, f"{table}.{column}")
    engine.dispose()


def test_every_alert_of_the_older_systems_is_on_the_page():
    assert [row[0] for row in lines("Alerts")] == [
        "TTFB p95 above 2 s for 5 minutes",
        "cache hit rate under 70 % for 10 minutes",
        "more than 5 % of requests failing",
        "personal data found after redaction",
        "spool older than 5 minutes",
        "dead letters growing",
        "cost per day above a budget",
    ]


def test_every_metric_and_every_redacted_type_of_the_older_service_is_on_the_page():
    names = ("ttfb_seconds", "tokens_per_second", "repair_rate_total", "drift_incidents_total", "cache_hit_rate")
    wanted = {f"telemetry_cache_{name}" for name in (*names, "cache_hits_total", "cache_misses_total")}
    assert {row[0] for row in lines("Metrics")} == wanted
    types = {"email", "phone", "ssn", "credit_card", "api_key", "ip_address", "user_id", "session_id"}
    assert {row[0] for row in lines("Redaction")} == types


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
