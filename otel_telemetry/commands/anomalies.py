"""`otel-telemetry anomalies`: list hours that differ from the same hours of the weeks before."""

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from otel_telemetry.commands import tables
from otel_telemetry.commands.options import AsJson, Database, load, moment
from otel_telemetry.exporters.request_log.anomalies.incidents import Anomaly, Found, look
from otel_telemetry.exporters.request_log.db import database
from otel_telemetry.exporters.request_log.kpis.definitions import compiled

_err = Console(stderr=True)
_SHOWN = 5


def anomalies(
    *,
    since: Annotated[
        str, typer.Option(help="Judge the hours from then on: 24h, 7d, 4w, or a date like 2026-11-21.")
    ] = "7d",
    at: Annotated[
        str | None, typer.Option(help="Judge as if it were then.", show_default="now", metavar="TIME")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 where something is open.")] = False,
    db: Database = None,
    as_json: AsJson = False,
) -> None:
    """Tell what is unusual in traffic, errors, latency, cost, tokens and cache hits, by service, route and model.

    [bold]Try it:[/] otel-telemetry anomalies --since 7d

    Each hour is compared with the same hour of up to eight weeks before, in the zone anomalies.timezone; days in
    anomalies.holidays with Sundays. An incident opens after two hours of three outside, and closes after three inside;
    what happens together in one service is told once. With less than a week of history it says that it is learning.
    """
    settings = load(db)
    now = moment(at, "--at") or datetime.now(UTC)
    begin = min(moment(since, "--since") or now, now - timedelta(hours=1))
    engine = database.reader(settings.request_log.url)
    try:
        with engine.connect() as connection:
            found = look(connection, settings.anomalies, begin, now, compiled(settings.kpi))
    finally:
        engine.dispose()
    if as_json:
        tables.as_json([_as_row(one) for one in found.anomalies])
    else:
        _show(found)
    if check and any(one.end is None for one in found.anomalies):
        raise typer.Exit(1)


def _as_row(one: Anomaly) -> dict[str, object]:
    return {
        "service": one.service,
        "level": one.level,
        "name": one.name,
        "measure": one.measure,
        "direction": "up" if one.up else "down",
        "since": one.since.isoformat(),
        "until": one.end and one.end.isoformat(),
        "ratio": one.ratio,
        "text": one.text,
        "also": one.also,
    }


def _show(found: Found) -> None:
    for one in found.anomalies:
        until = "and goes on" if one.end is None else f"to {one.end:%Y-%m-%d %H:%M}"
        sys.stdout.write(f"{one.since:%Y-%m-%d %H:%M} {until} UTC: {tables.visible(one.text)}\n")
        for also in one.also[:_SHOWN]:
            sys.stdout.write(f"    with it: {tables.visible(also)}\n")
        if len(one.also) > _SHOWN:
            sys.stdout.write(f"    and {len(one.also) - _SHOWN} more\n")
    if not found.anomalies:
        sys.stdout.write("nothing unusual\n")
    for what, names in (
        ("learning, with less than a week of history", found.learning),
        ("too few to judge", found.sparse),
    ):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            _err.print(f"[dim]{what}:[/] {escape(tables.visible(', '.join(names[:_SHOWN])))}{more}", soft_wrap=True)
    for note in found.notes[:_SHOWN]:
        _err.print(f"[dim]{escape(tables.visible(note))}[/]", soft_wrap=True)
