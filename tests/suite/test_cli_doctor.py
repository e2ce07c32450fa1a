"""`otel-telemetry doctor` finds what is wrong, says what to do about it, and writes nothing."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.suite.another_distro import other_distro

BIN = Path(sys.executable).parent

SECRET = "a secret of the tests"

SCRIPT = """
from opentelemetry import trace
with trace.get_tracer("t").start_as_current_span("mail jane.roe@example.com"):
    pass
"""


def run(folder: Path, *command: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHONPATH"))}
    env = {**environment, "COLUMNS": "200", "OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET": SECRET, **more}
    return subprocess.run([*command], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


def doctor(folder: Path, **more: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Return the exit code, and what was found by name."""
    exporter = {"OTEL_TRACES_EXPORTER": "request_log", **more}
    done = run(folder, BIN / "otel-telemetry", "doctor", "--json", **exporter)
    found: dict[str, list[dict[str, str]]] = {}
    for check in json.loads(done.stdout):
        found.setdefault(check["name"], []).append(check)
    return done.returncode, found


def test_where_all_is_well_it_says_so_and_leaves_nothing_behind(tmp_path: Path) -> None:
    code, found = doctor(tmp_path)
    assert code == 0, found
    found.pop("not seen", None)  # libraries beside us whose instrumentation is not installed: not ours to say
    assert {check["state"] for checks in found.values() for check in checks} == {"ok"}
    assert found["versions"][0]["detail"].startswith("otel-telemetry 0.")
    assert found["distro"][0]["detail"] == found["configurator"][0]["detail"] == "ours"
    assert list(tmp_path.iterdir()) == []


def test_it_says_which_distro_would_be_loaded_instead_of_ours(tmp_path: Path) -> None:
    path = other_distro(tmp_path)
    code, found = doctor(tmp_path, PYTHONPATH=path)
    assert code == 0, found
    assert found["configurator"][0]["state"] == found["distro"][0]["state"] == "note"
    assert found["configurator"][0]["detail"] == "another is loaded, not ours: redaction is put in front of it"
    assert "OTEL_PYTHON_CONFIGURATOR=otel_telemetry" in found["configurator"][0]["next"]
    pinned = {"OTEL_PYTHON_DISTRO": "otel_telemetry", "OTEL_PYTHON_CONFIGURATOR": "otel_telemetry"}
    code, found = doctor(tmp_path, PYTHONPATH=path, **pinned)
    assert code == 0, found
    assert found["distro"][0]["detail"] == "ours, beside another"


def test_what_it_says_of_another_distro_is_what_happens_and_run_pins_ours(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    path = other_distro(tmp_path)
    console = {"OTEL_TRACES_EXPORTER": "console", "PYTHONPATH": path}
    program = [sys.executable, "script.py"]
    theirs = run(tmp_path, BIN / "opentelemetry-instrument", *program, **console)
    assert "the other distro\nthe other configurator\n" in theirs.stdout
    assert "mail [REDACTED_EMAIL]" in theirs.stdout
    assert "jane.roe" not in theirs.stdout
    pins = {"OTEL_PYTHON_DISTRO": "otel_telemetry", "OTEL_PYTHON_CONFIGURATOR": "otel_telemetry"}
    for ours in (
        run(tmp_path, BIN / "opentelemetry-instrument", *program, **console, **pins),
        run(tmp_path, BIN / "otel-telemetry", "run", "--", *program, **console),
    ):
        assert ours.returncode == 0, ours.stderr
        assert "the other" not in ours.stdout
        assert "mail [REDACTED_EMAIL]" in ours.stdout
        assert "jane.roe" not in ours.stdout


def test_a_collector_that_does_not_listen_is_a_problem_and_one_that_does_is_none(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://me:{SECRET.replace(' ', '')}@127.0.0.1:{listening.getsockname()[1]}"
        env = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}
        code, found = doctor(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=address, **env)
        assert (code, found["traces"][0]["state"]) == (0, "ok"), found
        assert SECRET.replace(" ", "") not in str(found)
    code, found = doctor(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=address, **env)
    assert (code, found["traces"][0]["state"]) == (1, "problem")
    assert "Connection refused" in found["traces"][0]["detail"]
    assert "otel-telemetry serve" in found["traces"][0]["next"]


def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    code, found = doctor(tmp_path, OTEL_TELEMETRY_REQUEST_LOG__URI="x")
    assert code == 1
    assert "OTEL_TELEMETRY_REQUEST_LOG__URI" in found["settings"][0]["detail"]
    assert found["settings"][0]["next"] == "did you mean OTEL_TELEMETRY_REQUEST_LOG__URL?"
    assert found["distro"][0]["state"] == "ok"


def test_one_broken_part_does_not_hide_the_next(tmp_path: Path) -> None:
    (tmp_path / "rows.db").write_text("no database at all, " * 100)
    (tmp_path / "otel-spool").mkdir()
    (tmp_path / "otel-spool" / "spool.db").write_text("no spool either, " * 100)
    code, found = doctor(
        tmp_path,
        OTEL_TELEMETRY_REDACTION__POLICY="no.yaml",
        OTEL_METRICS_EXPORTER="statsd",
        OTEL_TELEMETRY_REQUEST_LOG__URL=f"sqlite:///{tmp_path}/rows.db",
    )
    assert code == 1
    problems = {name for name, checks in found.items() if any(check["state"] == "problem" for check in checks)}
    assert problems == {"redaction", "exporters", "request_log", "spool"}
    assert "there is no exporter statsd" in found["exporters"][0]["detail"]
    assert found["clock"][0]["state"] == "ok"


def test_it_counts_the_rows_that_are_there_and_sees_a_clock_that_went_back(tmp_path: Path) -> None:
    program = "import otel_telemetry\nwith otel_telemetry.request(route='r'): pass"
    url = f"sqlite:///{tmp_path}/rows.db"
    run(tmp_path, BIN / "otel-telemetry", "run", "--db", url, "--", sys.executable, "-c", program)
    code, found = doctor(tmp_path, OTEL_TELEMETRY_REQUEST_LOG__URL=url)
    assert (code, found["request_log"][0]["detail"]) == (0, f"{url}: 1 requests")
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        connection.execute("UPDATE request_log SET ts = replace(ts, substr(ts, 1, 4), '2999')")
    connection.close()
    code, found = doctor(tmp_path, OTEL_TELEMETRY_REQUEST_LOG__URL=url)
    assert (code, found["clock"][0]["state"]) == (1, "problem")


@pytest.mark.parametrize("variable", ["OTEL_SDK_DISABLED=true", "OTEL_TELEMETRY_ENABLED=false"])
def test_what_is_switched_off_is_said_and_is_no_problem(tmp_path: Path, variable: str) -> None:
    name, value = variable.split("=")
    code, found = doctor(tmp_path, **{name: value})
    assert (code, found["settings"][0]["state"]) == (0, "note")


def test_people_get_a_table_with_the_next_steps(tmp_path: Path) -> None:
    done = run(tmp_path, BIN / "otel-telemetry", "doctor", OTEL_TRACES_EXPORTER="jeager")
    assert done.returncode == 1
    assert "problem" in done.stdout
    assert "next:" in done.stdout
