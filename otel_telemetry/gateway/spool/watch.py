"""Notices that somebody deleted, moved or replaced the file of a spool in use, or its write-ahead log.

SQLite goes on with the deleted files, which nobody finds again after a crash. They are whole as long as the gateway
runs: an orderly stop writes what they hold to spool.db (see `put_back`).
"""

import logging
from pathlib import Path
from typing import Final

from otel_telemetry.gateway.spool import spool_file

_GONE: Final = (
    "%s was deleted or replaced: nothing more is accepted; stop the gateway with SIGTERM, which saves what it had"
    " acknowledged, and start it again"
)

_log = logging.getLogger("otel_telemetry.gateway.spool")


class FileWatch:
    """The file of the spool in `folder`, just opened, and its log. `gone` is what is wrong once one is away, or ""."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / spool_file.FILE_NAME
        self._log = folder / f"{spool_file.FILE_NAME}-wal"
        self._opened = _identity(self._file) or (0, 0)
        self._opened_log = _identity(self._log)
        self.gone = ""
        self.look()

    def look(self) -> None:
        """Look whether they are still the files that were there before; a log that never was there is not missed."""
        self._opened_log = self._opened_log or _identity(self._log)
        for path, there in ((self._file, not self.file_gone()), (self._log, self.log_is_ours())):
            if not there and not self.gone:
                self.gone = _GONE % path.name
                _log.error("%s", self.gone)

    def file_gone(self) -> bool:
        """Return whether spool.db is not the file any more that is in use."""
        return _differs(self._file, self._opened)

    def log_is_ours(self) -> bool:
        """Return whether spool.db-wal is still the one that is in use."""
        return not _differs(self._log, self._opened_log)


def _differs(path: Path, before: tuple[int, int] | None) -> bool:
    """Return whether a path is not the file that it was; not where nobody can say."""
    try:
        return _identity(path) != before
    except OSError:
        return False


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat(follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
