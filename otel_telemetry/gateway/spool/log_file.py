"""Notices that somebody deleted the write-ahead log of a spool in use.

SQLite goes on with the deleted file, which nobody finds again after a crash. It is whole as long as the gateway runs:
an orderly stop writes what it holds to spool.db.
"""

import logging
from pathlib import Path
from typing import Final

from otel_telemetry.gateway.spool import spool_file

_GONE: Final = (
    f"{spool_file.FILE_NAME}-wal was deleted: nothing more is accepted; stop the gateway with SIGTERM, which saves"
    " what it had acknowledged, and start it again"
)

_log = logging.getLogger("otel_telemetry.gateway.spool")


class LogFile:
    """The write-ahead log beside the spool in `folder`. `gone` is what is wrong once it was deleted, or ""."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{spool_file.FILE_NAME}-wal"
        self._file = 0
        self.gone = ""
        self.look()

    def look(self) -> None:
        """Look whether it is still the file that was there before; where there never was one, nothing is missed."""
        try:
            file = self._path.stat().st_ino
        except FileNotFoundError:
            file = 0
        if not self._file:
            self._file = file
        elif file != self._file and not self.gone:
            self.gone = _GONE
            _log.error("%s", _GONE)
