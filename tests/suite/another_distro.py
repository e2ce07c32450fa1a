"""Packages of others: one with a distro and a configurator of its own, one whose instrumentation fails."""

from pathlib import Path

DISTRO = """
from opentelemetry.instrumentation.distro import BaseDistro
from opentelemetry.sdk._configuration import _OTelSDKConfigurator

class Distro(BaseDistro):
    def _configure(self, **kwargs):
        print("the other distro", flush=True)

class Configurator(_OTelSDKConfigurator):
    def _configure(self, **kwargs):
        print("the other configurator", flush=True)
        super()._configure(**kwargs)
"""


def other_distro(folder: Path) -> str:
    """Install a package with a distro and a configurator of its own, before ours on the path; return the path."""
    points = (
        "[opentelemetry_distro]\nanother = another_distro:Distro\n"
        "[opentelemetry_configurator]\nanother = another_distro:Configurator\n"
    )
    return _install(folder, "another_distro", DISTRO, points)


def failing_instrumentation(folder: Path, fault: str) -> str:
    """Install an instrumentation whose module does `fault` when it is imported; return the path."""
    return _install(folder, "failing", fault, "[opentelemetry_instrumentor]\nfailing = failing:Instrumentor\n")


def _install(folder: Path, name: str, module: str, points: str) -> str:
    packages = folder / "packages"
    info = packages / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (packages / f"{name}.py").write_text(module)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)
    return str(packages)
