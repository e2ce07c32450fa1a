"""OTEL_CONFIG_FILE: redaction stands in front of every exporter that the file makes; rows can be one of them."""

import hashlib
import hmac
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from otel_telemetry.commands import surroundings

BIN = Path(sys.executable).parent
PLANTED = "jane.roe@example.com"

FILE = """
file_format: "1.0"
resource:
  attributes:
    - name: service.name
      value: asker
    - name: owner
      value: jane.roe@example.com
tracer_provider:
  processors:
    - simple:
        exporter:
          console: {}
    - batch:
        schedule_delay: 30000
        exporter:
          request_log:
            url: ${ROWS}
            store_text: true
logger_provider:
  processors:
    - batch:
        exporter:
          console: {}
meter_provider:
  readers:
    - periodic:
        exporter:
          console: {}
"""

SCRIPT = """
import logging, sys
if "--configure" in sys.argv:
    import otel_telemetry
    otel_telemetry.configure()
import fastapi, fastapi.testclient, otel_telemetry
from opentelemetry import metrics
app = fastapi.FastAPI()
@app.get("/ask")
def ask(q: str):
    logging.getLogger("app").warning("asked by %s", q)
    metrics.get_meter("app").create_counter("asked").add(1, {"by": q})
    with otel_telemetry.request(route="direct", query_text=q):
        return "answer"
client = fastapi.testclient.TestClient(app, client=("10.0.0.1", 50000))
answer = client.get("/ask", params={"q": "jane.roe@example.com"}, headers={"x-forwarded-for": "203.0.113.9"})
print("answered", answer.status_code)
"""


def run(folder: Path, *command: str | Path, file: str = FILE, **more: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(SCRIPT)
    (folder / "otel.yaml").write_text(file)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    env = {
        **environment,
        "OTEL_CONFIG_FILE": str(folder / "otel.yaml"),
        "ROWS": f"sqlite:///{folder / 'rows.db'}",
        "OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET": "a secret of the tests",
        "OTEL_TELEMETRY_INSTRUMENT__TRUSTED_PROXIES": '["10.0.0.0/8"]',
        **more,
    }
    return subprocess.run([*command], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "command",
    [(BIN / "opentelemetry-instrument", sys.executable, "script.py"), (sys.executable, "script.py", "--configure")],
    ids=["opentelemetry-instrument", "configure()"],
)
def test_what_the_exporters_of_the_file_are_given_is_clean(tmp_path: Path, command: tuple[str | Path, ...]) -> None:
    done = run(tmp_path, *command)
    assert "answered 200" in done.stdout, done.stderr
    for signal in ("asked by [REDACTED_EMAIL]", '"name": "asked"', "GET /ask", '"owner": "[REDACTED_EMAIL]"'):
        assert signal in done.stdout
    assert PLANTED not in done.stdout  # the app's own console is its own affair
    assert "203.0.113.9" not in done.stdout
    connection = sqlite3.connect(tmp_path / "rows.db")
    rows = connection.execute("SELECT service, route, query_text, ip_hash IS NOT NULL FROM request_log").fetchall()
    connection.close()
    assert rows == [("asker", "direct", "[REDACTED_EMAIL]", 1)]
    assert not any(PLANTED.encode() in path.read_bytes() for path in tmp_path.glob("rows.db*"))


def test_an_instrumentation_that_the_file_starts_gets_what_only_code_can_give_it(tmp_path: Path) -> None:
    named = "instrumentation/development: {python: {fastapi: {excluded_urls: nothing}}}\n"
    done = run(tmp_path, BIN / "opentelemetry-instrument", sys.executable, "script.py", file=FILE + named)
    assert "answered 200" in done.stdout, done.stderr
    address = hmac.new(b"a secret of the tests", b"203.0.113.9", hashlib.sha256).hexdigest()[:12]
    assert f'"client.address": "{address}"' in done.stdout


def test_a_wrong_key_under_request_log_is_named_and_nothing_leaves(tmp_path: Path) -> None:
    file = FILE.replace("store_text: true", "store_texts: true")
    done = run(tmp_path, sys.executable, "script.py", "--configure", file=file)
    assert done.returncode == 1
    assert "request_log.store_texts" in done.stderr
    assert "did you mean request_log.store_text?" in done.stderr
    done = run(tmp_path, BIN / "opentelemetry-instrument", sys.executable, "script.py", file=file)
    assert done.stdout == "answered 200\n"
    assert "did you mean request_log.store_text?" in done.stderr
    assert not (tmp_path / "rows.db").exists()


def test_the_example_in_the_documentation_is_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "zero-code.md").read_text(encoding="utf-8")
    (tmp_path / "otel.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    monkeypatch.setenv("OTEL_CONFIG_FILE", str(tmp_path / "otel.yaml"))
    found = [(one.signal, one.exporter, one.where) for one in surroundings.destinations()]
    assert found == [("traces", "request_log", ""), ("traces", "otlp_grpc", "http://127.0.0.1:4317")]


def test_a_file_that_is_no_configuration_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, sys.executable, "script.py", "--configure", file="file_format: 1\nspans: yes\n")
    assert done.returncode == 1
    assert "ConfigurationError: OTEL_CONFIG_FILE" in done.stderr


def test_a_file_that_says_disabled_records_nothing(tmp_path: Path) -> None:
    command = (BIN / "opentelemetry-instrument", sys.executable, "script.py")
    done = run(tmp_path, *command, file=FILE + "disabled: true\n")
    assert done.stdout == "answered 200\n", done.stderr
    assert not (tmp_path / "rows.db").exists()
