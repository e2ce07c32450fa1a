"""What is installed is declared and pinned: imports, versions, hashes; `make matrix` resolves it for each system."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.company import environments, pins

PROJECT: Final[dict[str, Any]] = tomllib.loads((environments.ROOT / "pyproject.toml").read_text())["project"]
#: The systems that have to be able to install the wheel, as uv calls them, with the extras for which there are wheels.
PLATFORMS: Final = {
    "x86_64-manylinux_2_28": "audit,config,demo,kafka,postgres,redis",
    "aarch64-manylinux_2_28": "audit,config,demo,kafka,postgres,redis",
    "aarch64-apple-darwin": "audit,config,demo,kafka,postgres,redis",
    "x86_64-apple-darwin": "config,demo,kafka,postgres,redis",  # cryptography 50 has none there
    "x86_64-pc-windows-msvc": "audit,config,demo,kafka,postgres,redis",
}
#: Of a namespace or of another name than its distribution.
_DISTRIBUTIONS: Final = {
    "google.protobuf": "protobuf",
    "google.rpc": "googleapis-common-protos",
    "opentelemetry.configuration": "opentelemetry-configuration",
    "opentelemetry.exporter.otlp": "opentelemetry-exporter-otlp",
    "opentelemetry.exporter.prometheus": "opentelemetry-exporter-prometheus",
    "opentelemetry.instrumentation": "opentelemetry-instrumentation",
    "opentelemetry.instrumentation.asgi": "opentelemetry-instrumentation-asgi",
    "opentelemetry.instrumentation.logging": "opentelemetry-instrumentation-logging",
    "opentelemetry.proto": "opentelemetry-proto",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "opentelemetry": "opentelemetry-api",
    "pydantic_core": "pydantic",  # which pins it
}


def _requirements() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"]
    return [Requirement(line) for line in (*PROJECT["dependencies"], *(one for name in extras for one in extras[name]))]


def _imports() -> Iterator[tuple[str, str]]:
    """Yield each module that the package imports, and the file."""
    for folder in ("otel_telemetry", "processors", "exporters", "examples/chat_app"):
        for path in sorted((environments.ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    yield from ((alias.name, str(path)) for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                    yield node.module, str(path)


def _distribution(module: str, of_top: dict[str, list[str]]) -> str:
    parts = module.split(".")
    for count in range(len(parts), 0, -1):
        if known := _DISTRIBUTIONS.get(".".join(parts[:count])):
            return known
    return of_top.get(parts[0], parts)[0]  # of an extra that is not installed: of the same name


def test_each_package_that_is_imported_is_declared() -> None:
    users = {extra: lines for extra, lines in PROJECT["optional-dependencies"].items() if extra != "dev"}
    lines = [*PROJECT["dependencies"], *(line for extra in users.values() for line in extra)]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    of_top = dict(metadata.packages_distributions())
    missing = {
        (name, path)
        for module, path in _imports()
        if (top := module.partition(".")[0]) not in sys.stdlib_module_names and top != "otel_telemetry"
        if canonicalize_name(name := _distribution(module, of_top)) not in declared
    }
    assert not missing


def test_each_direct_dependency_has_a_floor_or_is_a_tool() -> None:
    tools = {"types-protobuf", "types-pyyaml", "grpc-stubs", "otel-telemetry"}
    assert [str(one) for one in _requirements() if not one.specifier and one.name not in tools] == []


def _pinned(file: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==(\S+)", file.read_text(encoding="utf-8"), re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def test_each_dependency_is_pinned_at_a_version_that_it_allows() -> None:
    pinned = _pinned(pins.CONSTRAINTS)
    for one in _requirements():
        if one.name != "otel-telemetry":
            versions = pinned[canonicalize_name(one.name)]
            assert all(one.specifier.contains(version, prereleases=True) for version in versions), one


@pytest.mark.parametrize("file", [pins.IMAGE, pins.BUILD], ids=lambda file: file.name)
def test_the_image_s_packages_have_hashes_and_the_versions_of_the_constraints(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert "://" not in text, "an address of an index: whoever builds has one of their own"
    entries = re.split(r"\n(?=[\w.-]+==)", text)[1:]
    assert entries
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    constraints = _pinned(pins.CONSTRAINTS)
    assert {name: versions for name, versions in _pinned(file).items() if not versions <= constraints[name]} == {}


def test_the_image_installs_all_that_the_package_and_its_extras_need() -> None:
    pinned = _pinned(pins.IMAGE)
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *(line for extra in pins.IMAGE_EXTRAS for line in extras[extra])]
    assert {canonicalize_name(Requirement(line).name) for line in lines} <= set(pinned)


needs_registry = pytest.mark.skipif("MATRIX" not in os.environ, reason="asks the package index: make matrix")


@pytest.fixture(scope="module", name="wheel")
def wheel_fixture() -> Path:
    """The wheel of this checkout."""
    return environments.wheel()


@needs_registry
@pytest.mark.timeout(600)
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_wheel_and_all_it_needs_can_be_installed_as_wheels(wheel: Path, platform: str, python: str) -> None:
    command = [str(environments.uv()), "pip", "compile", "--quiet", "--only-binary", ":all:", "--no-header"]
    command += ["--python-platform", platform, "--python-version", python, "--constraint", str(pins.CONSTRAINTS), "-"]
    given = f"otel-telemetry[{PLATFORMS[platform]}] @ {wheel.as_uri()}"
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    engine = "google-re2" if "windows" in platform else "hyperscan"
    assert f"\n{engine}==" in done.stdout
