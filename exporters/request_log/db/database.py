"""The database itself: opens it for writing or reading, upgrades the schema, classifies its errors.

sqlite.py and postgres.py contain what differs between SQLite and PostgreSQL; this module chooses one by the URL.
"""

from pathlib import Path
from types import ModuleType
from typing import Final

import sqlalchemy as sa
from sqlalchemy import exc

from otel_telemetry.base.errors import ConfigurationError, SchemaTooNew, StoreUnavailable
from otel_telemetry.exporters.request_log.db import (
    older,
    outbox,  # noqa: F401 - its tables are some of the schema
    postgres,
    redactions,  # noqa: F401 - its table is one of the schema
    rollups,  # noqa: F401 - its tables are some of the schema
    schema,
    sqlite,
)

_KEY: Final = sqlite.KEY
_HINT: Final = "use sqlite:///relative.db, sqlite:////absolute.db or postgresql://user:password@host/database"
_KINDS: Final[dict[str, ModuleType]] = {
    "sqlite": sqlite,
    "sqlite+pysqlite": sqlite,
    "postgresql": postgres,
    "postgresql+psycopg": postgres,
}
#: A copy (clickhouse/reader.py): rows reach it by the relay alone.
_READ_ONLY: Final = "clickhouse"
_MISSING: Final = ("no such table", "no such column")


def connect(url: str) -> sa.Engine:
    """Return an engine for writing, the schema being current.

    Raises ConfigurationError where the URL cannot be used or names a database of another system, SchemaTooNew, or
    StoreUnavailable where waiting may help.
    """
    parsed = parse(url)
    kind = _KINDS[parsed.drivername]
    engine: sa.Engine = kind.writer(parsed)
    try:
        with engine.begin() as connection:
            _upgrade(connection)
    except exc.DBAPIError as error:
        engine.dispose()
        raise kind.refusal(error, parsed) or unavailable(error) or error from error
    except BaseException:
        engine.dispose()
        raise
    return engine


def attach(url: str) -> sa.Engine:
    """Return an engine for writing to a database that is there, and is not upgraded.

    Raises ConfigurationError where there is none, or none that we can use.
    """
    reader(url).dispose()
    parsed = parse(url)
    engine: sa.Engine = _KINDS[parsed.drivername].writer(parsed)
    return engine


def reader(url: str, idle: int = 0) -> sa.Engine:
    """Return an engine for reading only; raises ConfigurationError where there is no such database of ours yet.

    On PostgreSQL so many connections stay open when nobody uses them.
    """
    parsed = parse(url)
    engine: sa.Engine = _KINDS[parsed.drivername].reader(parsed, idle)
    return engine


def snapshot(engine: sa.Engine) -> sa.Connection:
    """Return a connection of a reader that sees all tables as they are at one moment, until it is closed."""
    if engine.dialect.name == "postgresql":
        return engine.connect().execution_options(isolation_level="REPEATABLE READ")
    connection = engine.connect()
    connection.exec_driver_sql("BEGIN")
    return connection


def parse(url: str) -> sa.URL:
    """Return the parsed URL of a database that we can use. Errors do not contain the password."""
    if url.partition("://")[0].partition("+")[0] == _READ_ONLY:
        raise ConfigurationError(_KEY, "ClickHouse is only read, by report, show, export and ui", _HINT)
    try:
        parsed = sa.make_url(url)
    except (exc.ArgumentError, ValueError):
        raise ConfigurationError(_KEY, "not a database URL", _HINT) from None
    kind = _KINDS.get(parsed.drivername)
    if kind is None:
        raise ConfigurationError(_KEY, f"{parsed.drivername} is not a database that this version writes to", _HINT)
    kind.check(parsed)
    return parsed


def unavailable(error: BaseException) -> StoreUnavailable | None:
    """Return an error as StoreUnavailable where trying again can help; None where what was written is at fault."""
    driver_error = error.orig if isinstance(error, exc.DBAPIError) else error
    lost = isinstance(error, exc.DBAPIError) and error.connection_invalidated
    if lost or any(kind.is_passing(driver_error) for kind in (sqlite, postgres)):
        return StoreUnavailable(f"the database is away, locked or full: {driver_error}")
    return None


def lacks_schema(error: exc.DBAPIError) -> bool:
    """Return whether a table or column is missing: an older version wrote the database, and readers change nothing."""
    return str(error.orig).startswith(_MISSING) or type(error.orig).__name__ in {"UndefinedTable", "UndefinedColumn"}


def _upgrade(connection: sa.Connection) -> None:
    """Bring the schema to HEAD. The version is read under the write lock: of several processes one does the work."""
    version = None
    if sa.inspect(connection).has_table(schema.VERSION_TABLE):
        version = connection.exec_driver_sql(f"SELECT version_num FROM {schema.VERSION_TABLE}").scalar()  # noqa: S608
    if version == schema.HEAD:
        return
    if version is None:
        older.refuse(connection)
    from alembic import command  # noqa: PLC0415  # 100 ms that only a new or old database costs
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[1] / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise SchemaTooNew(
            f"the database has schema {version}, this version knows up to {schema.HEAD}; nothing was changed. "
            "next: install the newer otel-telemetry, or point request_log.url at another database"
        )
    command.upgrade(config, "head")
