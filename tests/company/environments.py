"""Environments beside the project's own, made by uv outside of the repository: version floors, and neighbours.

Each is $XDG_CACHE_HOME/otel-telemetry/environments/NAME-DIGEST, kept for as long as what is asked for does not change.
"""

import hashlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
EXTRAS = "config,redis,demo,ids,re2,postgres,ner"


def cache() -> Path:
    """Return the folder of all that is made here."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "otel-telemetry" / "environments"


def uv() -> Path:
    """Return uv, installed in an environment of its own where it is not there yet."""
    home = cache() / "uv"
    program = home / "bin" / "uv"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([home / "bin" / "pip", "install", "--quiet", "uv"], check=True)
    return program


def environment(name: str, *arguments: str) -> Path:
    """Return the Python of an environment with what `uv pip install` is given; made once."""
    digest = hashlib.sha256(repr((sys.version, arguments, _metadata())).encode()).hexdigest()[:12]
    folder = cache() / f"{name}-{digest}"
    python, ready = folder / "bin" / "python", folder / ".ready"
    if not ready.exists():
        subprocess.run([uv(), "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run([uv(), "pip", "install", "--quiet", "--python", python, *arguments], check=True, cwd=ROOT)
        ready.touch()
    return python


def _metadata() -> bytes:
    """Return what decides about our own package's dependencies and entry points."""
    return (ROOT / "pyproject.toml").read_bytes()


def wheel() -> Path:
    """Build the wheel from this checkout; return it."""
    folder = cache() / "wheel"
    for old in folder.glob("*.whl"):
        old.unlink()
    subprocess.run([uv(), "build", "--quiet", "--wheel", "--out-dir", folder, ROOT], check=True)
    return next(folder.glob("*.whl"))


def tools_of_tests() -> Iterator[str]:
    """Yield what only tests need, at the versions of constraints.txt: floors are a promise about what users install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pinned = {canonicalize_name(name): f"{name}=={version}" for name, version in pins.items()}
    extras = project["optional-dependencies"]
    users = [*project["dependencies"], *(line for extra, lines in extras.items() if extra != "dev" for line in lines)]
    ours = {canonicalize_name(Requirement(line).name) for line in users} | {"otel-telemetry"}
    for line in extras["dev"]:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        if name not in ours and (requirement.marker is None or requirement.marker.evaluate()):
            yield pinned[name]


def floors() -> Path:
    """Return the Python of an environment in which every direct dependency has its lowest version."""
    return environment("floors", "--resolution", "lowest-direct", *tools_of_tests(), "--editable", f".[{EXTRAS}]")


def resolve(requirements: Sequence[str], *options: str) -> subprocess.CompletedProcess[str]:
    """Let uv resolve requirements, without installing anything."""
    command = [str(uv()), "pip", "compile", "--quiet", "--no-header", "--no-annotate", *options]
    given = "\n".join(requirements)
    return subprocess.run(
        [*command, "--python-version", "3.12", "-"], input=given, capture_output=True, text=True, check=False
    )


if __name__ == "__main__":
    print(floors())  # noqa: T201
