"""A lock between the processes of one gateway: its holder may write to the database.

SQLite takes one writer at a time and lets the others try again after growing pauses, so that most of the time none
writes. Here they queue: the next writer is woken at once. The lock is advisory and belongs to a process: the kernel
releases it when the process dies. SQLite itself still serialises other writers of the same database.
"""

import tempfile
from types import TracebackType
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, where there is no gateway, and so but one process that shares a lock
    fcntl = None  # type: ignore[assignment]


class WriteLock:
    """A lock between processes that share a file; held in a `with` by one of them at a time. By default a new one."""

    def __init__(self, file: IO[bytes] | None = None) -> None:
        self._file = file or tempfile.TemporaryFile()  # noqa: SIM115  # `close` does

    def fileno(self) -> int:
        """Return the file's descriptor, for a process that is to share it."""
        return self._file.fileno()

    def __enter__(self) -> None:
        """Wait for the lock."""
        if fcntl is not None:
            fcntl.lockf(self._file, fcntl.LOCK_EX)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let the next one write."""
        if fcntl is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
