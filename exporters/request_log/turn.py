"""Whose turn it is to write, among the processes of one gateway.

SQLite takes one writer at a time and lets the others look again after pauses that grow, so that most of the time none
writes. Here they queue: who waits is woken at once. The lock is advisory, of the kind that belongs to a process: the
kernel takes it back from one that dies. Other writers of the same database are still told apart by SQLite itself.
"""

import fcntl
import tempfile
from types import TracebackType
from typing import IO


class Turn:
    """A lock between processes that share a file; held in a `with` by one of them at a time. By default a new one."""

    def __init__(self, file: IO[bytes] | None = None) -> None:
        self._file = file or tempfile.TemporaryFile()  # noqa: SIM115  # `close` does

    def fileno(self) -> int:
        """Return the file's descriptor, for a process that is to share it."""
        return self._file.fileno()

    def __enter__(self) -> None:
        """Wait until it is this process's turn."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let the next one write."""
        fcntl.lockf(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
