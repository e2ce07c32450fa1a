"""What can go wrong with a page, in words, with the status of HTTP and the next step."""

from http import HTTPStatus
from typing import Final

from sqlalchemy import exc

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.exporters.request_log.clickhouse.dialect import NotThere
from otel_telemetry.exporters.request_log.db import database
from otel_telemetry.exporters.request_log.operate import limits


class Problem(Exception):
    """An error page: `title` says what is wrong, `hint` what to do next, perhaps after some seconds."""

    def __init__(self, status: HTTPStatus, title: str, hint: str, retry_after: int = 0) -> None:
        super().__init__(title)
        self.retry_after = retry_after
        self.status = status
        self.title = title
        self.hint = hint


def bad(name: str, value: str, hint: str) -> Problem:
    """Return what is wrong with one part of a URL, by its name."""
    return Problem(HTTPStatus.BAD_REQUEST, f"{name}={value[:_SHOWN]!r} is not understood", hint)


def of_database(error: exc.DBAPIError) -> Problem:
    """Return what an error of the database means for who looks at a page."""
    if limits.is_stopped(error):
        hint = "choose a shorter time or fewer filters, then load the page again"
        return Problem(HTTPStatus.GATEWAY_TIMEOUT, "the database took too long to answer", hint)
    if database.lacks_schema(error):
        hint = "write to it once with this version (a gateway upgrades it as it starts), then load the page again"
        return Problem(HTTPStatus.CONFLICT, "the database was written by another version", hint)
    if limits.is_too_much(error):
        return too_many()
    if database.unavailable(error):
        return away()
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the database cannot be read as a request_log", "check --db")


def away() -> Problem:
    """Return what it means that the database does not answer."""
    hint = "load the page again in a moment; if it stays, see that the database runs"
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "the database is away or locked", hint)


def not_there(error: NotThere) -> Problem:
    """Return what it means that a database has not all that is in the one that is written to."""
    hint = "open the page over the database that is written to, with otel-telemetry ui --db or in the gateway"
    return Problem(HTTPStatus.NOT_IMPLEMENTED, error.problem, hint)


def too_many() -> Problem:
    """Return what it means that more rows would have to be read than a page waits for."""
    hint = "choose a shorter time or a filter more, or see these requests in the list"
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "too many requests to sum up with this filter", hint)


def of_configuration(error: ConfigurationError) -> Problem:
    """Return what a setting that cannot be used means for a page."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"{error.key}: {error.problem}", error.hint)


_SHOWN: Final = 80
