"""docs/operating.md shows commands and options that there are."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from otel_telemetry.cli import load_command
from otel_telemetry.commands import report

TEXT = (Path(__file__).parents[2] / "docs" / "operating.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"(?:`|\$ )(otel-telemetry [^`\n]+)", TEXT)))
OPERATED = {"report", "tail", "erase", "scan", "reprice", "trim"}


def find(words: list[str]) -> tuple[Any, list[str]]:
    command = load_command(words.pop(0))
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    return command, words


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_that_is_shown_is_understood(line: str) -> None:
    command, arguments = find(shlex.split(line)[1:])
    assert command.name == line.split()[1] or line.startswith("otel-telemetry spool")
    command.make_context(command.name, arguments)


@pytest.mark.parametrize("name", sorted(OPERATED))
def test_every_command_of_operators_has_its_part(name: str) -> None:
    assert f"\n## {name}\n" in TEXT
    command, _ = find([name])
    assert "Try it:" in (command.help or "")


def test_every_by_that_is_shown_is_one() -> None:
    table = TEXT[TEXT.index("| question | `--by` |") : TEXT.index("- `--since`")]
    shown = {by for row in table.splitlines()[2:] for by in re.findall(r"`([^`]+)`", row)}
    assert len(shown) > 10
    for by in shown:
        report._asked(by)
