"""Imports point down: each layer may import itself and what stands below it, as this table says."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import otel_telemetry

ROOT = Path(__file__).parents[2]
BOTTOM = {"errors", "conventions", "records", "histogram", "metrics", "relay", "sinks", "ids", "times"}
MAY_IMPORT = {
    "errors": set(),
    "conventions": set(),
    "records": set(),
    "ids": set(),
    "times": set(),
    "sinks": set(),
    "histogram": set(),
    "metrics": {"conventions", "histogram"},
    "relay": {"conventions", "metrics"},
    "processors": BOTTOM,
    "exporters": BOTTOM,
    "gateway": BOTTOM,
    "instrument": BOTTOM,
    "cache": BOTTOM | {"instrument"},
    "lifecycle": set(),
    "console": set(),
    "config_file": {"errors"},
    "say": BOTTOM | {"instrument"},
    "request": BOTTOM | {"instrument", "say"},
    "prices": {"exporters", "instrument"},
    "settings": {"errors", "processors", "exporters", "gateway", "instrument", "cache"},
    "assemble": BOTTOM
    | {
        "config_file",
        "lifecycle",
        "console",
        "processors",
        "exporters",
        "gateway",
        "instrument",
        "cache",
        "prices",
        "request",
        "settings",
    },
    "distro": {"assemble", "console", "settings", "exporters", "instrument"},
    "commands": BOTTOM | {"config_file", "settings", "assemble", "processors", "exporters", "gateway"},
    "cli": BOTTOM | {"commands", "assemble", "settings", "processors", "exporters", "gateway"},
    "__init__": {"request", "say", "cache", "assemble"},
}


def modules() -> Iterator[tuple[str, Path]]:
    for folder in (ROOT / "otel_telemetry", ROOT / "processors", ROOT / "exporters"):
        for path in sorted(folder.rglob("*.py")):
            relative = path.relative_to(ROOT)
            parts = relative.with_suffix("").parts
            if relative.parts[:2] in {("otel_telemetry", "processors"), ("otel_telemetry", "exporters")}:
                continue  # the links
            name = ".".join(parts if parts[0] == "otel_telemetry" else ("otel_telemetry", *parts))
            yield name.removesuffix(".__init__") if name.count(".") > 1 else name, path


def layer(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "otel_telemetry":
            yield from (f"otel_telemetry.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_each_module_imports_only_what_stands_below_it(module: str, path: Path) -> None:
    own = layer(module)
    allowed = MAY_IMPORT[own] | {own}
    ours = [name for name in imported(path) if name.split(".")[0] == "otel_telemetry" and "." in name]
    wrong = sorted({name for name in ours if layer(name) not in allowed and layer(name) in MAY_IMPORT})
    assert not wrong, f"{module} ({own}) must not import {wrong}"


def test_every_package_is_named_for_the_wheel() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name, path in modules():
        if path.name == "__init__.py" and name != "otel_telemetry.__init__":
            assert f'    "{name}",' in text, f"{name} is not in [tool.setuptools] packages"


def test_importing_the_package_loads_no_processor_and_no_exporter() -> None:
    code = (
        "import sys, otel_telemetry;"
        "print([m for m in sys.modules if m.startswith(('otel_telemetry.processors', 'otel_telemetry.exporters'))])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"


def test_the_public_names_are_these() -> None:
    assert sorted(otel_telemetry.__all__) == ["__version__", "cache", "configure", "event", "feedback", "request"]
    for name in otel_telemetry.__all__:
        assert getattr(otel_telemetry, name) is not None
