"""ClickHouse's HTTP interface: a statement and its rows as one request, and what its errors mean."""

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote, urlencode, urlsplit

import orjson
import urllib3

from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable, TelemetryError

KEY: Final = "request_log.clickhouse.url"
_HINT: Final = "write it as http://user:password@host:8123/database"
_TIMEOUT: Final = urllib3.Timeout(connect=5.0, read=120.0)
_OK: Final = 200
_CODE: Final = "X-ClickHouse-Exception-Code"
#: Numbers of ClickHouse's errors (src/Common/ErrorCodes.cpp) that lie in a value that it was given.
_ROWS_FAULT: Final = frozenset({6, 25, 26, 27, 38, 41, 53, 69, 70, 72, 117, 131, 349, 407, 441, 469})
#: Those that lie in the settings, or in a schema that is not ours.
_SETTING: Final = frozenset({16, 36, 47, 60, 81, 192, 193, 194, 497, 516})
_SHOWN: Final = 300


class RowsRefused(TelemetryError):
    """ClickHouse does not take a value of what it was given."""


class ClickHouse:
    """One database of a server."""

    def __init__(self, url: str) -> None:
        """Raise ConfigurationError where the URL cannot be used; errors do not contain the password."""
        parts = urlsplit(url)
        self.database = parts.path.strip("/")
        with contextlib.suppress(ValueError):
            if parts.scheme in {"http", "https"} and parts.hostname and parts.port and self.database.isidentifier():
                self.address = f"{parts.scheme}://{parts.hostname}:{parts.port}"
                self._pool = urllib3.PoolManager(retries=False, timeout=_TIMEOUT)
                self._headers = {"X-ClickHouse-User": unquote(parts.username or "default")}
                if parts.password:
                    self._headers["X-ClickHouse-Key"] = unquote(parts.password)
                return
        raise ConfigurationError(KEY, "not the URL of a ClickHouse server with port and database", _HINT)

    def run(self, statement: str, body: bytes = b"") -> bytes:
        """Run a statement, with the rows that it inserts; return the answer.

        Raises StoreUnavailable where trying again may help, ConfigurationError where only other settings or
        `otel-telemetry clickhouse init` do, RowsRefused where it is the rows.
        """
        url = f"{self.address}/?{urlencode({'query': statement})}"
        try:
            answer = self._pool.request("POST", url, body=body, headers=self._headers)
        except urllib3.exceptions.HTTPError as error:
            raise StoreUnavailable(f"ClickHouse at {self.address} does not answer: {type(error).__name__}") from error
        if answer.status != _OK:
            raise _refusal(self.address, answer.headers.get(_CODE, ""), answer.data.decode("utf-8", "replace"))
        return answer.data

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Return the rows of a query."""
        return [orjson.loads(line) for line in self.run(f"{query} FORMAT JSONEachRow").splitlines()]

    def insert(self, table: str, rows: Iterable[Mapping[str, Any]], token: str) -> None:
        """Insert rows; of two inserts with one token the server takes the first."""
        statement = f"INSERT INTO {self.database}.{table} SETTINGS insert_deduplication_token = '{token}'"
        self.run(f"{statement} FORMAT JSONEachRow", b"\n".join(map(_encode, rows)))


def _encode(row: Mapping[str, Any]) -> bytes:
    return orjson.dumps(row, default=str, option=orjson.OPT_NON_STR_KEYS)  # names of columns are no plain texts


def _refusal(address: str, code: str, text: str) -> TelemetryError:
    message = text.strip()[:_SHOWN]
    number = int(code) if code.isdigit() else 0
    if number in _ROWS_FAULT:
        return RowsRefused(message)
    if number in _SETTING:
        return ConfigurationError(KEY, f"ClickHouse at {address} refuses: {message}", "otel-telemetry clickhouse init")
    return StoreUnavailable(f"ClickHouse at {address} cannot take rows now: {message}")
