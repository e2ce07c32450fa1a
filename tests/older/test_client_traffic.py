"""What the clients of older systems send, to a gateway as users run it and to an app with the router."""

import asyncio
import json
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from opentelemetry import _logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.util._once import Once
from starlette.requests import Request

import otel_telemetry
from otel_telemetry.exporters.request_log import RequestLogLogExporter
from tests.backends import process, programs
from tests.exporters.gateway_program import Gateway
from tests.waiting import eventually

#: An entry as the service's specification shows one.
SPECIFIED = {
    "event": "tool_execution",
    "payload": {
        "timestamp": "2025-11-03T08:15:00Z",
        "service": "pipelines",
        "tool": "generate",
        "args": {"model": "small", "prompt": "Hello there", "temperature": 0.5},
        "response": {"text": "Hello!", "tokens": 12, "latency_ms": 240},
        "metadata": {"user_id": "user77", "session_id": "sess77", "request_id": "req77"},
    },
}
PAGE = """<!doctype html><body><script>
const seen = (type, data) =>
  JSON.stringify({type, ts: new Date().toISOString(), sid: "s-1", ua: navigator.userAgent, data});
const post = (path, body, more) => fetch(path, {method: "POST", body, ...more})
  .then(async answer => `${answer.status} ${await answer.text()}`, String);
const json = {headers: {"content-type": "application/json"}};
async function run() {
  const answers = {};
  answers.view = await post("/telemetry", seen("page_view", {path: "/docs"}), json);
  answers.alive = await post("/telemetry", seen("byok_call", {ms: 12}), {...json, keepalive: true});
  answers.text = await post("/telemetry", seen("error", {message: "boom for jane@example.com"}));
  answers.beacon = navigator.sendBeacon("/telemetry", seen("beacon", {}));
  answers.feedback = await post("/feedback", JSON.stringify({verdict: "down", sid: "s-1", note: "bad"}), json);
  await new Promise(done => setTimeout(done, 500));
  await post("/answers", JSON.stringify(answers));
}
run();
</script>"""


@pytest.fixture(name="gateway", scope="module")
def gateway_fixture(tmp_path_factory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    running = Gateway(folder, request_log={"url": f"sqlite:///{folder / 'new.db'}"})
    yield running
    running.stop()


@pytest.fixture(name="url", scope="module")
def url_fixture(gateway) -> str:
    return f"sqlite:///{gateway.folder / 'new.db'}"


def test_the_specification_s_entry_is_logged(gateway):
    answer = httpx.post(f"{gateway.url}/log", json=SPECIFIED, timeout=30).json()
    assert answer["status"] == "logged"
    assert answer["event_id"].startswith("evt_")
    assert answer["redacted_fields"] == ["user_id", "session_id"]


def test_a_thousand_entries_at_once_are_a_thousand_rows(gateway, url, stored):
    entry = {"event": "burst", "payload": {"tool": "generate", "latency_ms": 250, "tokens": 120}}

    async def send() -> set[int]:
        async def one_after_the_other() -> set[int]:
            async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
                return {(await client.post("/log", json=entry)).status_code for _ in range(50)}

        return set().union(*await asyncio.gather(*(one_after_the_other() for _ in range(20))))

    assert asyncio.run(send()) == {200}

    def written() -> bool:
        return len(stored(url, "workflow_event")) >= 1000

    eventually(written)
    assert sum(row["type"] == "burst" for row in stored(url, "workflow_event")) == 1000


def test_a_cached_value_goes_with_its_time(gateway):
    entry: dict[str, Any] = {"key": "tool:search:q:tent", "data": {"results": ["a", "b"]}, "ttl": 2}
    assert httpx.post(f"{gateway.url}/cache/set", json=entry, timeout=30).json()["status"] == "cached"

    def look() -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{gateway.url}/cache/get", params={"key": entry["key"]}, timeout=30).json()
        return found

    found = look()
    assert found["hit"]
    assert found["data"]["results"] == ["a", "b"]
    assert {"timestamp", "ttl_remaining"} <= set(found["data"])
    eventually(lambda: not look()["hit"])


def test_one_event_and_a_list_end_as_chronicle_s_own_example_does(gateway, url, stored):
    """A run with a step and a step inside of it that fails, as chronicle's client tests tell one."""
    run, outer, inner = "run-own", "step-own-1", "step-own-2"
    first: list[dict[str, Any]] = [
        {"type": "run:start", "id": run, "name": "Test", "application": "a", "environment": "test", "tags": ["x"]},
        {"type": "step:start", "run_id": run, "step_id": outer, "data": {"type": "outer", "name": "Outer"}},
        {"type": "own_event", "run_id": run, "step_id": outer, "data": {"some": True}},
    ]
    later = [
        {"type": "step:state", "run_id": run, "step_id": outer, "data": {"state": "in progress"}},
        {
            "type": "step:start",
            "run_id": run,
            "step_id": inner,
            "data": {"type": "inner", "name": "Inner", "parent_step": outer},
        },
        {"type": "step:error", "run_id": run, "step_id": inner, "data": {"error": {"message": "failed"}}},
        {"type": "step:end", "run_id": run, "step_id": outer, "data": {"info": {"n": 3}}},
    ]
    ended = {"type": "run:update", "id": run, "status": "completed", "info": {"endValue": 3}}
    requests: list[list[dict[str, Any]]] = [*([event] for event in first), later, [ended]]
    for number, events in enumerate(requests):
        moment = f"2026-11-29T10:00:0{number}.000Z"
        timed = [{**event, "time": moment} for event in events]
        answer = httpx.post(f"{gateway.url}/events", json={"events": timed}, timeout=30)
        assert (answer.status_code, answer.json()["rejected"]) == (202, 0)
    eventually(lambda: [row["status"] for row in stored(url, "workflow_run") if row["id"] == run] == ["completed"])
    (row,) = (row for row in stored(url, "workflow_run") if row["id"] == run)
    assert (row["name"], row["tags"], row["info"]) == ("Test", ["x"], {"endValue": 3})
    steps = {row["id"]: row for row in stored(url, "workflow_step") if row["run_id"] == run}
    assert (steps[outer]["status"], steps[inner]["status"]) == ("finished", "error")
    assert steps[inner]["parent_step"] == outer
    (event,) = (row for row in stored(url, "workflow_event") if row["run_id"] == run)
    assert (event["type"], event["data"]) == ("own_event", {"some": True})


@pytest.fixture(name="app")
def app_fixture(monkeypatch, tmp_path) -> Iterator[tuple[str, dict[str, Any]]]:
    """An app that serves its page and the router's endpoints; what the page says comes to the mapping."""
    monkeypatch.setenv("OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET", "a secret of this test only")
    monkeypatch.setattr(_logs._internal, "_LOGGER_PROVIDER", None)
    monkeypatch.setattr(_logs._internal, "_LOGGER_PROVIDER_SET_ONCE", Once())
    provider = LoggerProvider()
    exporter = RequestLogLogExporter(url=f"sqlite:///{tmp_path / 'app.db'}")
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    _logs.set_logger_provider(provider)
    otel_telemetry.fastapi._parts.cache_clear()
    app = FastAPI()
    app.include_router(otel_telemetry.fastapi.router)
    recorded: dict[str, Any] = {}

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        return PAGE

    @app.post("/answers")
    async def record(request: Request) -> None:
        recorded.update(json.loads(await request.body()))

    port = process.free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started)
    yield f"http://127.0.0.1:{port}/", recorded
    server.should_exit = True
    thread.join(30)
    provider.shutdown()
    otel_telemetry.fastapi._parts.cache_clear()


def test_an_app_s_own_page_in_a_real_browser_is_heard(app, tmp_path, stored):
    address, recorded = app
    chromium = programs.program("chromium", "chromium")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
    browser = subprocess.Popen(
        [chromium, *options, f"--user-data-dir={tmp_path / 'browser'}", address],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: recorded)
    finally:
        browser.terminate()
        browser.wait(30)
    assert recorded["view"] == recorded["alive"] == recorded["text"] == '200 {"ok":true}'
    assert recorded["feedback"].startswith('200 {"ok":true,"id":')
    assert recorded["beacon"] is True
    rows = stored(f"sqlite:///{tmp_path / 'app.db'}", "browser_event")
    assert {row["type"] for row in rows} == {"page_view", "byok_call", "error", "beacon"}
    assert len({row["ip_hash"] for row in rows} | {row["session_id"] for row in rows}) == 2
    assert "jane@example.com" not in str(rows)
