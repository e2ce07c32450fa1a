"""Zero code: an app under `opentelemetry-instrument`, or after `configure()`, writes honest, redacted rows."""

import hashlib
import hmac
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.backends.process import free_port
from tests.suite.another_distro import failing_instrumentation, other_distro

ROOT = Path(__file__).parents[2]
SECRET = "a secret of the tests"
PLANTED = "jane.roe@example.com"
BIN = Path(sys.executable).parent

APP = """
import os
import fastapi, httpx

app = fastapi.FastAPI()

@app.get("/ask")
async def ask(q: str):
    async with httpx.AsyncClient() as client:
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": q}]}
        answer = await client.post(os.environ["MODEL"] + "/v1/chat/completions", json=body)
    return answer.json()["choices"][0]["message"]["content"]
"""

SCRIPT = """
import os, sys
import httpx
if "--configure" in sys.argv:
    import otel_telemetry
    otel_telemetry.configure(service_name="script", exporter="request_log")
from opentelemetry import trace
with trace.get_tracer("script").start_as_current_span("work for jane.roe@example.com"):
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
    with httpx.Client() as client:
        print(client.post(os.environ["MODEL"] + "/v1/chat/completions", json=body).status_code)
"""

LOOK = """
import os, signal
from opentelemetry import metrics, trace
import httpx
print(
    type(trace.get_tracer_provider()).__name__,
    type(metrics.get_meter_provider()).__name__,
    signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
    "wrapped" if hasattr(httpx.Client.send, "__wrapped__") else "plain",
)
"""


def environment(folder: Path, model: str, **more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return {
        **inherited,
        "MODEL": model,
        "OTEL_TELEMETRY_REQUEST_LOG__URL": f"sqlite:///{folder / 'rows.db'}",
        "OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET": SECRET,
        "OTEL_TELEMETRY_INSTRUMENT__TRUSTED_PROXIES": '["127.0.0.1/32"]',
        "OTEL_TELEMETRY_INSTRUMENT__LLM_PROVIDERS": '{"127.0.0.1": "openai"}',
        **more,
    }


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(folder / "rows.db")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def run_script(
    folder: Path, model: str, *command: str, script: str = SCRIPT, **more: str
) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(script)
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(folder, model, **more),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture
def database(tmp_path: Path, tables: Path) -> None:
    """Make the tables beforehand: on a busy machine that takes longer than a script waits for its rows when it ends."""
    shutil.copy(tables, tmp_path / "rows.db")


def nothing_planted(folder: Path) -> bool:
    return not any(PLANTED.encode() in path.read_bytes() for path in folder.glob("rows.db*"))


def test_a_fastapi_app_under_opentelemetry_instrument_writes_a_row_a_request(tmp_path: Path, model: str) -> None:
    (tmp_path / "app.py").write_text(APP)
    port = free_port()
    command = [str(BIN / "opentelemetry-instrument"), str(BIN / "uvicorn"), "app:app", "--port", str(port)]
    env = environment(tmp_path, model, OTEL_TRACES_EXPORTER="request_log", OTEL_SERVICE_NAME="asker")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--log-level", "warning"], cwd=tmp_path, env=env, stdout=log, stderr=log)
    try:
        answer = ask(port, process)
    finally:
        process.terminate()
        assert process.wait(20) in (0, -15), (tmp_path / "log").read_text()
    assert answer.status_code == 200
    ip_hash = hmac.new(SECRET.encode(), b"203.0.113.9", hashlib.sha256).hexdigest()[:12]
    assert rows(
        tmp_path, "SELECT service, model, llm_calls, ok, ip_hash, prompt_tokens > 0, cost_usd > 0 FROM request_log"
    ) == [("asker", "gpt-4o-mini", 1, 1, ip_hash, 1, 1)]
    assert rows(tmp_path, "SELECT operation, provider, finish_reason FROM llm_call") == [("chat", "openai", "stop")]
    assert nothing_planted(tmp_path)
    assert "Traceback" not in (tmp_path / "log").read_text()


def ask(port: int, process: subprocess.Popen[bytes]) -> httpx.Response:
    """Ask the app once it is up."""
    for _ in range(200):
        try:
            return httpx.get(
                f"http://127.0.0.1:{port}/ask",
                params={"q": f"who is {PLANTED}?"},
                headers={"x-forwarded-for": "203.0.113.9"},
                timeout=20,
            )
        except httpx.ConnectError:
            assert process.poll() is None
            time.sleep(0.1)
    raise AssertionError("the app did not come up")


@pytest.mark.usefixtures("database")
def test_a_script_under_opentelemetry_instrument_flushes_its_row_at_exit(tmp_path: Path, model: str) -> None:
    command = [str(BIN / "opentelemetry-instrument"), sys.executable, "script.py"]
    done = run_script(tmp_path, model, *command, OTEL_TRACES_EXPORTER="request_log", OTEL_SERVICE_NAME="script")
    assert (done.returncode, done.stdout) == (0, "200\n"), done.stderr
    assert rows(tmp_path, "SELECT service, llm_calls FROM request_log") == [("script", 1)]
    assert nothing_planted(tmp_path)


@pytest.mark.usefixtures("database")
def test_a_script_that_calls_configure_writes_the_same_row(tmp_path: Path, model: str) -> None:
    done = run_script(tmp_path, model, sys.executable, "script.py", "--configure")
    assert (done.returncode, done.stdout) == (0, "200\n"), done.stderr
    assert rows(tmp_path, "SELECT service, llm_calls FROM request_log") == [("script", 1)]
    assert nothing_planted(tmp_path)


def test_configure_with_a_wrong_setting_stops_and_names_it(tmp_path: Path, model: str) -> None:
    done = run_script(
        tmp_path, model, sys.executable, "script.py", "--configure", OTEL_TELEMETRY_REQUEST_LOG__URI="sqlite://"
    )
    assert done.returncode == 1
    assert "did you mean OTEL_TELEMETRY_REQUEST_LOG__URL?" in done.stderr


def test_settings_given_to_configure_go_before_the_environment(tmp_path: Path, model: str) -> None:
    given = f"sqlite:///{tmp_path / 'given.db'}"
    script = SCRIPT.replace('exporter="request_log")', f'exporter="request_log", request_log={{"url": "{given}"}})')
    (tmp_path / "given.py").write_text(script)
    done = run_script(tmp_path, model, sys.executable, "given.py", "--configure")
    assert (done.returncode, done.stdout) == (0, "200\n"), done.stderr
    assert not (tmp_path / "rows.db").exists()
    (tmp_path / "given.db").rename(tmp_path / "rows.db")
    assert rows(tmp_path, "SELECT service, llm_calls FROM request_log") == [("script", 1)]


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ('exporter="request_logg"', "did you mean request_log?"),
        ('servicename="x"', "did you mean service_name?"),
    ],
)
def test_a_mistyped_argument_of_configure_is_named_with_the_right_one(tmp_path: Path, call: str, problem: str) -> None:
    code = f"import otel_telemetry; otel_telemetry.configure({call})"
    done = run_script(tmp_path, "", sys.executable, "-c", code)
    assert done.returncode == 1
    assert problem in done.stderr


def test_a_second_configure_changes_nothing_and_says_so(tmp_path: Path) -> None:
    code = "import otel_telemetry as o; o.configure(exporter='none'); o.configure(exporter='none')"
    done = run_script(tmp_path, "", sys.executable, "-c", code)
    assert done.returncode == 0
    assert done.stderr.count("changes nothing") == 1
    assert "already instrumented" not in done.stderr


@pytest.mark.parametrize(
    "set_up", ["", "logging.basicConfig(format='%(message)s')", "log.addHandler(logging.StreamHandler())"]
)
def test_warnings_of_an_app_are_printed_once_as_without_telemetry(tmp_path: Path, set_up: str) -> None:
    code = (
        f"import logging; log = logging.getLogger('app'); {set_up or 'pass'}; log.warning('look out'); log.info('no')"
    )
    (tmp_path / "warns.py").write_text(code)
    plain = run_script(tmp_path, "", sys.executable, "warns.py")
    command = [str(BIN / "opentelemetry-instrument"), sys.executable, "warns.py"]
    exporters = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "console"}
    instrumented = run_script(tmp_path, "", *command, **exporters)
    assert plain.stderr == "look out\n"
    assert instrumented.stderr == plain.stderr
    assert "look out" in instrumented.stdout  # the console exporter of logs has it too


def test_with_a_wrong_setting_an_instrumented_app_runs_on_and_nothing_leaves(tmp_path: Path, model: str) -> None:
    command = [str(BIN / "opentelemetry-instrument"), sys.executable, "script.py"]
    done = run_script(
        tmp_path, model, *command, OTEL_TRACES_EXPORTER="console", OTEL_TELEMETRY_REDACTION__ENGINE="pcre"
    )
    assert (done.returncode, done.stdout) == (0, "200\n")
    assert "redaction.engine" in done.stderr


def test_switched_off_nothing_is_recorded(tmp_path: Path, model: str) -> None:
    command = [str(BIN / "opentelemetry-instrument"), sys.executable, "script.py"]
    done = run_script(tmp_path, model, *command, OTEL_TRACES_EXPORTER="request_log", OTEL_TELEMETRY_ENABLED="false")
    assert (done.returncode, done.stdout) == (0, "200\n"), done.stderr
    assert not (tmp_path / "rows.db").exists()


@pytest.mark.parametrize("start", ["opentelemetry-instrument", "configure()"])
def test_with_the_sdk_disabled_nothing_at_all_is_done_whatever_the_settings(
    tmp_path: Path, model: str, start: str
) -> None:
    command = [sys.executable, "script.py", "--configure"]
    if start == "opentelemetry-instrument":
        command = [str(BIN / "opentelemetry-instrument"), sys.executable, "script.py"]
    look = SCRIPT + LOOK
    done = run_script(
        tmp_path,
        model,
        *command,
        script=look,
        OTEL_TRACES_EXPORTER="request_log",
        OTEL_SDK_DISABLED="TRUE",
        OTEL_TELEMETRY_NO_SUCH_SETTING="1",
    )
    assert done.stdout == "200\nProxyTracerProvider _ProxyMeterProvider True plain\n", done.stderr
    assert done.stderr == ""
    assert not (tmp_path / "rows.db").exists()


def test_variables_that_the_user_has_set_are_kept(tmp_path: Path, model: str) -> None:
    names = {
        "OTEL_TRACES_EXPORTER": "console",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http/dup",
        "OTEL_BSP_SCHEDULE_DELAY": "77",
        "OTEL_BSP_MAX_QUEUE_SIZE": "88",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "66",
        "OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION": "true",
        "OTEL_SERVICE_NAME": "mine",
    }
    script = f"import os; print([os.environ[name] for name in {list(names)}])"
    command = [str(BIN / "opentelemetry-instrument"), sys.executable, "script.py"]
    done = run_script(tmp_path, model, *command, script=script, **names)
    assert done.stdout.splitlines()[0] == str(list(names.values())), done.stderr


@pytest.mark.parametrize("pinned", [{}, {"OTEL_PYTHON_CONFIGURATOR": "another"}], ids=["found first", "pinned"])
def test_what_another_distribution_starts_is_redacted_too(tmp_path: Path, model: str, pinned: dict[str, str]) -> None:
    command = [str(BIN / "opentelemetry-instrument"), sys.executable, "script.py"]
    exporters = {"OTEL_TRACES_EXPORTER": "console", "OTEL_LOGS_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}
    done = run_script(tmp_path, model, *command, PYTHONPATH=other_distro(tmp_path), **exporters, **pinned)
    assert done.stdout.count("the other distro") == 1, done.stderr
    assert '"name": "work for [REDACTED_EMAIL]"' in done.stdout
    assert '"chat gpt-4o-mini"' in done.stdout
    assert PLANTED not in done.stdout


def test_beside_another_distribution_a_wrong_setting_lets_nothing_leave(tmp_path: Path, model: str) -> None:
    command = [str(BIN / "opentelemetry-instrument"), sys.executable, "script.py"]
    wrong = {"OTEL_TRACES_EXPORTER": "console", "OTEL_TELEMETRY_REDACTION__ENGINE": "nonsense"}
    done = run_script(tmp_path, model, *command, PYTHONPATH=other_distro(tmp_path), **wrong)
    assert done.stdout.splitlines() == ["the other distro", "the other configurator", "200"], done.stderr
    assert "redaction.engine" in done.stderr


@pytest.mark.parametrize("fault", ["import no_such_module", "raise ImportError('built for another Python')", "1 / 0"])
@pytest.mark.usefixtures("database")
def test_a_neighbour_that_fails_to_import_takes_no_row_away(tmp_path: Path, model: str, fault: str) -> None:
    command = [str(BIN / "opentelemetry-instrument"), sys.executable, "script.py"]
    packages = failing_instrumentation(tmp_path, fault)
    done = run_script(tmp_path, model, *command, OTEL_TRACES_EXPORTER="request_log", PYTHONPATH=packages)
    assert done.stdout == "200\n", done.stderr
    assert rows(tmp_path, "SELECT provider, prompt_tokens > 0 FROM llm_call") == [("openai", 1)], done.stderr
    assert ("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=failing" in done.stderr) == (fault == "1 / 0"), done.stderr


def test_metrics_of_an_instrumented_app_leave_redacted(tmp_path: Path, model: str) -> None:
    script = f"""
from opentelemetry import metrics
metrics.get_meter("app").create_counter("mails").add(1, {{"to": "{PLANTED}"}})
"""
    command = [str(BIN / "opentelemetry-instrument"), sys.executable, "script.py"]
    exporters = {"OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "console"}
    done = run_script(tmp_path, model, *command, script=script, **exporters)
    assert '"to": "[REDACTED_EMAIL]"' in done.stdout, done.stderr
    assert PLANTED not in done.stdout


def test_a_database_that_cannot_be_written_costs_the_app_nothing(tmp_path: Path, model: str) -> None:
    (tmp_path / "file").write_text("in the way")
    command = [str(BIN / "opentelemetry-instrument"), sys.executable, "script.py"]
    done = run_script(
        tmp_path,
        model,
        *command,
        OTEL_TRACES_EXPORTER="request_log",
        OTEL_TELEMETRY_REQUEST_LOG__URL=f"sqlite:///{tmp_path}/file/rows.db",
    )
    assert (done.returncode, done.stdout) == (0, "200\n"), done.stderr
    assert "request_log.url" in done.stderr


def test_a_provider_that_the_app_has_made_is_kept_and_protected(tmp_path: Path) -> None:
    script = f"""
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, ConsoleSpanExporter
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
trace.set_tracer_provider(provider)
import otel_telemetry
otel_telemetry.configure()
with trace.get_tracer("t").start_as_current_span("mail {PLANTED}"):
    pass
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment(tmp_path, ""),
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert "mail [REDACTED_EMAIL]" in done.stdout
    assert PLANTED not in done.stdout
