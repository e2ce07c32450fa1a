"""`otel-telemetry rollups`: sum stored requests up now, or check that the sums are true."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from otel_telemetry.commands import tables
from otel_telemetry.commands.options import AsJson, Database, progress, request_log
from otel_telemetry.exporters.request_log.db import database
from otel_telemetry.exporters.request_log.rollup import build

_COLUMNS: tuple[tables.Column, ...] = (("begins", "start", None), ("minutes", "minutes", 0))
_WRONG = 1


def rollups(
    *,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; compare all sums with the rows.")] = False,
    db: Database = None,
    as_json: AsJson = False,
) -> None:
    """Sum stored requests up by quarters of an hour and days, so that pages over many of them are fast.

    [bold]Try it:[/] otel-telemetry rollups --check

    A gateway or exporter does it by itself, a quarter of a minute after rows were written. Rows that change take their
    sums away, so they never are wrong, unless somebody changes the tables by hand: --check tells, and ends with 1.
    """
    url = request_log(db).url
    if not check:
        _make(url)
        return
    wrong = _check(url)
    rows = [{"start": datetime.fromtimestamp(start, UTC).isoformat(), "minutes": minutes} for start, minutes in wrong]
    if as_json:
        tables.as_json(rows)
    else:
        table = tables.table("sums that are wrong", _COLUMNS, rows, tables.window())
        tables.show(table if rows else "all sums are what the rows come to")
    if wrong:
        raise typer.Exit(_WRONG)


def _make(url: str) -> None:
    with build.Builder(url) as builder, progress() as bar:
        task = bar.add_task("summing up", total=builder.days())
        for start in builder.steps():
            bar.update(task, description=f"summing up {start:%Y-%m-%d}", advance=1)


def _check(url: str) -> list[tuple[int, int]]:
    engine = database.reader(url)
    try:
        with engine.connect() as connection, progress() as bar:
            bar.add_task("comparing", total=None)
            return list(build.wrong(connection))
    finally:
        engine.dispose()
