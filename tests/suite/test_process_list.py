"""A password in --db is not left in the process list; the process keeps its id, and says what to do instead."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from otel_telemetry import settings
from otel_telemetry.commands import process_list
from tests.backends.process import free_port
from tests.waiting import eventually

PASSWORD = "hunter2-of-nobody"
CLI = [sys.executable, "-m", "otel_telemetry.cli"]


def test_the_variable_is_the_one_of_the_setting() -> None:
    assert settings.variable("request_log.url") == process_list.VARIABLE


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
@pytest.mark.parametrize("form", [("--db", "{}"), ("--db={}",)], ids=["two words", "one word"])
def test_serve_does_not_leave_it_there(tmp_path: Path, form: Sequence[str]) -> None:
    url = f"postgresql+psycopg://somebody:{PASSWORD}@127.0.0.1:{free_port()}/rows"
    ports = [f"--grpc-port={free_port()}", f"--http-port={free_port()}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*CLI, "serve", *(part.format(url) for part in form), *ports], cwd=tmp_path, stderr=log, env=environment
        )
    try:
        eventually(lambda: PASSWORD not in (line := command_line(process.pid)) and "serve" in line)
        assert ports[0] in command_line(process.pid)
        eventually(lambda: process_list.VARIABLE in (tmp_path / "log").read_text())
    finally:
        process.terminate()
        process.wait(30)
    assert PASSWORD not in (tmp_path / "log").read_text()


def test_the_url_is_used_as_it_was_given(tmp_path: Path) -> None:
    command = [*CLI, "report", "--db", f"postgresql+psycopg://somebody:{PASSWORD}@127.0.0.1:{free_port()}/none"]
    environment = {**os.environ, process_list.VARIABLE: "sqlite:///another.db"}
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "127.0.0.1" in done.stderr
    assert PASSWORD not in done.stderr + done.stdout
    assert not (tmp_path / "another.db").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--db", "sqlite:///rows.db"],
        ["serve", "--db", "postgresql://somebody@db/rows"],
        ["run", "app", "--db", f"postgresql://a:{PASSWORD}@db/rows"],
        ["report"],
        ["serve", "--db"],
    ],
)
def test_other_command_lines_are_left_alone(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setattr(os, "execv", lambda *given: pytest.fail(f"ran {given}"))
    assert not process_list.hide_password(arguments)
