"""docs/privacy.md says what the code does: its examples are run, its lists are read from the code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from otel_telemetry.processors import config
from otel_telemetry.processors.detect import detector
from otel_telemetry.processors.redact import pseudonym, redactor
from otel_telemetry.processors.redact.policy import SAFE_KEYS, SAFE_PREFIXES

TEXT = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text(encoding="utf-8")
EXAMPLES = [
    (command, output)
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
]


@pytest.mark.parametrize(("command", "output"), EXAMPLES, ids=lambda value: value[:60])
def test_each_example_prints_what_the_page_shows(command: str, output: str, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[0])
    scripts = str(Path(sys.executable).parent)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_TELEMETRY_")}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env=environment | {"PATH": f"{scripts}:{environment['PATH']}", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    if output:
        assert done.stdout == output


def test_there_are_examples_of_each_command() -> None:
    commands = " ".join(command for command, _ in EXAMPLES)
    assert all(f"otel-telemetry {name}" in commands for name in ("verify", "redact", "explain"))


def test_every_safe_name_is_listed_and_nothing_else() -> None:
    listed = TEXT.partition("dashboards are built on them:")[2].partition("\nDo not put user data")[0]
    names = re.findall(r"`([^`]+)`", listed)
    assert sorted(names) == sorted([*SAFE_KEYS, *(f"{prefix}*" for prefix in SAFE_PREFIXES)])


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    assert f"up to {redactor.MAX_DEPTH} deep" in TEXT
    assert f"at least {pseudonym._MIN_SECRET} characters" in TEXT
    assert f"over {detector._BASE_HITS:,} and one per {detector._BYTES_PER_HIT} bytes" in TEXT
    assert config.LEAK_CHECK_RATIO == 0.01
    assert "1 in 100" in TEXT
