"""`otel-telemetry run` starts any program instrumented, says what it found, and gets out of the way."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
SECRET = "a secret of the tests"

SCRIPT = """
import sys
import otel_telemetry
from opentelemetry import trace
with otel_telemetry.request(route="direct"):
    pass
print(sys.argv[1:], type(trace.get_tracer_provider()).__module__)
sys.exit(7)
"""


def environment(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHONPATH"))}
    return {**inherited, "COLUMNS": "160", "OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET": SECRET, **more}


def run(folder: Path, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(SCRIPT)
    command = [BIN / "otel-telemetry", "run", *words]
    return subprocess.run(
        command, cwd=folder, env=environment(**more), capture_output=True, text=True, timeout=60, check=False
    )


def rows(folder: Path) -> list[tuple[str, str]]:
    connection = sqlite3.connect(folder / "rows.db")
    try:
        return connection.execute("SELECT service, route FROM request_log").fetchall()
    finally:
        connection.close()


def test_a_script_is_instrumented_and_its_arguments_output_and_exit_code_are_its_own(tmp_path: Path) -> None:
    options = ["--db", f"sqlite:///{tmp_path}/rows.db", "--service-name", "shop"]
    done = run(tmp_path, *options, "--", "python", "script.py", "--db", "x", "--", "--version")
    assert done.stdout == "['--db', 'x', '--', '--version'] opentelemetry.sdk.trace\n", done.stderr
    assert done.returncode == 7
    assert rows(tmp_path) == [("shop", "direct")]


def test_the_double_dash_may_be_left_out(tmp_path: Path) -> None:
    done = run(tmp_path, "--quiet", "python", "--version", OTEL_TRACES_EXPORTER="none")
    assert (done.returncode, done.stdout) == (0, f"Python {sys.version.split()[0]}\n")


def test_it_says_what_it_found_and_where_telemetry_goes_without_secrets(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "--",
        "true",
        OTEL_TRACES_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://me:hunter2hunter2@127.0.0.1:9",
        OTEL_EXPORTER_OTLP_HEADERS="authorization=hunter2hunter2",
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
        OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="httpx",
        OTEL_TELEMETRY_INSTRUMENT__LLM_HTTP="false",
        OTEL_LOGS_EXPORTER="none",
        OTEL_METRICS_EXPORTER="console",
    )
    printed = " ".join(done.stderr.split())
    assert "service unknown_service (--service-name NAME)" in printed
    assert "traces otlp http://me:***@127.0.0.1:9" in printed
    assert "logs nowhere" in printed
    assert "metrics console" in printed
    assert "pseudonyms HMAC, key k1" in printed
    assert "fastapi 0." in printed
    assert "not httpx: switched off by OTEL_PYTHON_DISABLED_INSTRUMENTATIONS" in printed
    assert "not otel_telemetry_llm_http: switched off by instrument.llm_http" in printed
    assert "hunter2" not in done.stderr
    assert SECRET not in done.stderr


def test_without_a_secret_for_pseudonyms_it_says_how_to_set_one(tmp_path: Path) -> None:
    done = run(tmp_path, "--", "true", OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET="")
    assert "OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET" in done.stderr
    assert done.returncode == 0


def test_quiet_is_silent(tmp_path: Path) -> None:
    done = run(tmp_path, "--quiet", "--db", f"sqlite:///{tmp_path}/rows.db", "--", "python", "script.py")
    assert (done.returncode, done.stderr) == (7, "")


WRONG = {
    "a setting that is none": ({"OTEL_TELEMETRY_REQUEST_LOG__URI": "x"}, [], "OTEL_TELEMETRY_REQUEST_LOG__URI"),
    "a value that cannot be": ({"OTEL_TELEMETRY_REDACTION__ENGINE": "pcre"}, [], "redaction.engine"),
    "a policy that is not there": ({"OTEL_TELEMETRY_REDACTION__POLICY": "no.yaml"}, [], "no.yaml"),
    "an exporter that is not there": ({"OTEL_LOGS_EXPORTER": "splunk"}, [], "OTEL_LOGS_EXPORTER"),
    "a protocol that is none": ({"OTEL_EXPORTER_OTLP_PROTOCOL": "udp"}, [], "OTEL_EXPORTER_OTLP_PROTOCOL"),
    "a database that is none": ({}, ["--db", "sqlite"], "request_log.url"),
    "a database that cannot be": ({}, ["--db", "sqlite:////dev/null/rows.db"], "request_log.url"),
    "a configuration file that is not there": ({"OTEL_CONFIG_FILE": "no.yaml"}, [], "OTEL_CONFIG_FILE"),
    "another distro": ({"OTEL_PYTHON_DISTRO": "other"}, [], "OTEL_PYTHON_DISTRO"),
    "another configurator": ({"OTEL_PYTHON_CONFIGURATOR": "other"}, [], "OTEL_PYTHON_CONFIGURATOR"),
    "options that exclude each other": ({}, ["--exporter", "otlp", "--db", "sqlite:///rows.db"], "--db"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_named_and_the_program_is_not_started(tmp_path: Path, wrong: str) -> None:
    variables, options, key = WRONG[wrong]
    done = run(tmp_path, *options, "--", "python", "script.py", **variables)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error {key}: " in done.stderr
    assert "next: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_program_that_is_not_there_is_told_with_the_next_step(tmp_path: Path) -> None:
    done = run(tmp_path, "--", "nosuchprogram")
    assert (done.returncode, "install it in this environment" in done.stderr) == (2, True)
    done = run(tmp_path, "--", "script.py")
    assert (done.returncode, "otel-telemetry run -- python script.py" in done.stderr) == (2, True)
    done = run(tmp_path, "--", "wave")
    assert (done.returncode, "otel-telemetry run -- python -m wave" in done.stderr) == (2, True)


def test_a_program_of_a_python_without_this_package_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "venv" / "bin"
    elsewhere.mkdir(parents=True)
    (elsewhere / "python").symlink_to(Path(sys.executable).resolve())
    program = tmp_path / "program"
    program.write_text(f"#!{elsewhere}/python\nprint('ran')\n")
    program.chmod(0o755)
    done = run(tmp_path, "--", program)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{elsewhere}/python" in done.stderr.replace("\n", "")


@pytest.mark.parametrize(
    "variables", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TELEMETRY_ENABLED": "false"}], ids=["sdk", "ours"]
)
def test_switched_off_the_program_runs_as_it_is(tmp_path: Path, variables: dict[str, str]) -> None:
    look = "import sys, os; "
    look += "ours = [m for m in sys.modules if m.startswith(('opentelemetry', 'otel_telemetry'))]; "
    look += "print(ours, os.environ.get('PYTHONPATH'))"
    done = run(tmp_path, "--quiet", "--db", f"sqlite:///{tmp_path}/rows.db", "--", "python", "-c", look, **variables)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[] None\n", "")
    assert not (tmp_path / "rows.db").exists()


def test_sdk_disabled_does_not_even_look_at_the_settings(tmp_path: Path) -> None:
    done = run(tmp_path, "-q", "--", "true", OTEL_SDK_DISABLED="true", OTEL_TELEMETRY_NO_SUCH="1")
    assert done.returncode == 0, done.stderr


def test_a_signal_reaches_the_program_and_its_row_is_there(tmp_path: Path) -> None:
    program = "import otel_telemetry, time\nwith otel_telemetry.request(route='direct'): pass\nprint(1, flush=True)\n"
    (tmp_path / "waits.py").write_text(program + "time.sleep(30)\n")
    command = [
        str(BIN / "otel-telemetry"),
        "run",
        "--quiet",
        "--db",
        f"sqlite:///{tmp_path}/rows.db",
        "--service-name",
        "s",
    ]
    env = environment(OTEL_TELEMETRY_REQUEST_LOG__DEBOUNCE="30")
    process = subprocess.Popen([*command, "--", "python", "waits.py"], cwd=tmp_path, env=env, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == -signal.SIGTERM
    process.stdout.close()
    assert rows(tmp_path) == [("s", "direct")]


def test_a_console_script_keeps_the_variables_that_the_user_has_set(tmp_path: Path) -> None:
    look = "import os; print(os.environ['OTEL_TRACES_EXPORTER'], os.environ['OTEL_BSP_SCHEDULE_DELAY'])"
    done = run(
        tmp_path, "-q", "--", "python", "-c", look, OTEL_TRACES_EXPORTER="console", OTEL_BSP_SCHEDULE_DELAY="123"
    )
    assert done.stdout == "console 123\n"
