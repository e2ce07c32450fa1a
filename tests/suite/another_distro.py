"""Another distribution with a distro and a configurator of its own, as others' packages bring them."""

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
    packages = folder / "packages"
    info = packages / "another_distro-1.0.dist-info"
    info.mkdir(parents=True)
    (packages / "another_distro.py").write_text(DISTRO)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: another-distro\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[opentelemetry_distro]\nanother = another_distro:Distro\n"
        "[opentelemetry_configurator]\nanother = another_distro:Configurator\n"
    )
    return str(packages)
