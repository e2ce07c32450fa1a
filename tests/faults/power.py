"""Power that fails: of every file the disk has what was synced, and torn pieces of what came after.

A kill leaves all that a process ever wrote, since the kernel has it. So what a program has had synced is followed by a
small library in front of the C library (power.c); `fail` puts each file back to that.
"""

import shutil
import subprocess
from pathlib import Path

from tests.backends import programs

_SOURCE = Path(__file__).with_name("power.c")


class Power:
    """Follows the databases in a folder and below it. `env` makes a process be followed."""

    def __init__(self, folder: Path) -> None:
        compiler = programs.program("cc", "build-essential")
        self._folder = folder
        self._synced = folder / "synced"
        self._synced.mkdir()
        library = folder / "power.so"
        command = [str(compiler), "-O1", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"]
        built = subprocess.run(command, check=False, timeout=60, capture_output=True, text=True)
        if built.returncode:
            programs.absent(f"{compiler} cannot build {_SOURCE.name}: {built.stderr.strip()[:300]}")
        self.env = {"LD_PRELOAD": str(library), "POWER_FOLDER": str(folder), "POWER_SYNCED": str(self._synced)}

    def fail(self) -> list[str]:
        """Leave of each database what is surely on the disk, and a torn tail; return the names of what is left.

        A file that was never synced is gone. Nobody may have any of them open.
        """
        files = [path for path in self._folder.rglob("*.db*") if path.is_file() and self._synced not in path.parents]
        return sorted(path.name for path in files if self._put_back(path))

    def _put_back(self, path: Path) -> bool:
        written = path.read_bytes()
        synced = self._synced / str(path).replace("/", "%")
        path.unlink()
        if not synced.exists():
            return False
        shutil.copy(synced, path)
        size = synced.stat().st_size
        if path.name.endswith("-wal") and len(written) > size:  # half of what came after
            with path.open("ab") as file:
                file.write(written[size : size + (len(written) - size) // 2])
        return True
