"""A small disk: a tmpfs of a few MB that is seen in a mount namespace only, and gone with the last process in it.

A namespace of users comes with it where the system allows that, so that nobody has to be root. Of what is in it, this
side sees the same files by another path (`seen`).
"""

import contextlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pytest

MEGABYTES = 24
#: Ways to a mount of one's own: for everybody, and for root where namespaces of users are forbidden.
_WAYS = (("--user", "--map-root-user", "--mount"), ("--mount",))
_MOUNT = 'mount -t tmpfs -o "size=$1m,mode=700" tmpfs "$2" && echo mounted && exec cat'  # until its input ends
_ENTER = 'cd "$0" && exec "$@"'


class SmallDisk:
    """A file system at `folder` with little room. `within` is a command that runs another one where it is seen."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._holder: subprocess.Popen[bytes] | None = None
        self._namespaces: Sequence[str] = ()

    def __enter__(self) -> Self:
        self.folder.mkdir()
        problems = [self._hold(way) for way in _WAYS if self._holder is None]
        if self._holder is None:
            pytest.skip(f"no small file system can be mounted here: {'; '.join(problems)}")
        return self

    def _hold(self, way: Sequence[str]) -> str:
        command = ["unshare", *way, "sh", "-c", _MOUNT, "sh", str(MEGABYTES), str(self.folder)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        try:
            holder = subprocess.Popen(command, cwd="/", **pipes)  # type: ignore[call-overload] # of any keywords
        except FileNotFoundError:
            return "there is no unshare (Debian: apt-get install util-linux)"
        if holder.stdout.readline() == b"mounted\n":
            self._holder, self._namespaces = holder, ["--user", "--preserve-credentials"] if "--user" in way else []
            return ""
        _, error = holder.communicate()
        return str(error, errors="replace").strip()

    def __exit__(self, *error: object) -> None:
        if self._holder:
            self._holder.communicate()

    @property
    def within(self) -> list[str]:
        assert self._holder
        enter = ["nsenter", "--target", str(self._holder.pid), "--mount", *self._namespaces]
        return [*enter, "sh", "-c", _ENTER, str(self.folder.parent)]

    def seen(self, path: Path) -> Path:
        """Return where this side finds a file of it."""
        assert self._holder
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def copy(self, name: str) -> Path:
        """Copy a database with its log to this side, where SQLite can open it: it takes no path through /proc."""
        target = self.folder.with_name("copied")
        target.mkdir()
        for path in self.seen(self.folder).glob(f"{name}*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, target)
        return target / name

    def fill(self, name: str) -> Path:
        """Write into a file until there is no room left; return it."""
        path = self.seen(self.folder / name)
        with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(65536)):
                pass
        return path
