"""Every panel has data: each of its queries runs against the real Prometheus and PostgreSQL that load has filled."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
import sqlalchemy as sa
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.base import conventions
from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.db.database import connect
from tests.backends import programs
from tests.backends.process import Process, free_port
from tests.deploy import running_gateway as running
from tests.deploy.test_dashboard import BOARDS, panels
from tests.exporters.gateway_program import Gateway
from tests.exporters.test_anomalies import row
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(240)
#: What Grafana puts in place of its macros and variables.
PROMQL: Final = {"$__rate_interval": "30s", "$service": ".*"}
SQL: Final = {
    "$__timeFilter(ts)": "ts > now() - interval '100 years'",
    "$__timeFilter(r.ts)": "r.ts > now() - interval '100 years'",
    "$__timeFilter(created_at)": "created_at > now() - interval '100 years'",
    "${of:sqlstring}": "'shop','it''s','(none)'",
}
#: An app that shows its own metrics: calls of its endpoints that go well, and others.
APP: Final = """
import sys, time
import otel_telemetry
otel_telemetry.configure(service_name="web", exporter="request_log", prometheus={"port": int(sys.argv[1])})
import fastapi
from fastapi.testclient import TestClient

app = fastapi.FastAPI()

@app.get("/items/{number}")
def item(number: int):
    if number == 2:
        raise fastapi.HTTPException(503)
    return number

with TestClient(app) as client:
    while True:
        for path in ("/items/1", "/items/2", "/items/x"):
            client.get(path)
        time.sleep(0.3)
"""


def load(seed: int) -> bytes:
    """Return requests of which some are answered by caches and some belong to a user, a session and a prompt."""
    request = ExportTraceServiceRequest.FromString(running.requests(20, seed))
    for number, span in enumerate(request.resource_spans[0].scope_spans[0].spans):
        if any(attribute.key == "gen_ai.operation.name" for attribute in span.attributes):
            running.attribute(span, "gen_ai.usage.cache_read.input_tokens", 1)
            continue
        running.attribute(span, "request_log.user_id", f"user-{number % 3}")
        running.attribute(span, "request_log.session_id", f"session-{number % 5}")
        running.attribute(span, "request_log.prompt_version", f"v{number % 2}")
        hit = span.attributes.add(key="request_log.cache_hit").value
        hit.bool_value = number % 2 == 0
        running.attribute(span, "request_log.cache_saved_usd", "0.002")
    return request.SerializeToString()


def unfit() -> bytes:
    """Return a log record that no table takes: feedback without a verdict."""
    body = ExportLogsServiceRequest()
    record = (
        body.resource_logs.add()
        .scope_logs.add()
        .log_records.add(event_name=conventions.FEEDBACK_EVENT, time_unix_nano=running.START)
    )
    running.attribute(record, "note", "neither up nor down")
    return body.SerializeToString()


def crowd(url: str) -> None:
    """Write two weeks of a service's requests, of which the last three hours have four times as many as others."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    engine = connect(url)
    with engine.begin() as connection:
        connection.execute(sa.insert(schema.request_log), [
            row(now - timedelta(hours=back, seconds=-number), f"crowd-{back}-{number}", "crowd")
            for back in range(2 * 168, 0, -1)
            for number in range(100 if back <= 3 else 25)
        ])  # fmt: skip
    engine.dispose()


def operate(folder: Path, rows: dict[str, Any], *command: str) -> None:
    """Run a command of an operator with the gateway's settings."""
    environment = {**os.environ, "OTEL_TELEMETRY_REQUEST_LOG": json.dumps(rows)}
    whole = [sys.executable, "-m", "otel_telemetry.cli", *command]
    subprocess.run(whole, cwd=folder, env=environment, check=True, capture_output=True, timeout=120)


class Traffic:
    """What people and programs do to a gateway: each step once more of everything."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._step = 0

    def step(self) -> None:
        self._step += 1
        self._gateway.send(load(self._step))
        self._gateway.send(unfit(), "logs")
        with pytest.raises(urllib.error.HTTPError):
            self._gateway.send(b"no protobuf")
        self._post("/cache/set", {"key": "a", "data": 1, "ttl": 60})
        for key in ("a", "none"):
            self._gateway.get(f"/cache/get?key={key}")
        self._post("/feedback", {"verdict": "down", "model": "gpt-4o"})
        run = {"run_id": f"run-{self._step}", "application": "it's"}
        self._post("/events", [{"type": "run:start", "data": {"name": "index"}, **run}, {"type": "custom", **run}])

    def _post(self, path: str, body: Any) -> None:
        head = {"content-type": "application/json"}
        asked = urllib.request.Request(self._gateway.url + path, json.dumps(body).encode(), head)
        urllib.request.urlopen(asked, timeout=60).close()


class Prometheus(Process):
    """A Prometheus that scrapes these ports every second, each under the name of its job."""

    def __init__(self, folder: Path, jobs: dict[str, int], *rules: Path) -> None:
        where = f"127.0.0.1:{free_port()}"
        self._url = f"http://{where}"
        found = [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in jobs.items()
        ]
        every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config = {"global": every, "rule_files": [str(file) for file in rules], "scrape_configs": found}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        command: list[str | Path] = [
            programs.program("prometheus", "prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={where}",
            "--enable-feature=exemplar-storage",
        ]
        super().__init__(command, folder / "prometheus", f"{self._url}/-/ready")

    def ask(self, kind: str, **asked: Any) -> Any:
        url = f"{self._url}/api/v1/{kind}?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            return json.load(answer)["data"]


@pytest.fixture(scope="module", name="database")
def database_fixture(postgres: Any) -> str:
    url: str = postgres.database()
    return url


@pytest.fixture(scope="module", name="filled")
def filled_fixture(
    tmp_path_factory: pytest.TempPathFactory, database: str, shared_redis: Any
) -> Iterator[tuple[Prometheus, Traffic]]:
    folder = tmp_path_factory.mktemp("panels")
    rows = {"url": database, "cost_budget_per_day_usd": 5, "audit": {"enabled": True, "checkpoint_seconds": 1}}
    crowd(database)
    for command in (("audit", "init"), ("trim", "--older-than", "36500d")):
        operate(folder, rows, *command)
    gateway = Gateway(
        folder,
        request_log=rows,
        anomalies={"enabled": True},
        cache={"url": shared_redis.url},
        gateway={"workers": 1},
    )
    port = free_port()
    with (folder / "app.log").open("w") as log:
        app = subprocess.Popen([sys.executable, "-c", APP, str(port)], cwd=folder, stderr=log, stdout=log)
    prometheus = Prometheus(folder, {"gateway": gateway.port, "apps": port})
    prometheus.start()
    yield prometheus, Traffic(gateway)
    prometheus.close()
    app.kill()
    app.wait(10)
    gateway.stop()


def filled_in(query: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        query = query.replace(name, value)
    return query


def test_every_panel_s_queries_have_data_in_prometheus(filled: tuple[Prometheus, Traffic]) -> None:
    prometheus, traffic = filled
    asked = [target["expr"] for panel in panels() for target in panel["targets"] if "expr" in target]
    assert len(asked) > 30
    left = [filled_in(each, PROMQL) for each in asked]

    def all_have_data() -> bool:
        traffic.step()
        left[:] = [each for each in left if not prometheus.ask("query", query=each)["result"]]
        return not left

    try:
        eventually(all_have_data, seconds=90)
    except AssertionError:
        assert left == []


def test_an_exemplar_in_prometheus_leads_to_a_trace_that_is_in_the_rows(
    filled: tuple[Prometheus, Traffic], database: str
) -> None:
    prometheus, traffic = filled
    name = "otel_telemetry_request_duration_seconds_bucket"

    def found() -> Any:
        traffic.step()
        return prometheus.ask("query_exemplars", query=name, start=0, end=4_000_000_000)

    trace = eventually(found)[0]["exemplars"][0]["labels"]["trace_id"]
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT count(*) FROM request_log WHERE trace_id = %s", (trace,)).fetchone()
    assert row == (1,)


def test_every_panel_s_queries_have_data_in_postgresql(filled: tuple[Prometheus, Traffic], database: str) -> None:
    asked = {
        panel["title"]: filled_in(target["rawSql"], SQL)
        for panel in panels()
        for target in panel["targets"]
        if "rawSql" in target
    }
    variables = [
        filled_in(each["query"], SQL)
        for board in BOARDS
        for each in json.loads(board.read_text())["templating"]["list"]
        if each["type"] == "query" and isinstance(each["query"], str)
    ]
    assert len(asked) > 10
    filled[1].step()
    left = dict(asked)
    with psycopg.connect(database, autocommit=True) as connection:

        def all_have_data() -> bool:
            for title, query in list(left.items()):
                if connection.execute(query.encode()).fetchall():
                    del left[title]
            return not left

        try:
            eventually(all_have_data)
        except AssertionError:
            assert left == {}
        for query in variables:
            assert ("it's",) in connection.execute(query.encode()).fetchall()
        saved = connection.execute(asked["What caches saved"].encode())
        assert saved.description is not None
        names = [column.name for column in saved.description]
        for row in saved.fetchall():
            values = dict(zip(names, row, strict=True))
            assert values["saved_usd"] > 0
            assert values["prompt_cache_saved_usd"] is None or values["prompt_cache_saved_usd"] >= 0


def test_links_of_rows_name_columns_that_their_query_has() -> None:
    linked = 0
    for panel in panels():
        for override in panel["fieldConfig"]["overrides"]:
            for link in (value for each in override["properties"] if each["id"] == "links" for value in each["value"]):
                column = link["url"].partition("${__data.fields.")[2].partition("}")[0]
                sql = panel["targets"][0]["rawSql"].partition(" FROM ")[0]
                assert column in sql.replace(",", " ").split(), (panel["title"], link["title"])
                assert override["matcher"]["options"] in sql.replace(",", " ").split()
                linked += 1
    assert linked >= 9


def test_the_boards_are_as_grafana_s_own_sdk_writes_them() -> None:
    for board in BOARDS:
        given = json.loads(board.read_text())
        assert json.loads(JSONEncoder().encode(Dashboard.from_json(given))) == given
