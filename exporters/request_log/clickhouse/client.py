"""ClickHouse's HTTP interface: a statement with its rows or parameters as one request, and what its errors mean."""

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote, urlencode, urlsplit

import orjson
import urllib3

from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable, TelemetryError

KEY: Final = "request_log.clickhouse.url"
_HINT: Final = "write it as http://user:password@host:8123/database"
_CONNECT_SECONDS: Final = 5.0
_READ_SECONDS: Final = 120.0
_OK: Final = 200
_CODE: Final = "X-ClickHouse-Exception-Code"
#: Numbers of ClickHouse's errors (src/Common/ErrorCodes.cpp) that lie in a value that it was given.
_ROWS_FAULT: Final = frozenset({6, 25, 26, 27, 38, 41, 53, 69, 70, 72, 117, 131, 349, 407, 441, 469})
_INIT: Final = "otel-telemetry clickhouse init"
_ACCOUNT: Final = "correct user and password, or GRANT its user what the message names"
_READ_ONLY: Final = "give the profile of this user readonly = 2 (or 0): settings of a query have to be allowed"
_READONLY: Final = 164
#: Those that lie in the settings, or in a schema that is not ours, with the next step.
_SETTING: Final = {
    **dict.fromkeys((16, 36, 47, 60, 81), _INIT),
    **dict.fromkeys((192, 193, 194, 497, 516), _ACCOUNT),
    _READONLY: _READ_ONLY,
}
_SHOWN: Final = 300


class RowsRefused(TelemetryError):
    """ClickHouse does not take a value of what it was given."""


class ServerError(Exception):
    """What ClickHouse says instead of an answer; `code` is the number of the error, 0 where it gave none."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)


class ClickHouse:
    """One database of a server; `key` is the setting that named it."""

    def __init__(self, url: str, key: str = KEY, hint: str = _HINT) -> None:
        """Raise ConfigurationError where the URL cannot be used; errors do not contain the password."""
        self.key = key
        parts = urlsplit(url)
        self.database = parts.path.strip("/")
        with contextlib.suppress(ValueError):
            if parts.scheme in {"http", "https"} and parts.hostname and parts.port and self.database.isidentifier():
                host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
                self.address = f"{parts.scheme}://{host}:{parts.port}"
                self._pool = urllib3.PoolManager(retries=False)
                self._headers = {"X-ClickHouse-User": unquote(parts.username or "default")}
                if parts.password:
                    self._headers["X-ClickHouse-Key"] = unquote(parts.password)
                return
        raise ConfigurationError(key, "not the URL of a ClickHouse server with port and database", hint)

    def ask(self, parameters: Mapping[str, str], body: bytes, seconds: float = _READ_SECONDS) -> Any:
        """Send a request; return the answer, whose body has not been read yet and is to be closed.

        Raises StoreUnavailable where there is no answer within `seconds`, ServerError where it is an error.
        """
        url = f"{self.address}/?{urlencode(parameters)}"
        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=seconds)
        try:
            answer = self._pool.request(
                "POST", url, body=body, headers=self._headers, timeout=timeout, preload_content=False
            )
            if answer.status == _OK:
                return answer
            code, text = answer.headers.get(_CODE, ""), answer.data.decode("utf-8", "replace")
        except urllib3.exceptions.HTTPError as error:
            raise self.away(error) from error
        raise ServerError(int(code) if code.isdigit() else 0, text.strip()[:_SHOWN])

    def away(self, error: Exception) -> StoreUnavailable:
        """Return what it means that the connection failed."""
        return StoreUnavailable(f"ClickHouse at {self.address} does not answer: {type(error).__name__}")

    def run(self, statement: str, body: bytes = b"") -> bytes:
        """Run a statement, with the rows that it inserts; return the answer.

        Raises StoreUnavailable where trying again may help, ConfigurationError where only other settings or
        `otel-telemetry clickhouse init` do, RowsRefused where it is the rows.
        """
        try:
            answer = self.ask({"query": statement}, body)
            data: bytes = answer.data
        except ServerError as error:
            raise self.refusal(error) from error
        except urllib3.exceptions.HTTPError as error:
            raise self.away(error) from error
        return data

    def refusal(self, error: ServerError) -> TelemetryError:
        """Return what an error means."""
        if error.code in _ROWS_FAULT:
            return RowsRefused(str(error))
        if error.code in _SETTING:
            return self.misconfigured(error)
        return StoreUnavailable(f"ClickHouse at {self.address} cannot take rows now: {error}")

    def misconfigured(self, error: ServerError) -> ConfigurationError:
        """Return an error as one of the settings, with the next step."""
        hint = _SETTING.get(error.code, "correct the URL")
        return ConfigurationError(self.key, f"ClickHouse at {self.address} refuses: {error}", hint)

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Return the rows of a query."""
        return [orjson.loads(line) for line in self.run(f"{query} FORMAT JSONEachRow").splitlines()]

    def insert_lines(self, table: str, form: tuple[str, str], lines: Iterable[bytes], token: str) -> None:
        """Insert rows, which are lines of these columns in this format; of two inserts with one token, the first."""
        columns, name = form
        settings = f"SETTINGS insert_deduplication_token = '{token}'"
        self.run(f"INSERT INTO {self.database}.{table}{columns} {settings} FORMAT {name}", b"".join(lines))


def is_of_setting(error: ServerError) -> bool:
    """Return whether only other settings, rights or tables help against an error, not another query."""
    return error.code in _SETTING and (error.code != _READONLY or "Cannot modify" in str(error))
