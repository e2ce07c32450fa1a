"""Backends that are packages of the index, each in an environment of its own, outside of the repository.

With REQUIRE_BUILT=1 (`make e2e`) what is missing is installed there; else tests that need it are skipped.
"""

import subprocess
import sys
from pathlib import Path

from tests.backends import programs
from tests.company import environments


def program(name: str, package: str, executable: str) -> Path:
    """Return an executable of a package's environment."""
    folder = environments.cache() / name
    found = folder / "bin" / executable
    if not found.exists() and programs.required(programs.REQUIRE_BUILT):
        subprocess.run([environments.uv(), "venv", "--quiet", "--python", sys.executable, folder], check=True)
        python = folder / "bin" / "python"
        subprocess.run([environments.uv(), "pip", "install", "--quiet", "--python", python, package], check=True)
    if not found.exists():
        programs.absent(f"{package} is not in {folder}", programs.REQUIRE_BUILT)
    return found
