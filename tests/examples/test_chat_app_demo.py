"""The demo as a whole: what `make demo` runs, in a folder of its own."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from examples.chat_app.demo.checks import APP
from examples.chat_app.demo.planted import Garden
from examples.chat_app.demo.processes import ROOT
from examples.chat_app.demo.traffic import cases


@pytest.mark.timeout(180)
def test_the_demo_keeps_every_promise_and_leaves_its_rows_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.chat_app.demo", "--output", str(tmp_path / "out"), "--seed", "1"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    connection = sqlite3.connect(tmp_path / "out" / "telemetry.db")
    (rows,) = connection.execute("SELECT count(*) FROM request_log WHERE service = ?", (APP,)).fetchone()
    connection.close()
    assert rows == len(cases(Garden(1)))
    assert f"{rows} requests" in run.stdout


def test_a_folder_of_somebody_else_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    command = [sys.executable, "-m", "examples.chat_app.demo", "--output", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2
    assert "name another folder with --output" in run.stdout
