"""`otel-telemetry copy`: bring all rows of another database, such as from SQLite to PostgreSQL."""

from typing import Annotated

import typer

from otel_telemetry.commands import tables
from otel_telemetry.commands.options import AsJson, Database, progress, request_log
from otel_telemetry.exporters.request_log.operate.copying import Copying

_COLUMNS: tuple[tables.Column, ...] = (("table", "table", None), ("rows", "rows", 0))


def copy_rows(
    old: Annotated[
        str,
        typer.Argument(help="The database that the rows come from: its SQLAlchemy URL.", metavar="OLD"),
    ],
    *,
    db: Database = None,
    as_json: AsJson = False,
) -> None:
    """Copy all rows of another database into this one, from SQLite to PostgreSQL or back, and compare both.

    [bold]Try it:[/] otel-telemetry copy sqlite:///telemetry.db --db postgresql://user@host/telemetry

    Stop what writes rows first. A gateway goes on with its spool when it is started again with the new request_log.url.
    The old database is only read. Interrupted, the copy goes on when it is run again; until it is done, nothing else
    may write to the new one. Sums for the page are computed again by the gateway, or by otel-telemetry rollups.
    """
    with Copying(old, request_log(db).url) as copying, progress() as bar:
        copying.check()
        size = copying.size()
        task = bar.add_task("copying", total=size)
        for name, count in copying.steps():
            bar.update(task, description=f"copying {name}", advance=count)
        task = bar.add_task("comparing", total=size)
        for name, count in copying.compare():
            bar.update(task, description=f"comparing {name}", advance=count)
    rows = [{"table": name, "rows": count} for name, count in copying.rows.items() if count]
    if as_json:
        tables.as_json(rows)
    else:
        table = tables.table("copied, and the same in both", _COLUMNS, rows, tables.window())
        tables.show(table if rows else "the old database has no rows")
