"""A control group of Linux that holds a gateway to so much memory. Needs root, and either version of control groups."""

import secrets
import time
from pathlib import Path

import pytest

_V1, _V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


class MemoryLimit:
    """A group whose processes have `limit` bytes between them; what goes beyond is killed. `within` runs in it."""

    def __init__(self, limit: int) -> None:
        self._v1 = (_V1 / "cgroup.procs").exists()
        self.folder = (_V1 if self._v1 else _V2) / f"otel-telemetry-{secrets.token_hex(4)}"
        try:
            self.folder.mkdir()
            name = "memory.limit_in_bytes" if self._v1 else "memory.max"
            (self.folder / name).write_text(str(limit))
        except OSError as error:
            pytest.skip(f"no control group for memory can be made here: {error}")
        command = f'echo $$ > {self.folder}/cgroup.procs && exec "$@"'
        self.within = ("sh", "-c", command, "sh")

    @property
    def peak(self) -> int:
        """Return the most bytes that were taken, the cache of files among them, which is given up first."""
        name = "memory.max_usage_in_bytes" if self._v1 else "memory.peak"
        return int((self.folder / name).read_text())

    @property
    def killed(self) -> int:
        """Return how many processes were killed for want of memory."""
        name = "memory.oom_control" if self._v1 else "memory.events"
        counts = dict(line.split() for line in (self.folder / name).read_text().splitlines())
        return int(counts.get("oom_kill", 0))

    def close(self) -> None:
        """Remove it, once its processes have ended."""
        for _ in range(50):
            try:
                self.folder.rmdir()
            except OSError:
                time.sleep(0.1)
            else:
                return
