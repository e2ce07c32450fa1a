"""How the command line shows a warning, and the errors that are expected: one readable line, and the next step."""

from typing import Final

from rich.console import Console
from rich.markup import escape
from sqlalchemy.exc import DBAPIError

from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable, TelemetryError
from otel_telemetry.exporters.request_log.db import database

_err: Final = Console(stderr=True)
_OLDER: Final = (
    "[dim]next:[/] write to it once with this version, which brings its tables up to date (a gateway does as it starts)"
)
_AGAIN: Final = "[dim]next:[/] when it is there again, run this again; what was done is done, and is not repeated"


def warn(text: str) -> None:
    """Print a warning to stderr."""
    _err.print(f"[bold yellow]warning[/] {escape(text)}")


def show(error: Exception) -> int | None:
    """Print an expected error to stderr; return the exit code: 2 for settings, 1 for the rest, None if unexpected."""
    if isinstance(error, ConfigurationError):
        _err.print(f"[bold red]error[/] [bold]{escape(error.key)}[/]: {escape(error.problem)}")
        if error.hint:
            _err.print(f"[dim]next:[/] {escape(error.hint)}")
        return 2
    if isinstance(error, TelemetryError):
        _err.print(f"[bold red]error[/] {escape(str(error))}")
        if hint := getattr(error, "hint", ""):
            _err.print(f"[dim]next:[/] {escape(hint)}")
        elif isinstance(error, StoreUnavailable) and "next:" not in str(error):
            _err.print(_AGAIN)
        return 1
    if isinstance(error, DBAPIError):
        _err.print(f"[bold red]error[/] [bold]request_log.url[/]: the database says: {escape(str(error.orig).strip())}")
        _err.print(_OLDER if database.lacks_schema(error) else _AGAIN)
        return 1
    return None
