"""Wall clocks that jump under a running gateway: Python's own, or that of everything in its processes.

The second one is libfaketime's, in front of the C library: SQLite, gRPC and PostgreSQL's driver see it too. The steady
clock goes on as it does when somebody sets a machine's time.
"""

import os
import subprocess
from pathlib import Path

from tests.backends import programs

#: Read by every Python process of the gateway at its start; the clock then follows the file.
_PATCH = """
import os, time
_real, _file = time.time_ns, os.environ["CLOCK_OFFSET_FILE"]

def _now():
    with open(_file) as file:
        return _real() + int(file.read() or 0) * 10**9

time.time_ns = _now
time.time = lambda: _now() / 1e9
"""


class _Clock:
    """A file that says how far the clock is off. `env` makes a process follow it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "offset"
        self.env: dict[str, str] = {}
        self.jump(0)

    def jump(self, seconds: int) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(f"{seconds:+d}")
        new.replace(self.file)

    def close(self) -> None:
        """Leave nothing behind."""


class PatchedTime(_Clock):
    """What Python code reads."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        modules = folder / "modules"
        modules.mkdir()
        (modules / "sitecustomize.py").write_text(_PATCH)
        path = os.pathsep.join(filter(None, [str(modules), os.environ.get("PYTHONPATH")]))
        self.env = {"PYTHONPATH": path, "CLOCK_OFFSET_FILE": str(self.file)}


class FakeTime(_Clock):
    """What every call of the C library returns."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        faketime = programs.program("faketime", "faketime")
        command = [str(faketime), "-m", "-f", "+0", "printenv", "LD_PRELOAD"]  # -m: for programs with threads
        library = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
        self.env = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",  # seconds; to read the file at each call would slow everything down
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # for C libraries of old; with new ones it ends waits at once
            "NO_FAKE_STAT": "1",
        }

    def close(self) -> None:
        """Remove what processes that were killed could not."""
        for path in Path("/dev/shm").glob("*faketime_s*_*"):  # noqa: S108 - the library's own place
            if not Path(f"/proc/{path.name.rpartition('_')[2]}").exists():
                path.unlink(missing_ok=True)
