"""What several commands take: the database, periods of time, JSON; and the progress bars that they show."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from otel_telemetry import settings
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.settings import Settings

_UNITS: Final = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}

Database = Annotated[
    str | None,
    typer.Option(
        "--db",
        help="SQLAlchemy URL of the request_log database.",
        metavar="URL",
        show_default="request_log.url",
    ),
]
Readable = Annotated[
    str | None,
    typer.Option(
        "--db",
        help="SQLAlchemy URL of the request_log database, or of its copy in ClickHouse: "
        "clickhouse://user:password@host:8123/database, or the word clickhouse for request_log.clickhouse.url.",
        metavar="URL",
        show_default="request_log.url",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Since = Annotated[
    str | None, typer.Option(help="From when on: 90m, 24h, 7d, 4w, or a date like 2026-11-21.", show_default="all")
]
Until = Annotated[
    str | None, typer.Option(help="Until when (not included): an age or a date, as for --since.", show_default="now")
]


def load(db: str | None) -> Settings:
    """Resolve the settings, with the database that was given."""
    return settings.load(**({"request_log": {"url": db}} if db else {}))


def request_log(db: str | None) -> RequestLogSettings:
    """Return the settings of the request_log, with the database that was given."""
    return load(db).request_log


def readable(db: str | None) -> RequestLogSettings:
    """Return the settings of the request_log with the database that is to be read, ClickHouse too."""
    from otel_telemetry.exporters.request_log.clickhouse import reader  # noqa: PLC0415 - SQLAlchemy, for some commands

    config = request_log(db)
    return config.model_copy(update={"url": reader.url_of(config.url, config.clickhouse.url)})


def moment(text: str | None, option: str) -> datetime | None:
    """Return the moment that an age (24h) or a date names, in UTC."""
    if text is None:
        return None
    if ago := re.fullmatch(r"(\d{1,6})([mhdw])", text):
        return datetime.now(UTC) - int(ago[1]) * _UNITS[ago[2]]
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither an age like 24h nor a date", param_hint=option) from None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def progress() -> Progress:
    """Return a progress bar on stderr, that goes when it is done; nothing where that is no terminal.

    Tasks have a description, and a total or None.
    """
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
