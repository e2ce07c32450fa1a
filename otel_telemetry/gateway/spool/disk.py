"""The free space on the spool's disk. The last of it is reserved for cursors and trimming."""

import sqlite3
from pathlib import Path
from typing import Final

from otel_telemetry.base.errors import DiskFull
from otel_telemetry.gateway.spool import spool_file

_RESERVE_BYTES: Final = 8 << 20
_MIB: Final = 1 << 20


class DiskRoom:
    """Checks whether a batch fits on the disk of `folder`; remembers the largest refused one until one was stored."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._refused = 0

    def room(self) -> int:
        """Return what the disk can take: each byte once in the log, then in the file, as what is in the log now."""
        return (spool_file.disk_left(self._folder) - spool_file.log_bytes(self._folder) - _RESERVE_BYTES) // 2

    def short_of(self, size: int) -> bool:
        """Return whether the disk has no room for so many bytes."""
        return self.room() < size

    def refuse(self, size: int) -> DiskFull:
        """Return the error for a batch that does not fit; `size` is in bytes."""
        self._refused = max(self._refused, size)
        return DiskFull(self.problem())

    def took(self) -> None:
        """Note that a batch was stored."""
        self._refused = 0

    def problem(self) -> str:
        """Return which disk has no room for a batch, or for the largest refused one; "" if there is room."""
        if not self.short_of(max(1, self._refused)):
            return ""
        left = spool_file.disk_left(self._folder) / _MIB
        return (
            f"the disk of {self._folder.absolute()} is nearly full: {left:.1f} MiB are left, of which"
            f" {_RESERVE_BYTES // _MIB} MiB are kept to deliver what is there; make room on it"
        )


def no_room(error: Exception) -> bool:
    """Return whether an error of SQLite means that the disk is full."""
    return (
        isinstance(error, sqlite3.OperationalError)
        and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    )
