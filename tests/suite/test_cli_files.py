"""Commands that only bring files or say who they are, and the arguments of configure()."""

import inspect
import json
import runpy
from pathlib import Path
from typing import get_type_hints

import pytest
import setuptools  # type: ignore[import-untyped]
import yaml
from typer.testing import CliRunner

import otel_telemetry
from otel_telemetry.app.arguments import Sections
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.cli import app
from otel_telemetry.commands.dashboards import dashboards
from otel_telemetry.settings import Settings

ROOT = Path(__file__).parents[2]


def test_the_version_is_said() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.output == f"otel-telemetry {otel_telemetry.__version__}\n"


def test_completion_is_there_for_the_shell() -> None:
    done = CliRunner().invoke(app, [], prog_name="otel-telemetry", env={"_OTEL_TELEMETRY_COMPLETE": "source_bash"})
    assert "complete -o" in done.output


def test_dashboards_and_alerts_are_written_and_not_over_others(tmp_path: Path) -> None:
    dashboards(out=tmp_path / "new")
    board = json.loads((tmp_path / "new" / "otel-telemetry.json").read_text())
    rules = yaml.safe_load((tmp_path / "new" / "alerts.yml").read_text())
    tests = yaml.safe_load((tmp_path / "new" / "alerts_test.yml").read_text())
    assert board["panels"]
    assert rules["groups"]
    assert tests["rule_files"] == ["alerts.yml"]
    dashboards(out=tmp_path / "new")
    (tmp_path / "new" / "alerts.yml").write_text("mine")
    with pytest.raises(ConfigurationError, match="another one"):
        dashboards(out=tmp_path / "new")
    dashboards(out=tmp_path / "new", force=True)
    assert yaml.safe_load((tmp_path / "new" / "alerts.yml").read_text()) == rules


def test_configure_names_each_section_of_the_settings() -> None:
    assert set(get_type_hints(Sections)) == set(Settings.model_fields)
    assert list(inspect.signature(otel_telemetry.configure).parameters) == ["service_name", "exporter", "sections"]


def test_each_link_of_the_long_description_leads_to_a_file_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    description: dict[str, str] = {}
    monkeypatch.setattr(setuptools, "setup", description.update)
    repository = runpy.run_path(str(ROOT / "setup.py"))["REPOSITORY"]
    text = description["long_description"]
    links = [part.split(")")[0].split("#")[0] for part in text.split("](")[1:]]
    assert not [link for link in links if link and not link.startswith("https://")]
    named = [link.removeprefix(repository) for link in links if link.startswith(repository)]
    assert len(named) > 5
    assert not [name for name in named if not (ROOT / name).exists()]
