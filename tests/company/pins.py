"""The versions that releases are proved with: `make pins` brings the files up to date with pyproject.toml.

`constraints.txt` has all extras, for every system and Python version that is supported. `deploy/requirements.txt` has
what the image installs, with the hashes of all its files, and `deploy/build-requirements.txt` what builds the wheel
there. Versions stay as they are as long as they fit; `make pins UPGRADE=1` takes the newest.
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

from tests.company.environments import ROOT, uv

CONSTRAINTS: Final = ROOT / "constraints.txt"
IMAGE: Final = ROOT / "deploy" / "requirements.txt"
BUILD: Final = ROOT / "deploy" / "build-requirements.txt"
IMAGE_EXTRAS: Final = ("postgres", "redis")
_HEADER: Final = "# The versions this release was proved with; made by: make pins\n"


def _compile(given: str | Path, target: Path, *options: str) -> None:
    command = [str(uv()), "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
    command += ["--no-annotate", "--no-header", "--output-file", str(target), *options]
    command += ["--upgrade"] if os.environ.get("UPGRADE") else []
    if isinstance(given, Path):
        subprocess.run([*command, str(given)], check=True, cwd=ROOT)
    else:
        subprocess.run([*command, "-"], input=given, text=True, check=True, cwd=ROOT)
    target.write_text(_HEADER + target.read_text(encoding="utf-8").removeprefix(_HEADER), encoding="utf-8")


def main() -> int:
    """Write the three files."""
    project = ROOT / "pyproject.toml"
    builds_with = tomllib.loads(project.read_text(encoding="utf-8"))["build-system"]["requires"]
    _compile(project, CONSTRAINTS, "--all-extras")
    same = ("--generate-hashes", "--constraint", str(CONSTRAINTS))
    _compile(project, IMAGE, *same, *(word for extra in IMAGE_EXTRAS for word in ("--extra", extra)))
    _compile("\n".join(builds_with), BUILD, *same)
    return 0


if __name__ == "__main__":
    sys.exit(main())
