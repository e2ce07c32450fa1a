"""Imports point down, from room to room: each room may import itself and the rooms that its line names.

A room is a folder with an `__init__.py`. A name in the table stands for that room alone; `processors.*` for all rooms
below it as well. What no line names fails, so that a new room has to say what it stands on.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import pytest

import otel_telemetry

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = "otel_telemetry"
REQUEST_LOG: Final = "exporters.request_log"

MAY_IMPORT: Final[Mapping[str, set[str]]] = {
    "base": set(),
    # --- processors
    "processors.detect.text": {"base"},
    "processors.detect.engines": {"base"},
    "processors.detect.kinds": {"base", "processors.detect.text"},
    "processors.detect.names": {"base", "processors.detect.text", "processors.detect.kinds"},
    "processors.detect": {"base", "processors.detect.*"},
    "processors.redact": {"base", "processors.config", "processors.detect.*"},
    "processors.ner": {"base", "processors.config", "processors.detect", "processors.redact"},
    "processors.otlp": {"base", "processors.config", "processors.detect.names", "processors.redact", "processors.ner"},
    "processors.sdk": {"base", "processors.detect", "processors.redact"},
    "processors": {"base", "processors.detect.names", "processors.redact", "processors.sdk", "processors.ner"},
    "processors.verify": {
        "base",
        "processors",
        "processors.detect.*",
        "processors.redact",
        "processors.ner",
        "processors.otlp",
    },
    # --- exporters
    "exporters": set(),
    "exporters.http": {"base"},
    "exporters.otlp": {"base", "exporters.http"},
    "exporters.loki": {"base", "exporters.http", "exporters.otlp"},
    "exporters.prometheus": {"base"},
    f"{REQUEST_LOG}.db": {"base"},
    f"{REQUEST_LOG}.dialects": {"base"},
    f"{REQUEST_LOG}.price": {"base", f"{REQUEST_LOG}.db", f"{REQUEST_LOG}.dialects"},
    f"{REQUEST_LOG}.derive": {"base", f"{REQUEST_LOG}.db", f"{REQUEST_LOG}.dialects", f"{REQUEST_LOG}.price"},
    f"{REQUEST_LOG}.read": {"base", f"{REQUEST_LOG}.db", f"{REQUEST_LOG}.dialects", f"{REQUEST_LOG}.derive"},
    f"{REQUEST_LOG}.events": {"base", f"{REQUEST_LOG}.db", f"{REQUEST_LOG}.derive", f"{REQUEST_LOG}.read"},
    f"{REQUEST_LOG}.anomalies": {
        "base",
        f"{REQUEST_LOG}.config",
        f"{REQUEST_LOG}.db",
        f"{REQUEST_LOG}.kpis",
        f"{REQUEST_LOG}.operate",
    },
    f"{REQUEST_LOG}.clickhouse": {"base", f"{REQUEST_LOG}.db"},
    f"{REQUEST_LOG}.audit": {"base", f"{REQUEST_LOG}.config", f"{REQUEST_LOG}.db"},
    f"{REQUEST_LOG}.kpis": {"base", f"{REQUEST_LOG}.config", f"{REQUEST_LOG}.db", f"{REQUEST_LOG}.read"},
    f"{REQUEST_LOG}.rollup": {"base", f"{REQUEST_LOG}.db"},
    f"{REQUEST_LOG}.store": {
        "base",
        f"{REQUEST_LOG}.audit",
        f"{REQUEST_LOG}.kpis",
        f"{REQUEST_LOG}.rollup",
        f"{REQUEST_LOG}.config",
        f"{REQUEST_LOG}.db",
        f"{REQUEST_LOG}.derive",
        f"{REQUEST_LOG}.dialects",
        f"{REQUEST_LOG}.read",
        f"{REQUEST_LOG}.events",
    },
    f"{REQUEST_LOG}.migrations": {f"{REQUEST_LOG}.db"},
    f"{REQUEST_LOG}.migrations.versions": {
        "base",
        f"{REQUEST_LOG}.db",
        f"{REQUEST_LOG}.derive",
        f"{REQUEST_LOG}.store",
    },
    f"{REQUEST_LOG}.operate": {
        "base",
        f"{REQUEST_LOG}.audit",
        f"{REQUEST_LOG}.clickhouse",
        f"{REQUEST_LOG}.config",
        f"{REQUEST_LOG}.db",
        f"{REQUEST_LOG}.derive",
        f"{REQUEST_LOG}.kpis",
        f"{REQUEST_LOG}.price",
        f"{REQUEST_LOG}.rollup",
        f"{REQUEST_LOG}.store",
    },
    REQUEST_LOG: {
        "base",
        f"{REQUEST_LOG}.audit.config",
        f"{REQUEST_LOG}.clickhouse.config",
        f"{REQUEST_LOG}.kpis",
        f"{REQUEST_LOG}.db",
        f"{REQUEST_LOG}.dialects",
        f"{REQUEST_LOG}.events",
        f"{REQUEST_LOG}.read",
        f"{REQUEST_LOG}.store",
    },
    # --- what runs inside apps
    "instrument": {"base"},
    "instrument.llm_http.dialects": {"base"},
    "instrument.llm_http": {"base", "instrument", "instrument.llm_http.dialects"},
    "cache": {"base", "instrument"},
    "app": {"base", "instrument"},
    # --- the gateway
    "gateway": {"base", "gateway.kafka", "gateway.spool"},
    "gateway.spool": {"base"},
    "gateway.kafka": {"base", "gateway.spool"},
    "gateway.receive": {"base", "gateway.config", "gateway.spool"},
    "gateway.receive.rest": {"base", "gateway.receive"},
    "gateway.deliver": {"base", "gateway.spool"},
    "gateway.serve": {
        "base",
        "gateway.config",
        "gateway.kafka",
        "gateway.opening",
        "gateway.spool",
        "gateway.receive.*",
        "gateway.deliver",
    },
    # --- what puts it together; the top of a package that has both is named by module
    "older": {"base", f"{REQUEST_LOG}.db", f"{REQUEST_LOG}.derive", f"{REQUEST_LOG}.store", "gateway.receive.rest"},
    "ui": {
        "base",
        f"{REQUEST_LOG}.clickhouse",
        f"{REQUEST_LOG}.config",
        f"{REQUEST_LOG}.db",
        f"{REQUEST_LOG}.kpis",
        f"{REQUEST_LOG}.operate",
        "gateway.config",
        "gateway.receive",
        "gateway.receive.rest",
        "gateway.serve.page",
        "gateway.spool",
        "processors.config",
        "processors.verify",
    },
    "commands": {
        "base",
        "app",
        "older",
        "settings",
        "assemble",
        "assemble_gateway",
        "ui",
        "processors.*",
        "exporters.*",
        "gateway.*",
    },
    "fastapi": {"base", "app", "assemble_gateway", "gateway.receive.*", "instrument", "processors.redact", "settings"},
    "prices": {f"{REQUEST_LOG}.price", "instrument"},
    "request": {"base", "app", "instrument"},
    "settings": {
        "base",
        "app.older_variables",
        "processors.config",
        "exporters.*",
        "gateway.config",
        "instrument",
        "cache",
        "ui.config",
    },
    "assemble": {
        "base",
        "app",
        "cache",
        "exporters.*",
        "gateway.*",
        "instrument.*",
        "prices",
        "processors.*",
        "request",
        "settings",
    },
    "assemble_gateway": {
        "base",
        "assemble",
        "cache",
        "exporters.*",
        "gateway.*",
        "instrument",
        "processors.*",
        "settings",
        "ui",
    },
    "distro": {"app", "assemble", "base.metrics", "exporters.*", "instrument", "settings"},
    "cli": {"commands"},
    "": {"app", "assemble", "cache", "request"},
}


@cache
def modules() -> dict[str, Path]:
    """Return each module of ours, without the name of the package before it, with its file."""
    found = {}
    for folder in (PACKAGE, "processors", "exporters"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[:2] in {(PACKAGE, "processors"), (PACKAGE, "exporters")}:
                continue  # the links
            name = ".".join(parts[1:] if parts[0] == PACKAGE else parts)
            found[name.removesuffix("__init__").removesuffix(".")] = path
    return found


def room(module: str) -> str:
    """Return the folder that holds a module; at the top each module is a room of its own."""
    if modules()[module].name == "__init__.py":
        return module
    return module.rpartition(".")[0] or module


def imported(path: Path) -> Iterator[str]:
    """Yield each module of ours that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            names = [f"{base}.{alias.name}" for alias in node.names]
            ours = [name if name.removeprefix(f"{PACKAGE}.") in modules() else base for name in names]
        elif isinstance(node, ast.Import):
            ours = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.removeprefix(PACKAGE).removeprefix(".") for name in ours if name.split(".")[0] == PACKAGE)


def allowed(own: str, module: str) -> bool:
    """Tell whether a room may import a module: by the room's name, the module's, or that of a room around it."""
    folder = room(module)
    around = {".".join(folder.split(".")[:n]) + ".*" for n in range(1, folder.count(".") + 2)}
    return folder == own or bool(MAY_IMPORT[own] & {folder, module, *around})


@pytest.mark.parametrize("module", sorted(modules()))
def test_each_module_imports_only_what_stands_below_it(module: str) -> None:
    own = room(module)
    assert own in MAY_IMPORT, f"{module}: say in MAY_IMPORT what {own} stands on"
    wrong = sorted({name for name in imported(modules()[module]) if name and not allowed(own, name)})
    assert not wrong, f"{module} ({own}) must not import {wrong}"


def test_no_room_stands_on_itself_by_way_of_others() -> None:
    arrows: dict[str, set[str]] = {}
    for module, path in modules().items():
        targets = {name for name in imported(path) if name and not name.endswith("config")}
        arrows.setdefault(room(module), set()).update(room(name) for name in targets if room(name) != room(module))
    below: set[str] = set()
    while free := {name for name, targets in arrows.items() if name not in below and targets <= below | {name}}:
        below |= free
    assert not arrows.keys() - below - {""}, f"a circle among {sorted(arrows.keys() - below)}"


def test_every_package_is_named_for_the_wheel() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name, path in modules().items():
        if path.name == "__init__.py" and name:
            assert f'    "{PACKAGE}.{name}",' in text, f"{name} is not in [tool.setuptools] packages"


def test_importing_the_package_loads_no_processor_and_no_exporter() -> None:
    code = (
        "import sys, otel_telemetry;"
        "print([m for m in sys.modules if m.startswith(('otel_telemetry.processors', 'otel_telemetry.exporters'))])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"


def test_the_public_names_are_these() -> None:
    assert sorted(otel_telemetry.__all__) == [
        "__version__",
        "cache",
        "configure",
        "event",
        "feedback",
        "flush",
        "request",
    ]
    for name in otel_telemetry.__all__:
        assert getattr(otel_telemetry, name) is not None
