"""`otel-telemetry report`: what the rows say, as tables or JSON."""

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape, render
from rich.table import Table
from sqlalchemy.exc import DatabaseError

from otel_telemetry import settings
from otel_telemetry.errors import ConfigurationError
from otel_telemetry.exporters.request_log.report import Report, RouteSummary

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}

#: Columns: heading, field, digits behind the point where it is a number. Where the window is too narrow for all, those
#: that `_SPARE` names are left out, in its order: no figure is ever cut.
_LATEST = (
    ("time", "ts", None),
    ("service", "service", None),
    ("route", "route", None),
    ("model", "model", None),
    ("calls", "llm_calls", 0),
    ("prompt", "prompt_tokens", 0),
    ("cached", "cached_tokens", 0),
    ("out", "completion_tokens", 0),
    ("ms", "latency_ms", 0),
    ("ttfb ms", "ttfb_ms", 0),
    ("USD", "cost_usd", 6),
    ("degraded", "degraded", None),
    ("error", "error", None),
)
_ROUTES = (
    ("route", "route", None),
    ("requests", "requests", 0),
    ("ok", "ok", 0),
    ("calls", "llm_calls", 0),
    ("prompt", "prompt_tokens", 0),
    ("cached", "cached_tokens", 0),
    ("out", "completion_tokens", 0),
    ("p50 ms", "latency_p50_ms", 0),
    ("p95 ms", "latency_p95_ms", 0),
    ("p50 ttfb", "ttfb_p50_ms", 0),
    ("USD", "cost_usd", 6),
    ("unpriced", "unpriced", 0),
)
_DAYS = (
    ("day", "day", None),
    ("requests", "requests", 0),
    ("calls", "llm_calls", 0),
    ("prompt", "prompt_tokens", 0),
    ("out", "completion_tokens", 0),
    ("USD", "cost_usd", 6),
    ("unpriced", "unpriced", 0),
)

_SPARE = (
    "service",
    "latency_p95_ms",
    "cached_tokens",
    "ttfb_ms",
    "ttfb_p50_ms",
    "llm_calls",
    "completion_tokens",
    "prompt_tokens",
    "error",
    "model",
    "unpriced",
    "latency_ms",
    "latency_p50_ms",
    "degraded",
)
_TEXT_WIDTH = 24

Columns = Sequence[tuple[str, str, int | None]]


class By(StrEnum):
    """What the rows are put together by; `request` shows the latest ones as they are."""

    ROUTE = "route"
    DAY = "day"
    REQUEST = "request"


def report(
    *,
    by: Annotated[By, typer.Option(help="Sum up by route or by day, or show the latest requests.")] = By.ROUTE,
    since: Annotated[
        str | None, typer.Option(help="From when on: 90m, 24h, 7d, 4w, or a date like 2026-11-21.", show_default="all")
    ] = None,
    limit: Annotated[int, typer.Option(help="How many of the latest requests to show.", min=1)] = 20,
    db: Annotated[
        str | None,
        typer.Option("--db", help="SQLAlchemy URL of the request_log database.", metavar="URL", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a list of objects.")] = False,
) -> None:
    """Show cost, tokens and latency by route or by day, or the latest requests.

    [bold]Try it:[/] otel-telemetry report --since 24h, then --by request. Costs sum up what is known; `unpriced`
    counts the requests whose cost is not.
    """
    begin = _time(since)
    given = {"request_log": {"url": db}} if db else {}
    with Report(settings.load(**given).request_log) as answers:
        queries: dict[By, tuple[Columns, Callable[[], Sequence[Any]]]] = {
            By.ROUTE: (_ROUTES, lambda: answers.by_route(begin)),
            By.DAY: (_DAYS, lambda: answers.by_day(begin)),
            By.REQUEST: (_LATEST, lambda: answers.latest(limit)),
        }
        columns, query = queries[by]
        try:
            rows = query()
        except DatabaseError as error:
            raise ConfigurationError(
                "request_log.url", f"cannot be read as a request_log: {error.orig}", "correct the path, or --db"
            ) from None
    if as_json:
        json.dump([dataclasses.asdict(row) for row in rows], sys.stdout, default=str, indent=2)
        sys.stdout.write("\n")
        return
    title = f"latest {len(rows)} requests" if by is By.REQUEST else f"by {by}"
    Console().print(table(title, columns, rows, Console().width) if rows else "no requests yet")


def routes(rows: Sequence[RouteSummary], width: int) -> Table:
    """Return cost and latency by route as a table for a window of that width."""
    return table("by route", _ROUTES, rows, width)


def table(title: str, columns: Columns, rows: Sequence[Any], width: int) -> Table:
    """Return rows as a table: numbers to the right, with the digits given; what is not known is a dash."""
    columns = _fitting(columns, rows, width)
    made = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading, _, digits in columns:
        right = {"justify": "right"} if digits is not None else {"max_width": _TEXT_WIDTH}
        made.add_column(heading, no_wrap=True, **right)
    for row in rows:
        made.add_row(*(_cell(getattr(row, name), digits) for _, name, digits in columns))
    return made


def _fitting(columns: Columns, rows: Sequence[Any], width: int) -> Columns:
    """Return the columns that fit into a window."""
    kept = list(columns)
    for spare in _SPARE:
        if sum(_width(column, rows) for column in kept) < width:
            break
        kept = [column for column in kept if column[1] != spare]
    return kept


def _width(column: tuple[str, str, int | None], rows: Sequence[Any]) -> int:
    heading, name, digits = column
    longest = max((cell_len(render(_cell(getattr(row, name), digits)).plain) for row in rows), default=0)
    return max(len(heading), longest if digits is not None else min(longest, _TEXT_WIDTH)) + 3  # the room between two


def _cell(value: Any, digits: int | None) -> str:
    if value is None:
        return "[dim]-[/]"
    if isinstance(value, datetime):
        return f"{value:%m-%d %H:%M:%S}"
    if digits is not None and isinstance(value, int | float | Decimal):
        return f"{value:,.{digits}f}"
    return escape(str(value))


def _time(since: str | None) -> datetime | None:
    """Return the moment that `--since` names, in UTC."""
    if since is None:
        return None
    if ago := re.fullmatch(r"(\d+)([mhdw])", since):
        return datetime.now(UTC) - int(ago[1]) * _UNITS[ago[2]]
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        raise typer.BadParameter(f"{since!r} is neither an age like 24h nor a date", param_hint="--since") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
