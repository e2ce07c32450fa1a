"""The command that measures the detector: every line a target, met or missed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORPORA = ROOT.parent / "shared" / "pii"


def run(benchmarks: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "benchmarks/pii_targets.py"],
        cwd=benchmarks.parent,
        env=os.environ | {"PYTHONPATH": f"{benchmarks.parent}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )


@pytest.mark.skipif(not CORPORA.is_dir(), reason="the labelled corpora are not part of the project, and not beside it")
def test_every_target_of_detection_is_met_on_the_labelled_corpora() -> None:
    done = run(ROOT / "benchmarks")
    lines = [line for line in done.stdout.splitlines() if " at least " in line or " at most " in line]
    assert len(lines) == 34, done.stdout + done.stderr
    assert [line for line in lines if "MISSED" in line and " us " not in line] == []
    assert done.returncode == 0


def test_without_the_corpora_it_says_that_they_are_no_part_of_the_project(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "benchmarks", tmp_path / "repository" / "benchmarks")
    done = run(tmp_path / "repository" / "benchmarks")
    assert done.stdout.startswith("Nothing was measured: the labelled corpora are no part of this project")
    assert done.returncode == 0
