"""The database as pages read it: read-only, with limits of time, and with errors in words."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

import sqlalchemy as sa

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.exporters.request_log.operate import figures, limits
from otel_telemetry.ui import problems

SECONDS: Final = 5.0


class Reading:
    """Opens the database when it is first needed: it may not be there yet when the page is."""

    def __init__(self, url: str, seconds: float = SECONDS) -> None:
        self._url = url
        self._seconds = seconds
        self._lock = Lock()
        self._engine: sa.Engine | None = None

    @contextmanager
    def connection(self) -> Iterator[sa.Connection]:
        """Lend a connection; raises Problem for errors of the database."""
        try:
            with self._opened().connect() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            raise problems.of_database(error) from error
        except figures.TooMany as error:
            raise problems.too_many() from error
        except ConfigurationError as error:
            raise problems.of_configuration(error) from error

    def _opened(self) -> sa.Engine:
        with self._lock:
            if self._engine is None:
                self._engine = limits.reader(self._url, self._seconds)
                weakref.finalize(self, self._engine.dispose)
            return self._engine

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None
