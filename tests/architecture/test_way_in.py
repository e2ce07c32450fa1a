"""What CONTRIBUTING.md and docs/architecture.md say is so, and a forgotten step of a checklist fails here."""

import ast
import re
from importlib import import_module
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from typer.testing import CliRunner

from otel_telemetry import settings
from otel_telemetry.cli import COMMANDS, app, load_command
from otel_telemetry.instrument.llm_http import endpoints, providers
from otel_telemetry.instrument.llm_http.outgoing import OutgoingRequest
from otel_telemetry.processors.detect.ruleset import builtin_rules

ROOT: Final = Path(__file__).parents[2]
CONTRIBUTING: Final = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ARCHITECTURE: Final = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCS: Final = "".join(page.read_text(encoding="utf-8") for page in PAGES)
WRITTEN: Final = "".join(page.read_text(encoding="utf-8") for page in PAGES if page.name != "settings.md")
"""What pages say that people write; the page of all settings is made by a command."""
SHARED: Final = {"http"}
"""Folders of exporters/ that are no exporter."""


def quoted_paths(text: str) -> set[str]:
    """Return what a page quotes as a path of this repository, without placeholders."""
    quoted = re.findall(r"`([\w./-]+/[\w./-]*)`", text)
    first = {path.name for path in ROOT.iterdir()}
    return {path for path in quoted if path.split("/")[0] in first and "NAME" not in path}


@pytest.mark.parametrize("path", sorted(quoted_paths(CONTRIBUTING) | quoted_paths(ARCHITECTURE)))
def test_each_path_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_each_folder_of_code_has_its_line() -> None:
    for package in ("otel_telemetry", "processors", "exporters", "exporters/request_log", "otel_telemetry/gateway"):
        for init in (ROOT / package).glob("*/__init__.py"):
            folder = init.parent.relative_to(ROOT)
            if str(folder) not in {
                "otel_telemetry/processors",
                "otel_telemetry/exporters",
            }:  # links; folders in an sdist
                assert re.search(rf"^\|.*`{folder}/", ARCHITECTURE, re.MULTILINE), f"{folder}/: its line in the table"


def test_each_decision_that_is_cited_can_be_read() -> None:
    decided = set(re.findall(r"^\*\*(D\d+)\.", ARCHITECTURE, re.MULTILINE))
    cited = set()
    for folder in ("otel_telemetry", "processors", "exporters", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert path == Path(__file__) or not re.search(r"\bDESIGN\b", text), f"{path}: cite docs/architecture.md"
            for found in re.findall(r"docs/architecture\.md, ([D\d, and]+)", text):
                cited |= set(re.findall(r"D\d+", found))
    assert cited
    assert cited <= decided


@pytest.mark.parametrize("target", re.findall(r"make ([a-z0-9 -]+?)(?:`|$| {2})", CONTRIBUTING, re.MULTILINE))
def test_each_target_is_one_of_the_makefile(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in target.split():
        assert re.search(rf"^{name}: ", makefile, re.MULTILINE), name


# --- a rule -------------------------------------------------------------------------------------------------------


def test_each_type_of_finding_is_told() -> None:
    page = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
    types = {rule.type for rule in builtin_rules(optional=("national_id", "passport", "crypto_wallet"))}
    assert sorted(name for name in types if name not in page) == []


# --- a provider ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", sorted(providers.PROVIDERS))
def test_each_host_is_its_owners(host: str) -> None:
    for name in (host, f"eu.{host}"):
        request = OutgoingRequest("https", name, 443, "/v1/chat/completions", lambda _: None, None)
        found = endpoints.recognise(request, frozenset())
        assert found is not None
        assert found.provider == providers.PROVIDERS[host]


def dialects_of_http() -> list[str]:
    folder = ROOT / "otel_telemetry" / "instrument" / "llm_http" / "dialects"
    return sorted({path.stem for path in folder.glob("*.py")} - {"__init__", "base"})


@pytest.mark.parametrize("name", dialects_of_http())
def test_each_dialect_of_http_is_recognised_and_has_tests(name: str) -> None:
    assert hasattr(endpoints, name), "its path in endpoints.py"
    word = name.partition("_")[0]
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests/instrument").glob("test_llm_http_*.py"))
    assert re.search(rf"def test_\w*{word}\w*|\W{word}\W", tests, re.IGNORECASE)
    assert re.search(rf"\|[^|\n]*{word}", (ROOT / "docs/instrumentation.md").read_text(encoding="utf-8"), re.IGNORECASE)


# --- an exporter --------------------------------------------------------------------------------------------------


def exporters() -> list[str]:
    return sorted({path.parent.name for path in (ROOT / "exporters").glob("*/__init__.py")} - SHARED)


@pytest.mark.parametrize("name", exporters())
def test_each_exporter_is_set_put_together_and_told(name: str) -> None:
    config = import_module(f"otel_telemetry.exporters.{name}.config")
    fields = [info.annotation for info in settings.Settings.model_fields.values()]
    composed = {*fields, *(inner for field in fields for inner in get_args(field))}
    assert any(isinstance(each, type) and each in composed for each in vars(config).values()), "its section in settings"
    sections = [key for key, info in settings.Settings.model_fields.items() if config.__name__ in str(info.annotation)]
    assert any(f"{key}." in WRITTEN or f"[{key}." in WRITTEN for key in sections), "a page in docs/ about its settings"
    folder = ROOT / "exporters" / name
    assembled = imports_of(ROOT / "otel_telemetry" / "assemble_gateway.py")
    started = imports_of(ROOT / "otel_telemetry" / "distro.py")
    if (folder / "sink.py").exists():
        assert f"otel_telemetry.exporters.{name}.sink" in assembled, "sinks_of() in assemble_gateway.py"
    else:
        assert any(each.startswith(f"otel_telemetry.exporters.{name}") for each in started), "a class in distro.py"
    if (folder / "exporter.py").exists():
        assert any(each.startswith(f"otel_telemetry.exporters.{name}") for each in started), "a class in distro.py"


def imports_of(path: Path) -> set[str]:
    """Return all modules and names that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


# --- a command ----------------------------------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """Return each command by what is typed for it."""
    found: dict[str, Any] = {}
    for name in COMMANDS:
        command = load_command(name)
        below = getattr(command, "commands", {})
        found |= {f"{name} {inner}": one for inner, one in below.items()} or {name: command}
    return found


@pytest.mark.parametrize("name", sorted(commands()))
def test_each_command_is_explained_and_shown(name: str) -> None:
    assert (commands()[name].help or "").strip()
    assert f"otel-telemetry {name}" in DOCS or f"`{name}`" in DOCS, "a page in docs/ shows it"


def test_json_has_one_name_in_every_command() -> None:
    for name, command in commands().items():
        options = {word for parameter in command.params for word in parameter.opts}
        assert name == "export" or "--format" not in options, name  # what it writes is a file, of three kinds
        assert not {word for word in options if "json" in word} - {"--json"}, name
        assert ("--json" in options) == any(parameter.name == "as_json" for parameter in command.params), name
    assert sum("--json" in parameter.opts for command in commands().values() for parameter in command.params) > 10


def test_a_shell_completes_commands_and_options() -> None:
    def completed(words: str) -> list[str]:
        asked = {"_OTEL_TELEMETRY_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        return CliRunner().invoke(app, env=asked, prog_name="otel-telemetry").stdout.split()

    assert completed("otel-telemetry rep") == ["report", "reprice"]
    assert "--json" in completed("otel-telemetry report --j")
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).stdout


def test_each_module_of_a_command_is_registered() -> None:
    registered = {command.where.partition(":")[0] for command in COMMANDS.values()}
    for path in (ROOT / "otel_telemetry" / "commands").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "Try it:" in text:
            assert path.stem in registered, "its line in COMMANDS in cli.py"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_listed_by_the_first_paragraph_of_its_docstring(name: str) -> None:
    first = load_command(name).help.partition("\n\n")[0]
    assert COMMANDS[name].summary == " ".join(first.split())
