"""The same demo in each shape, by settings alone: every promise holds, and no backend's files have what was planted."""

import subprocess
import sys
from pathlib import Path

import pytest

from examples.chat_app.demo import leaks
from examples.chat_app.demo.planted import Garden
from examples.chat_app.demo.processes import ROOT
from examples.chat_app.demo.traffic import cases
from tests.e2e import demo_shapes

SEED = 1
#: Asked in the demo, with nothing in it to be redacted.
QUESTION = "How do I wax a tent?"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", demo_shapes.SHAPES)
def test_every_promise_holds_in_each_shape(name: str, tmp_path: Path) -> None:
    garden = Garden(SEED)
    assert cases(garden)
    with demo_shapes.running(name) as shape:
        command = [sys.executable, "-m", "examples.chat_app.demo", "--output", str(tmp_path / "out"), f"--seed={SEED}"]
        run = subprocess.run(
            [*command, *shape.options()], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
        )
        assert run.returncode == 0, run.stdout + run.stderr
        assert "all 24 promises held, 80 requests" in run.stdout
        for kept, pattern in shape.logs:
            folder = tmp_path / kept.name
            folder.mkdir()
            for number, file in enumerate(kept.glob(pattern)):
                (folder / str(number)).write_bytes(file.read_bytes())
            assert leaks.find([QUESTION], folder), f"nothing can be read in {folder}"
            assert leaks.find([planted.value for planted in garden.planted], folder) == []
