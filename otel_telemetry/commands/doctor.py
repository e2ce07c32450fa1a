"""`otel-telemetry doctor`: what works in this environment, what does not, and the next step."""

import dataclasses

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from otel_telemetry.commands import tables
from otel_telemetry.commands.checkup import State, checkup
from otel_telemetry.commands.options import AsJson

_COLOURS = {State.OK: "green", State.NOTE: "yellow", State.PROBLEM: "bold red"}


def doctor(
    *,
    as_json: AsJson = False,
) -> None:
    """Look at everything that telemetry depends on here: versions, loader, settings, exporters, database, spool, clock.

    Run it where the app or the gateway runs, with the same environment. Nothing is written; what the gateway forwards
    to is asked with empty requests. Exit code 1: there is a problem.

    [bold]Try it:[/] otel-telemetry doctor
    """
    found = checkup()
    out = Console(highlight=False)
    if as_json:
        tables.as_json([dataclasses.asdict(check) for check in found])
    else:
        table = Table.grid(padding=(0, 2))
        for check in found:
            state = f"[{_COLOURS[check.state]}]{check.state}[/]"
            hint = f"\n[dim]next:[/] {escape(check.next)}" if check.next else ""
            table.add_row(state, check.name, tables.visible(check.detail) + hint)
        out.print(table)
    raise typer.Exit(1 if any(check.state is State.PROBLEM for check in found) else 0)
