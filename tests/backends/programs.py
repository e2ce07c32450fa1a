"""Finds the programs of real backends for tests: none is a reason to skip, or to fail where REQUIRE_BACKENDS=1.

With REQUIRE_BACKENDS=1 and as root, what is missing is installed from the distribution's packages first, saying so.
What has no package and is built for tests (builds.py) is required with REQUIRE_BUILT=1.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

import pytest

REQUIRE = "REQUIRE_BACKENDS"
REQUIRE_BUILT = "REQUIRE_BUILT"


def required(variable: str = REQUIRE) -> bool:
    """Tell whether a missing backend is a failure."""
    return os.environ.get(variable, "") not in ("", "0")


def program(name: str, package: str, folders: Iterable[str] = ()) -> Path:
    """Return a program, from PATH or from folders that may hold wildcards; the newest where there are several."""
    found = _find(name, folders)
    if found is None and required():
        _install(package)
        found = _find(name, folders)
    if found is None:
        absent(f"{name} is not installed (Debian: apt-get install {package})")
    return found


def absent(reason: str, variable: str = REQUIRE) -> NoReturn:
    """Skip the test, or fail it where such backends are required."""
    if required(variable):
        pytest.fail(f"{reason}, and {variable}=1", pytrace=False)
    pytest.skip(f"{reason}; {variable}=1 makes this a failure")


def _find(name: str, folders: Iterable[str]) -> Path | None:
    on_path = shutil.which(name)
    found = [path / name for pattern in folders for path in sorted(Path("/").glob(pattern.lstrip("/")), key=_version)]
    there = [path for path in found if path.exists()]
    return there[-1] if there else Path(on_path) if on_path else None


def _version(folder: Path) -> list[int]:
    return [int(part) for part in folder.parts if part.isdigit()]


@cache
def _install(package: str) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    print(f"{REQUIRE}=1: installing {package} with apt-get")  # noqa: T201  # a machine is being changed: say so
    _no_cluster_of_its_own()
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", package]):
        subprocess.run(["apt-get", "-qq", *command], env=environment, check=False, timeout=600, capture_output=True)


def _no_cluster_of_its_own() -> None:
    """Debian's package would start a server of its own; tests start theirs."""
    folder = Path("/etc/postgresql-common")
    if not folder.exists():
        folder.mkdir()
        (folder / "createcluster.conf").write_text("create_main_cluster = false\n")


class Server(Protocol):
    """What can be started, and stopped for good."""

    def start(self) -> None:
        """Return once it answers."""

    def close(self) -> None:
        """End it."""


S = TypeVar("S", bound=Server)


@contextmanager
def in_a_folder(make: Callable[[Path], S]) -> Iterator[S]:
    """Run a server in a temporary folder of its own for as long as the block lasts."""
    folder = Path(tempfile.mkdtemp(prefix="backend-"))
    try:
        server = make(folder)
        try:
            server.start()
            yield server
        finally:
            server.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
