"""An older database, read in one transaction: all of its tables as they were at one moment. It is never written to."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import sqlalchemy as sa
from sqlalchemy import exc

from otel_telemetry.base.errors import ConfigurationError, StoreError
from otel_telemetry.exporters.request_log.db import database, older, postgres, sqlite
from otel_telemetry.exporters.request_log.db.older import CHRONICLE, SYSTEMS, System

_KEY: Final = "OLD"
_AT_ONCE: Final = 500
_BEFORE_ALL: Final = -(1 << 63)
_LOCKED: Final = "database is locked"
#: The revision of chronicle's tables whose columns are known here, and where it is written.
_REVISION: Final = 3
_ASK_REVISION: Final = "SELECT value FROM chronicle_meta WHERE key = 'migration_version'"
_CORRECT: Final = "correct it in a copy of the old database, or leave such rows out with --skip-bad-rows"
_RECOVER: Final = "save what can be read, sqlite3 OLD .recover | sqlite3 NEW, and import the new file"
_REPAIR: Final = "repair the old database, then run this again"
_ORDER: Final = {"chronicle_runs": "created_at, id", "chronicle_steps": "start_time, id"}


@dataclass(slots=True, frozen=True)
class OldRow:
    """One row of an older table. `place` is where it is, as an error names it."""

    system: System
    table: str
    row_name: str
    values: Mapping[str, Any]


class BadRow(StoreError):
    """A row that cannot be read, or is not what its table holds. Nothing was changed. `hint` says what to do next."""

    def __init__(self, table: str, row_name: str, problem: str, hint: str = _CORRECT) -> None:
        self.table = table
        self.row_name = row_name
        self.problem = problem
        self.hint = hint
        super().__init__(f"table {table}, {row_name}: {problem}")


class Source:
    """The database of an older system: `tables` lists its known tables, and the system of each.

    It is named by its URL, or by the path of its file. Raises ConfigurationError if there is none, or an unknown one.
    """

    def __init__(self, named: str) -> None:
        try:
            parsed = database.parse(url_of(named))
        except ConfigurationError as error:
            raise ConfigurationError(_KEY, error.problem, error.hint) from None
        self._shown = parsed.render_as_string(hide_password=True)
        self._path = sqlite.file_of(parsed) if parsed.drivername.startswith("sqlite") else None
        self._stack = ExitStack()
        self._stamp = self._stamped()
        try:
            engine = sqlite.untouched(parsed) if self._path else _frozen(parsed)
            self._stack.callback(engine.dispose)
            self._connection = self._stack.enter_context(engine.connect())
            self.tables = self._known()
        except exc.DBAPIError as error:
            self.close()
            raise self._refusal(error, parsed) from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._stack.close()

    def _stamped(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Return what changes with the file, or with the log beside it."""
        if self._path is None:
            return ()
        if not self._path.is_file():
            raise ConfigurationError(_KEY, f"there is no file {self._path}", "correct the path")
        return tuple(map(_stamp, (self._path, self._path.with_name(self._path.name + "-wal"))))

    def has_changed(self) -> bool:
        """Return whether somebody wrote to the file since it was opened. A server shows each reader one moment."""
        try:
            return self._stamped() != self._stamp
        except ConfigurationError:
            return True

    def _known(self) -> dict[str, System]:
        if older.is_ours(self._connection):
            problem, hint = f"{self._shown} is a database of otel-telemetry itself", "name one of an older system"
            raise ConfigurationError(_KEY, problem, hint)
        inspector = sa.inspect(self._connection)
        there = set(inspector.get_table_names())
        self._check_revision(there)
        tables: dict[str, System] = {}
        for system in SYSTEMS:
            for table, needed in system.tables.items():
                if table in there:
                    missing = needed - {column["name"].lower() for column in inspector.get_columns(table)}
                    if missing:
                        raise self._other_version(f"its table {table} has no {', '.join(sorted(missing))}")
                    tables[table] = system
        if not tables:
            names = ", ".join(name for system in SYSTEMS for name in system.tables)
            raise ConfigurationError(_KEY, f"{self._shown} has none of the tables {names}", "name another database")
        return tables

    def _check_revision(self, there: set[str]) -> None:
        if "chronicle_meta" not in there or not there & set(CHRONICLE.tables):
            return
        value = self._connection.exec_driver_sql(_ASK_REVISION).scalar()
        found = str(value).strip('"')
        if value is not None and found != str(_REVISION):
            raise self._other_version(f"its tables are of revision {found[:20]}, and {_REVISION} is known")

    def _other_version(self, why: str) -> ConfigurationError:
        hint = "bring it to the last version of its own program first"
        return ConfigurationError(_KEY, f"{self._shown} is of another version: {why}", hint)

    def _refusal(self, error: exc.DBAPIError, parsed: sa.URL) -> ConfigurationError:
        if self._path is None:
            refused = postgres.refusal(error, parsed)
            hint = refused.hint if refused else "start the server, or correct the URL"
        elif str(error.orig) == _LOCKED:
            hint = "stop the program that has it open"
        else:
            hint = "name another one; where its program was killed, the -wal or -journal beside it belongs to it"
        message = str(error.orig).strip().splitlines()[0]
        return ConfigurationError(_KEY, f"{self._shown} cannot be read: {message}", hint)

    def count(self, table: str) -> int:
        """Return how many rows a table has; 0 if a file is damaged: `rows` finds out where."""
        try:
            return int(self._connection.exec_driver_sql(f'SELECT count(*) FROM "{table}"').scalar() or 0)  # noqa: S608
        except exc.DBAPIError as error:
            if self._path is None:
                raise BadRow(table, "all rows", str(error.orig).strip(), _REPAIR) from None
            return 0

    def rows(self, table: str) -> Iterator[OldRow]:
        """Yield the rows of a table in the order of their keys; raises BadRow where one cannot be read."""
        system = self.tables[table]
        for row_name, values in self._from_file(table) if self._path else self._from_server(table):
            yield OldRow(system, table, row_name, values)

    def _from_file(self, table: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Read some rows at a time, so that the program whose file it is has to wait for no more than these."""
        last = _BEFORE_ALL
        while True:
            names, rows, fault = self._some(table, last)
            for number, *values in rows:
                last = number
                yield f"row {number}", dict(zip(names, values, strict=True))
            if fault:
                row_name = "the first row" if last == _BEFORE_ALL else f"the row behind row {last}"
                raise BadRow(table, row_name, fault, _RECOVER)
            if len(rows) < _AT_ONCE:
                return

    def _some(self, table: str, last: int) -> tuple[list[str], list[tuple[Any, ...]], str]:
        """Return the names of columns, the rows behind one, and why these are not all that were asked for, if so."""
        raw: Any = self._connection.connection.driver_connection
        query = f'SELECT rowid, * FROM "{table}" WHERE rowid > ? ORDER BY rowid LIMIT {_AT_ONCE}'  # noqa: S608
        names: list[str] = []
        rows: list[tuple[Any, ...]] = []
        try:
            cursor = raw.execute(query, (last,))
            names = [column[0] for column in cursor.description][1:]
            rows.extend(cursor)
            raw.execute("ROLLBACK")  # of reading alone; an earlier fault would keep it from COMMIT
            raw.execute("BEGIN")
        except sqlite3.Error as error:
            return names, rows, str(error)
        return names, rows, ""

    def _from_server(self, table: str) -> Iterator[tuple[str, dict[str, Any]]]:
        query = sa.text(f'SELECT * FROM "{table}" ORDER BY {_ORDER.get(table, "id")}')  # noqa: S608
        last = "the first row"
        try:
            found = self._connection.execution_options(yield_per=_AT_ONCE).execute(query)
            for number, row in enumerate(found.mappings(), 1):
                last = f"row {number + 1}"
                yield f"row {number} (id {row['id']})", dict(row)
        except exc.DBAPIError as error:
            raise BadRow(table, last, str(error.orig).strip(), _REPAIR) from None


def url_of(named: str) -> str:
    """Return the URL of a database that is named by it, or by the path of its file."""
    return named if ":" in named else f"sqlite:///{named}"


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns) if found.st_size else None


def _frozen(parsed: sa.URL) -> sa.Engine:
    """Return an engine for reading a server, each of whose transactions sees one moment."""
    engine = sa.create_engine(parsed.set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    sa.event.listen(
        engine, "begin", lambda at: at.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    )
    return engine


def parsed_json(value: Any) -> Any:
    """Return the value of JSON text, `null` as None; a value that is parsed already stays. Raises ValueError."""
    if not isinstance(value, str | bytes):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except ValueError:
        raise ValueError("is not JSON") from None
