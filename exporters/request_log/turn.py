"""Whose turn it is to write, among the processes of one gateway.

SQLite takes one writer at a time and lets the others look again after pauses that grow, so that most of the time none
writes. Here they queue: who waits is woken at once. The lock is advisory, of the kind that belongs to a process: the
kernel takes it back from one that dies. Other writers of the same database are still told apart by SQLite itself.
"""

import fcntl
import os
import tempfile
from types import TracebackType
from typing import Self


class Turn:
    """A lock between processes that share the file behind `fd`; held in a `with` by one of them at a time."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def new(cls) -> Self:
        """Make one: an empty file without a name."""
        with tempfile.TemporaryFile() as file:
            return cls(os.dup(file.fileno()))

    def __enter__(self) -> None:
        """Wait until it is this process's turn."""
        fcntl.lockf(self.fd, fcntl.LOCK_EX)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let the next one write."""
        fcntl.lockf(self.fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self.fd)
