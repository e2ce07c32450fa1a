"""The wheel and the sdist as their users have them: `python -m tests.company.wheel DIST`.

Makes an empty environment, installs the wheel with the extra `demo`, writes its bill of materials (build/sbom),
runs what needs nothing but that, then the fast tests of the sdist in its own folder, whose code is the wheel's.
"""

import filecmp
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.company import sbom
from tests.company.environments import ROOT, uv


def main(arguments: Sequence[str]) -> int:
    """Try what is in the folder; the first program that fails ends it."""
    dist = Path(arguments[0]).resolve()
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        python = _environment(folder / "environment", f"{wheel}[demo]")
        command = python.with_name("otel-telemetry")
        sbom.of(python.parents[1], _made(ROOT / "build" / "sbom") / "otel-telemetry.cdx.json")
        for words in (["--version"], ["verify"], ["dashboards", "--out", "dashboards"], ["demo", "--seed", "1"]):
            _run(folder, str(command), *words)
        with tarfile.open(sdist) as packed:
            packed.extractall(folder, filter="data")
        sources = folder / sdist.name.removesuffix(".tar.gz")
        _same(sources / "otel_telemetry", next(python.parents[1].glob("lib/python*/site-packages/otel_telemetry")))
        _install(python, f"{wheel}[dev]")
        _run(sources, str(python), "-m", "pytest", "-q", "@tests/fast.txt")
    return 0


def _same(sources: Path, installed: Path) -> None:
    """Exit unless the wheel has each file of the package as the sdist has it: the tests run the sdist's."""
    files = [str(file.relative_to(sources)) for file in sources.rglob("*") if file.is_file()]
    _, differ, absent = filecmp.cmpfiles(sources, installed, files, shallow=False)
    if differ or absent:
        sys.exit(f"the wheel is not what the sdist is: other {differ}, absent {absent}")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _environment(folder: Path, wheel: str) -> Path:
    subprocess.run([uv(), "venv", "--quiet", "--python", sys.executable, folder], check=True)
    python = folder / "bin" / "python"
    _install(python, wheel)
    return python


def _install(python: Path, *wanted: str) -> None:
    constraints = str(ROOT / "constraints.txt")
    command = [str(uv()), "pip", "install", "--quiet", "--python", str(python), "--constraint", constraints, *wanted]
    subprocess.run(command, check=True)


def _run(folder: Path, *command: str) -> None:
    sys.stdout.write(f"\n== {' '.join(command)}\n")
    sys.stdout.flush()
    subprocess.run(command, cwd=folder, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
