"""What the demo prints: the rows, what they cost, what was redacted, and which promises held."""

import statistics
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from examples.chat_app.demo.checks import Check
from examples.chat_app.demo.found import Found, Row, by

#: Narrower than this, tables of rows break; where the output goes to a file there is no width.
_NARROWEST: Final = 150
_NUMBERS: Final = ("prompt_tokens", "cached_tokens", "completion_tokens", "latency_ms", "ttfb_ms")
_UNKNOWN: Final = "[dim]-[/]"


def console() -> Console:
    """Return a console that is wide enough."""
    found = Console()
    return found if found.width >= _NARROWEST or found.is_terminal else Console(width=_NARROWEST)


def request_table(rows: tuple[Row, ...]) -> Table:
    """Return the request_log, its most telling columns."""
    table = Table(title=f"request_log: {len(rows)} rows", title_justify="left", row_styles=["", "dim"])
    for name in ("time", "service", "route", "model", "ip_hash", "question, as stored", "degraded or error"):
        table.add_column(name, no_wrap=True, max_width=44 if "," in name else 30)
    for name in ("calls", "prompt", "cached", "out", "ms", "ttfb", "USD"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> list[str]:
    why = f"[red]{escape(row['error'] or 'failed')}[/]" if not row["ok"] else f"[yellow]{row['degraded'] or ''}[/]"
    return [
        str(row["ts"])[11:23],
        row["service"] or "",
        row["route"] or _UNKNOWN,
        row["model"] or _UNKNOWN,
        row["ip_hash"] or _UNKNOWN,
        escape((row["query_text"] or "").replace("\n", " ")) or _UNKNOWN,
        why,
        str(row["llm_calls"]),
        *(
            _number(row[name])
            for name in ("prompt_tokens", "cached_tokens", "completion_tokens", "latency_ms", "ttfb_ms")
        ),
        _money(row["cost_usd"]),
    ]


def route_table(found: Found) -> Table:
    """Return cost and latency by route."""
    table = Table(title="by route", title_justify="left")
    table.add_column("route")
    for name in ("requests", "failed", "p50 ms", "max ms", "p50 ttfb", "prompt", "cached", "out", "USD", "unpriced"):
        table.add_column(name, justify="right")
    for route, rows in sorted(by(found.requests, "route").items(), key=lambda item: -len(item[1])):
        called = [row for row in rows if row["llm_calls"]]
        table.add_row(
            route or _UNKNOWN,
            str(len(rows)),
            str(sum(not row["ok"] for row in rows)),
            _number(_median(rows, "latency_ms")),
            _number(max(row["latency_ms"] for row in rows)),
            _number(_median(rows, "ttfb_ms")),
            *(_number(sum(row[f"{name}_tokens"] or 0 for row in rows)) for name in ("prompt", "cached", "completion")),
            _money(sum(row["cost_usd"] or 0 for row in rows)),
            str(sum(row["cost_usd"] is None for row in called)),
        )
    return table


def redaction_table(found: Found) -> Table:
    """Return what was redacted, by type, and who did it."""
    table = Table(title="redacted", title_justify="left")
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
        out.print(f" {mark} {check.promise}  [dim]{escape(check.seen)}[/]", soft_wrap=True)


def print_next(out: Console, folder: Path) -> None:
    """Say where to look next."""
    database = folder / "telemetry.db"
    query = "SELECT route, count(*), sum(cost_usd), avg(latency_ms) FROM request_log GROUP BY route"
    out.print("\n[bold]look yourself[/]")
    out.print(f' sqlite3 {database} "{query}"', soft_wrap=True, highlight=False)
    out.print(f" what each program printed: {folder / 'logs'}", soft_wrap=True, highlight=False)
    out.print(" what it all means: README.md", soft_wrap=True, highlight=False)


def _median(rows: list[Row], column: str) -> float | None:
    known = [row[column] for row in rows if row[column] is not None]
    return statistics.median(known) if known else None


def _number(value: Any) -> str:
    return _UNKNOWN if value is None else f"{value:,.0f}"


def _money(value: Any) -> str:
    return _UNKNOWN if value is None else f"{value:.6f}"
