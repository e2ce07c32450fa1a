"""ClickHouse as a DBAPI module (PEP 249) for queries: what SQLAlchemy needs of a driver, over HTTP.

Values of a query go as parameters beside it, each with its type: they are never part of the SQL text. Answers are read
as they come. Every query is sent with settings that make ClickHouse read as the other databases do (`_READING`), that
forbid it to change anything, and with the limits that the connection was opened with.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

import orjson
import urllib3

from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.exporters.request_log.clickhouse.client import ClickHouse, ServerError, is_of_setting

apilevel = "2.0"
threadsafety = 1
paramstyle = "pyformat"

#: Rows as they are after all merges; a partition is a month, and a row never moves to another one. Columns win over
#: aliases of the same name. Nothing may be changed, and a query ends with the connection that waits for it.
_READING: Final = {
    "readonly": "2",
    "final": "1",
    "do_not_merge_across_partitions_select_final": "1",
    "join_use_nulls": "1",
    "prefer_column_name_to_alias": "1",
    "cancel_http_readonly_queries_on_client_close": "1",
    "wait_end_of_query": "1",
    "default_format": "JSONCompactEachRowWithNamesAndTypes",
    "output_format_json_quote_decimals": "1",
    "output_format_json_quote_64bit_integers": "0",
    "output_format_json_quote_denormals": "1",
}
#: A query is given so much longer to answer than ClickHouse is to work on it.
_GRACE_SECONDS: Final = 10.0
_DIGITS: Final = (38, 76)
_ESCAPES: Final = str.maketrans(
    {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0", "\b": "\\b", "\f": "\\f"}
)

Row = tuple[Any, ...]
Convert = Callable[[Any], Any]


class Error(Exception):
    """What ClickHouse answers instead of rows; `code` is the number of the error."""

    def __init__(self, message: str, code: int = 0) -> None:
        self.code = code
        super().__init__(message)


class DatabaseError(Error):
    """An error of the database."""


class OperationalError(DatabaseError):
    """A limit was reached."""


class ProgrammingError(DatabaseError):
    """A query that ClickHouse does not understand."""


#: The rest of PEP 249's names, which SQLAlchemy looks for.
Warning = InterfaceError = DataError = IntegrityError = InternalError = NotSupportedError = ProgrammingError  # noqa: A001

#: Limits of time, rows and memory (src/Common/ErrorCodes.cpp).
TIMEOUT: Final = frozenset({159, 160, 209})
TOO_MUCH: Final = frozenset({158, 241, 307, 396})


def connect(server: ClickHouse, seconds: float, rows: int) -> "Connection":
    """Return a connection whose queries end after so many seconds, and with an error beyond so many rows; 0: any."""
    limits = {"max_execution_time": f"{seconds:g}", "timeout_before_checking_execution_speed": "0"}
    if rows:
        limits |= {"max_result_rows": str(rows), "result_overflow_mode": "throw"}
    return Connection(server, _READING | limits, seconds + _GRACE_SECONDS)


class Connection:
    """One database of a server, read only. There are no transactions; each query is a request of its own."""

    def __init__(self, server: ClickHouse, settings: Mapping[str, str], seconds: float) -> None:
        self.server = server
        self.settings = {"database": server.database, **settings}
        self.seconds = seconds

    def cursor(self) -> "Cursor":
        """Return what runs a query."""
        return Cursor(self)

    def commit(self) -> None:
        """There is nothing to commit."""

    def rollback(self) -> None:
        """There is nothing to take back."""

    def close(self) -> None:
        """Requests keep no connection open."""


class Cursor:
    """One query and its rows."""

    arraysize = 1
    lastrowid = None
    rowcount = -1

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: Iterator[Row] = iter(())
        self._answer: Any = None
        #: Name and type of each column, as PEP 249 has them.
        self.description: list[tuple[Any, ...]] | None = None

    def execute(self, operation: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Run a query whose parameters are written `%(name)s`."""
        self.close()
        names = {name: "NULL" if value is None else _named(name, value) for name, value in (parameters or {}).items()}
        sent = {f"param_{name}": _text(value) for name, value in (parameters or {}).items() if value is not None}
        body = (operation % names).encode()
        server = self._connection.server
        try:
            self._answer = server.ask(self._connection.settings | sent, body, self._connection.seconds)
        except ServerError as error:
            if is_of_setting(error):
                raise server.misconfigured(error) from error
            raise (OperationalError if error.code in TIMEOUT | TOO_MUCH else ProgrammingError)(
                str(error), error.code
            ) from error
        lines = self._lines(server)
        header = next(lines, None)
        if header is not None:
            types = next(lines)
            self.description = [
                (name, kind, None, None, None, None, None) for name, kind in zip(header, types, strict=True)
            ]
            self._rows = _converted(lines, types)

    def _lines(self, server: ClickHouse) -> Iterator[list[Any]]:
        try:
            for line in self._answer:
                yield orjson.loads(line)
        except urllib3.exceptions.HTTPError as error:
            raise server.away(error) from error
        except orjson.JSONDecodeError as error:
            raise StoreUnavailable(f"ClickHouse at {server.address} broke off its answer") from error

    def fetchone(self) -> Row | None:
        """Return the next row, None where there is none."""
        return next(self._rows, None)

    def fetchmany(self, size: int = arraysize) -> list[Row]:
        """Return the next rows."""
        return [row for _, row in zip(range(size), self._rows, strict=False)]

    def fetchall(self) -> list[Row]:
        """Return all rows that are left."""
        return list(self._rows)

    def close(self) -> None:
        """Let go of the answer."""
        self._rows = iter(())
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def setinputsizes(self, sizes: Any) -> None:
        """Types of parameters are those of their values."""

    def setoutputsize(self, size: Any, column: Any = None) -> None:
        """Columns have any size."""


def _named(name: str, value: Any) -> str:
    """Return how a query names a parameter: with the type of its value."""
    return f"{{{name}:{_type_of(value)}}}"


def _type_of(value: Any) -> str:
    if isinstance(value, Decimal):
        scale = max(0, -int(value.as_tuple().exponent))
        return f"Decimal({_DIGITS[0] if scale <= _DIGITS[0] // 2 else _DIGITS[1]}, {scale})"
    return next(kind for of, kind in _TYPES if isinstance(value, of))


#: In this order: a bool is an int too.
_TYPES: Final[Sequence[tuple[type, str]]] = (
    (bool, "Bool"),
    (int, "Int64"),
    (float, "Float64"),
    (datetime, "DateTime64(6, 'UTC')"),
    (str, "String"),
)


def _text(value: Any) -> str:
    """Return a value as a parameter of HTTP has it: as in a file of tab-separated values."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:f}" if isinstance(value, Decimal) else str(value).translate(_ESCAPES)


def _converted(lines: Iterator[list[Any]], types: Sequence[str]) -> Iterator[Row]:
    """Yield rows with Python's values: money as Decimal, times with their zone, and floats that JSON wrote as 1."""
    found = [(place, convert) for place, kind in enumerate(types) if (convert := _converter(kind))]
    for values in lines:
        for place, convert in found:
            if values[place] is not None:
                values[place] = convert(values[place])
        yield tuple(values)


def _converter(kind: str) -> Convert | None:
    bare = kind.removeprefix("LowCardinality(").removeprefix("Nullable(")
    if bare.startswith("Array("):
        of_item = _converter(bare.removeprefix("Array("))
        return None if of_item is None else lambda values: [None if each is None else of_item(each) for each in values]
    return next((convert for name, convert in _CONVERTERS.items() if bare.startswith(name)), None)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


_CONVERTERS: Final[Mapping[str, Convert]] = {
    "Decimal": Decimal,
    "DateTime": _moment,
    "Date": date.fromisoformat,
    "Float": float,
}
