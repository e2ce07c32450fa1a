"""`otel-telemetry tail`: requests as they come in, a line each."""

import dataclasses
import json
import os
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from otel_telemetry.base import records
from otel_telemetry.base.foreign_text import plain, plain_json
from otel_telemetry.commands.options import Database, request_log
from otel_telemetry.exporters.request_log.operate.tail import Filter, Tail


def tail(
    *,
    route: Annotated[str | None, typer.Option(help="Only requests of this route.", metavar="NAME")] = None,
    model: Annotated[str | None, typer.Option(help="Only requests that this model answered.", metavar="NAME")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only requests that failed or were degraded.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Begin with so many of the latest.", min=0)] = 10,
    db: Database = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each, with all columns.")] = False,
) -> None:
    """Show requests as their rows are committed; Ctrl-C ends it.

    [bold]Try it:[/] otel-telemetry tail --failed

    Whoever writes them: it looks at the database. Expensive ones: otel-telemetry tail --json | jq
    'select((.cost_usd // 0 | tonumber) > 0.01)'. A request whose row changes, because spans of it come late, is shown
    again.
    """
    console = Console(highlight=False)
    try:
        with Tail(request_log(db).url, Filter(route, model, failed)) as rows:
            for row in rows.last(lines):
                _print(console, row, as_json=as_json)
            for row in rows.follow():
                _print(console, row, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit from None
    except BrokenPipeError:  # whoever read this has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None


def _print(console: Console, row: records.Request, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(plain_json(json.dumps(dataclasses.asdict(row), default=str, ensure_ascii=False)) + "\n")
        sys.stdout.flush()
    else:
        console.print(_line(row), soft_wrap=True)


def _line(row: records.Request) -> Text:
    """Return a request as a line: when, where, who answered, how long, what went in and out, what it cost."""
    line = Text(f"{row.ts:%H:%M:%S} ")
    line.append(f"{plain(row.route or '-'):<16} ", "bold")
    line.append(f"{plain(row.model or '-'):<20} ", "cyan")
    line.append(f"{_number(row.latency_ms):>7} ms  ")
    line.append(f"{_number(row.prompt_tokens):>6} > {_number(row.completion_tokens):<6} ", "dim")
    line.append(f"{'-' if row.cost_usd is None else f'{row.cost_usd:.6f}':>9} USD")
    if row.cache_hit:
        line.append("  cached", "green")
    if row.degraded:
        line.append(f"  {plain(row.degraded)}", "yellow")
    if not row.ok or row.error:
        line.append(f"  {plain((row.error or 'failed').splitlines()[0])}", "red")
    return line


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
