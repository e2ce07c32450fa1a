"""ClickHouse as a database that is only read: by reports, the page, and exports."""

from typing import Final

import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy import exc
from sqlalchemy.dialects import registry

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.exporters.request_log.clickhouse import dbapi, tables
from otel_telemetry.exporters.request_log.clickhouse.client import KEY, ClickHouse
from otel_telemetry.exporters.request_log.clickhouse.dialect import READ_KEY, Dialect

#: Stands for the URL of the ClickHouse that rows are sent to.
WORD: Final = "clickhouse"
#: What begins a URL of ClickHouse, by the scheme of its HTTP interface.
SCHEMES: Final = {"clickhouse": "http", "clickhouse+http": "http", "clickhouse+https": "https"}
_PORTS: Final = {"http": 8_123, "https": 8_443}
_NAME: Final = "otel_telemetry"
_HINT: Final = "write it as clickhouse://user:password@host:8123/database, or clickhouse+https://... for TLS"
#: How long a query may take where nobody says less.
_SECONDS: Final = 600.0


def names(url: str) -> bool:
    """Return whether a URL is one of ClickHouse."""
    return url.partition("://")[0] in SCHEMES


def url_of(url: str, sent_to: SecretStr | None) -> str:
    """Return a URL; that of the ClickHouse that rows are sent to, where it is the word `clickhouse`.

    Raises ConfigurationError where no rows are sent to any.
    """
    if url != WORD:
        return url
    if sent_to is None:
        hint = "set it, or name the server: clickhouse://user:password@host:8123/database"
        raise ConfigurationError(KEY, "is not set, so there is no ClickHouse to be asked", hint)
    scheme, _, rest = sent_to.get_secret_value().partition("://")
    return f"clickhouse+{scheme}://{rest}"


def reader(url: str, seconds: float = _SECONDS, rows: int = 0) -> sa.Engine:
    """Return an engine for reading only, whose queries end after so many seconds, and beyond so many rows; 0: any.

    Raises ConfigurationError where the URL cannot be used, or the tables are not there or of another version, and
    StoreUnavailable where the server does not answer.
    """
    server = ClickHouse(_address(url), READ_KEY, _HINT)
    tables.check(server)
    registry.register(f"{_NAME}.clickhouse", Dialect.__module__, Dialect.__name__)
    return sa.create_engine(
        f"{_NAME}+clickhouse://", creator=lambda: dbapi.connect(server, seconds, rows), poolclass=sa.NullPool
    )


def _address(url: str) -> str:
    """Return the URL of the HTTP interface."""
    try:
        parsed = sa.make_url(url)
        scheme = SCHEMES[parsed.drivername]
    except (exc.ArgumentError, ValueError, KeyError):
        raise ConfigurationError(READ_KEY, "not the URL of a ClickHouse server", _HINT) from None
    port = parsed.port or _PORTS[scheme]
    return parsed.set(drivername=scheme, port=port).render_as_string(hide_password=False)
