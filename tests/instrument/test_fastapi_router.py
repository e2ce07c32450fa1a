"""Web pages of an app without a gateway: the router answers as the gateway does, and the rows are the same."""

import os
import subprocess
import sys
import tempfile

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from opentelemetry import _logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.util._once import Once

import otel_telemetry
from otel_telemetry.base import metrics
from otel_telemetry.exporters.request_log import RequestLogLogExporter
from otel_telemetry.exporters.request_log.db import database, schema
from tests.backends import process
from tests.waiting import eventually

SECRET = "a secret of this test only"
PAGE = "203.0.113.9"


@pytest.fixture(name="page")
def page_fixture(monkeypatch, tmp_path):
    """An app with the router, whose own log provider writes rows and redacts nothing."""
    monkeypatch.setenv("OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET", SECRET)
    monkeypatch.setenv("OTEL_TELEMETRY_GATEWAY__TELEMETRY_PER_MINUTE", "3")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(_logs._internal, "_LOGGER_PROVIDER", None)
    monkeypatch.setattr(_logs._internal, "_LOGGER_PROVIDER_SET_ONCE", Once())
    provider = LoggerProvider()
    exporter = RequestLogLogExporter(url=f"sqlite:///{tmp_path / 'app.db'}")
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    _logs.set_logger_provider(provider)
    otel_telemetry.fastapi._parts.cache_clear()
    app = FastAPI()
    app.include_router(otel_telemetry.fastapi.router)
    with TestClient(app, client=(PAGE, 5000)) as client:
        yield client
    provider.shutdown()
    otel_telemetry.fastapi._parts.cache_clear()


@pytest.fixture(name="rows")
def rows_fixture(tmp_path):
    def rows(table):
        engine = database.reader(f"sqlite:///{tmp_path / 'app.db'}")
        with engine.connect() as connection:
            return [dict(row) for row in connection.execute(schema.metadata.tables[table].select()).mappings()]

    return rows


def test_what_a_browser_tells_is_a_row_with_a_hashed_address(page, rows):
    event = {"type": "page_view", "ts": "2026-11-29T10:00:00Z", "sid": "s-1", "data": {"by": "jane@example.com"}}
    answer = page.post("/telemetry", json=event, headers={"user-agent": "Firefox"})
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    (row,) = rows("browser_event")
    assert (row["type"], row["user_agent"]) == ("page_view", "Firefox")
    assert row["data"] == {"by": "[REDACTED_EMAIL]", "ts": "2026-11-29T10:00:00Z"}
    assert len(row["ip_hash"]) == 12
    assert row["session_id"]
    assert row["session_id"] != "s-1"


def test_feedback_is_answered_with_the_id_of_its_row(page, rows):
    answer = page.post("/feedback", json={"verdict": "down", "request_id": "r-1", "note": "mail bob@example.com"})
    (row,) = rows("feedback")
    assert answer.json() == {"ok": True, "id": row["id"]}
    assert (row["verdict"], row["request_id"], row["note"]) == ("down", "r-1", "mail [REDACTED_EMAIL]")
    assert len(row["ip_hash"]) == 12


def test_a_key_makes_a_repetition_one_row(page, rows):
    for _ in range(2):
        page.post("/feedback", json={"verdict": "up"}, headers={"idempotency-key": "k"})
    assert len(rows("feedback")) == 1


def test_beacons_of_plain_text_are_taken(page, rows):
    answer = page.post("/telemetry", content=b'{"type": "beacon"}', headers={"content-type": "text/plain"})
    assert answer.json() == {"ok": True}
    assert len(rows("browser_event")) == 1


def test_a_client_that_tells_too_much_is_told_when_to_go_on(page):
    answers = [page.post("/telemetry", json={"type": "x"}) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert page.post("/feedback", json={"verdict": "up"}).status_code == 200


def test_a_client_s_limit_is_that_of_all_workers_of_the_app(tmp_path):
    """Of uvicorn, which starts each worker as a program of its own."""
    (tmp_path / "pages.py").write_text(
        "import otel_telemetry\n"
        "from fastapi import FastAPI\n"
        "otel_telemetry.configure(exporter='request_log', request_log={'url': 'sqlite:///app.db'})\n"
        "app = FastAPI()\n"
        "app.include_router(otel_telemetry.fastapi.router)\n"
        "@app.get('/pid')\n"
        "def pid():\n"
        "    import os\n"
        "    return os.getpid()\n"
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment = {**inherited, "TMPDIR": str(tmp_path), "OTEL_TELEMETRY_GATEWAY__TELEMETRY_PER_MINUTE": "10"}
    port = process.free_port()
    command = [sys.executable, "-m", "uvicorn", "pages:app", "--workers", "2", "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"

    def pid() -> int | None:
        try:
            return int(httpx.get(f"{url}/pid", timeout=30).text)
        except httpx.TransportError:
            return None

    workers: set[int] = set()

    def are_there() -> bool:
        assert server.poll() is None, (tmp_path / "log").read_text()
        workers.update(found for found in [pid()] if found)
        return len(workers) == 2

    try:
        eventually(are_there, seconds=120)
        sent = [httpx.post(f"{url}/telemetry", json={"type": "x"}, timeout=30).status_code for _ in range(25)]
    finally:
        server.terminate()
        server.wait(60)
    assert (sent.count(200), sent.count(429)) == (10, 15)
    engine = database.reader(f"sqlite:///{tmp_path / 'app.db'}")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM browser_event").scalar() == 10
    engine.dispose()


@pytest.mark.parametrize(
    ("path", "body", "http_status", "field"),
    [
        ("/feedback", b'{"verdict": "fine"}', 400, "verdict"),
        ("/telemetry", b'{"data": 1}', 400, "type"),
        ("/telemetry", b"no json", 400, ""),
        ("/telemetry", b'{"type": "' + b"x" * (1 << 20) + b'"}', 413, ""),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_field(page, path, body, http_status, field):
    answer = page.post(path, content=body)
    assert answer.status_code == http_status
    assert field in answer.json()["message"]


def test_a_fault_of_ours_is_counted_and_the_page_gets_its_answer(page, monkeypatch, rows):
    counted = []
    monkeypatch.setattr(metrics.instrumentation_errors, "add", lambda count, labels: counted.append(labels))
    page.post("/feedback", json={"verdict": "up"})
    redactor = type(otel_telemetry.fastapi._parts().redactor)
    monkeypatch.setattr(redactor, "item", lambda *_: 1 / 0)
    answer = page.post("/feedback", json={"verdict": "up"})
    assert answer.json()["ok"]
    assert len(counted) == 1
    assert len(rows("feedback")) == 1


def test_settings_that_cannot_be_used_record_nothing_and_break_no_page(page, monkeypatch, tmp_path):
    monkeypatch.setenv("OTEL_TELEMETRY_REDACTION__ENGINE", "none at all")
    otel_telemetry.fastapi._parts.cache_clear()
    assert page.post("/feedback", json={"verdict": "up"}).json()["ok"]
    assert not (tmp_path / "app.db").exists()


def test_the_package_alone_loads_neither_fastapi_nor_the_gateway():
    code = (
        "import sys, otel_telemetry\n"
        "assert not {'fastapi', 'starlette', 'otel_telemetry.gateway'} & set(sys.modules)\n"
        "otel_telemetry.fastapi.router\n"
        "assert 'fastapi' in sys.modules\n"
        "try:\n    otel_telemetry.nothing\nexcept AttributeError:\n    print('as it should be')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "as it should be"
