"""The database as pages read it: read-only, with limits of time, and with errors in words."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

import sqlalchemy as sa

from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable
from otel_telemetry.exporters.request_log.clickhouse import reader as columns
from otel_telemetry.exporters.request_log.clickhouse.dialect import NotThere
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.operate import figures, limits
from otel_telemetry.ui import problems
from otel_telemetry.ui.config import UiSettings

SECONDS: Final = 5.0


def databases(settings: UiSettings, config: RequestLogSettings) -> tuple[str, str]:
    """Return the URLs of the database that is read, and of the one that is written to, which may be the same."""
    own = config.url if settings.database_url is None else settings.database_url.get_secret_value()
    return columns.url_of(own, config.clickhouse.url), columns.url_of(config.url, config.clickhouse.url)


class Reading:
    """Opens the database when it is first needed: it may not be there yet when the page is."""

    def __init__(self, url: str, seconds: float = SECONDS) -> None:
        #: Of which database it is.
        self.url = url
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
        except NotThere as error:
            raise problems.not_there(error) from error
        except StoreUnavailable as error:
            raise problems.away() from error
        except ConfigurationError as error:
            raise problems.of_configuration(error) from error

    def _opened(self) -> sa.Engine:
        with self._lock:
            if self._engine is None:
                self._engine = limits.reader(self.url, self._seconds)
                weakref.finalize(self, self._engine.dispose)
            return self._engine

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None
