"""What the demo prints: the rows, what they cost, what was redacted, and which promises held."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table

from otel_telemetry.commands import report
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.operate.report import ReportQueries

from .checks import Check
from .found import Found, Row
from .store import Store

#: Narrower than this, only the columns that say most are shown; output that goes to a file has this width.
_WIDE: Final = 160
_SMALL: Final = 100
_NUMBER_WIDTH: Final = 5  # numbers are never cut; texts are
_UNKNOWN: Final = "[dim]-[/]"


def _text(value: str | None) -> str:
    return escape(value.replace("\n", " ")) if value else _UNKNOWN


def _why(row: Row) -> str:
    if not row["ok"]:
        return f"[red]{escape(row['error'] or 'failed')}[/]"
    return f"[yellow]{escape(row['degraded'])}[/]" if row["degraded"] else ""


def _number(value: Any) -> str:
    return _UNKNOWN if value is None else f"{value:,.0f}"


def _money(value: Any) -> str:
    return _UNKNOWN if value is None else f"{value:.6f}"


@dataclass(slots=True, frozen=True)
class _Column:
    """One column of the table of requests: how a row's cell is written, and whether it is there in a narrow window."""

    title: str
    cell: Callable[[Row], str]
    number: bool = False
    narrow: bool = False
    width: int | None = None


_COLUMNS: Final = (
    _Column("route", lambda row: row["route"] or _UNKNOWN, narrow=True, width=15),
    _Column("question, as stored", lambda row: _text(row["query_text"]), narrow=True, width=30),
    _Column("degraded or error", _why, narrow=True, width=22),
    _Column("model", lambda row: row["model"] or _UNKNOWN, width=14),
    _Column("ip_hash", lambda row: row["ip_hash"] or _UNKNOWN),
    _Column("calls", lambda row: str(row["llm_calls"]), number=True),
    _Column("prompt", lambda row: _number(row["prompt_tokens"]), number=True),
    _Column("cached", lambda row: _number(row["cached_tokens"]), number=True),
    _Column("out", lambda row: _number(row["completion_tokens"]), number=True),
    _Column("ms", lambda row: _number(row["latency_ms"]), number=True, narrow=True),
    _Column("ttfb", lambda row: _number(row["ttfb_ms"]), number=True),
    _Column("USD", lambda row: _money(row["cost_usd"]), number=True, narrow=True, width=8),
)


def console() -> Console:
    """Return a console as wide as the terminal; what is no terminal gets room for everything."""
    found = Console()
    return found if found.is_terminal else Console(width=_WIDE)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)


def request_table(rows: tuple[Row, ...], width: int) -> Table:
    """Return the request_log, its most telling columns."""
    columns = [column for column in _COLUMNS if column.narrow or width >= _WIDE]
    table = _table(f"request_log: {len(rows)} rows")
    for column in columns:
        side: JustifyMethod = "right" if column.number else "left"
        least = max(len(column.title), _NUMBER_WIDTH, column.width or 0) if column.number else None
        table.add_column(column.title, no_wrap=True, max_width=_width(column, width), min_width=least, justify=side)
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table


def _width(column: _Column, width: int) -> int | None:
    """Return how wide a column may be; in a small window texts give way to numbers."""
    small = width < _SMALL and not column.number and column.width is not None
    return (column.width or 0) * 2 // 3 if small else column.width


def route_table(url: str, width: int) -> Table:
    """Return cost and latency by route, as `otel-telemetry report` shows them."""
    with ReportQueries(RequestLogSettings(url=url)) as answers:
        return report.routes(answers.requests(), width)


def redaction_table(found: Found) -> Table:
    """Return what was redacted, by type, and who did it."""
    table = _table("redacted")
    table.add_column("type")
    for name in ("in the app", "in the gateway"):
        table.add_column(name, justify="right")
    app, gateway = (counters.total("redactions", "type") for counters in (found.app, found.gateway))
    for name, _ in (app + gateway).most_common():
        table.add_row(name, str(app[name]), str(gateway[name]))
    return table


def print_checks(out: Console, checks: list[Check]) -> None:
    """Print each promise with a tick or a cross."""
    out.print("[bold]checked[/]")
    for check in checks:
        mark = "[green]✓[/]" if check.held else "[bold red]✗[/]"
        out.print(f" {mark} {check.promise}  [dim]{escape(check.seen)}[/]", soft_wrap=True, highlight=False)


def print_next(out: Console, store: Store) -> None:
    """Say where to look next."""
    out.print("\n[bold]look yourself[/]")
    if store.is_file:
        database = store.folder / "telemetry.db"
        query = "SELECT route, count(*), sum(cost_usd), avg(latency_ms) FROM request_log GROUP BY route"
        page = f"otel-telemetry ui --db sqlite:///{database}"
        out.print(f" in the browser, at http://127.0.0.1:4320/ui/: {page}", soft_wrap=True, highlight=False)
        out.print(" the same with the gateway and its pipeline: make demo KEEP=1", soft_wrap=True, highlight=False)
        out.print(f' sqlite3 {database} "{query}"', soft_wrap=True, highlight=False)
    else:
        out.print(f" the rows, as they were read: {store.folder}/*.jsonl", soft_wrap=True, highlight=False)
    out.print(f" what each program printed: {store.folder / 'logs'}", soft_wrap=True, highlight=False)
    out.print(" what it all means: README.md", soft_wrap=True, highlight=False)
