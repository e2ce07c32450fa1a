"""`otel-telemetry trim`: delete old rows and texts now, or count what would go."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.commands import tables
from otel_telemetry.commands.options import AsJson, Database, progress, request_log
from otel_telemetry.exporters.request_log.audit import trail
from otel_telemetry.exporters.request_log.db import database
from otel_telemetry.exporters.request_log.store.retention import Retention

Due = dict[tuple[str, str], int]

_COLUMNS: tuple[tables.Column, ...] = (("table", "table", None), ("what", "what", None), ("rows", "count", 0))
_WORDS = {"row": "deleted", "text": "texts removed"}


def trim(
    *,
    older_than: Annotated[
        str | None,
        typer.Option(help="Delete rows older than this: 90d.", show_default="request_log.retention_days"),
    ] = None,
    texts_older_than: Annotated[
        str | None,
        typer.Option(
            help="Remove texts older than this from rows that stay: 30d.",
            show_default="request_log.text_retention_days",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would go.")] = False,
    db: Database = None,
    as_json: AsJson = False,
) -> None:
    """Delete old rows and texts, and give the disk its space back.

    [bold]Try it:[/] otel-telemetry trim --older-than 90d --dry-run. Writers may go on meanwhile: it works in small
    transactions. A running exporter or gateway does the same by itself where request_log.retention_days is set.
    """
    config = request_log(db)
    rows_before = _before(older_than, config.retention_days, "--older-than")
    texts_before = _before(texts_older_than, config.text_retention_days, "--texts-older-than")
    if rows_before is None and texts_before is None:
        hint = "give --older-than 90d, or set request_log.retention_days"
        raise ConfigurationError("request_log.retention_days", "nothing says what is old", hint)
    database.reader(config.url).dispose()  # a database that is not there is not made
    engine = database.connect(config.url)
    try:
        retention = Retention(engine, rows_before, texts_before)
        due = retention.due()
        if not dry_run:
            _run(retention, due)
            with engine.begin() as connection:
                trail.act(connection, "trim", {f"{table} {what}": count for (table, what), count in due.items()})
    finally:
        engine.dispose()
    _show(due, dry_run=dry_run, as_json=as_json)


def _run(retention: Retention, due: Due) -> None:
    with progress() as bar:
        task = bar.add_task("trimming", total=sum(due.values()))
        for step in retention.steps():
            counted = step.count if (step.table, step.what) in due else 0
            bar.update(task, description=f"trimming {step.table or 'the file'}", advance=counted)


def _show(due: Due, *, dry_run: bool, as_json: bool) -> None:
    rows = [{"table": table, "what": what, "count": count} for (table, what), count in due.items()]
    if as_json:
        tables.as_json(rows)
        return
    shown = [{**row, "what": _WORDS[str(row["what"])]} for row in rows]
    title = "would go" if dry_run else "gone"
    tables.show(tables.table(title, _COLUMNS, shown, tables.window()) if rows else "nothing is that old")


def _before(given: str | None, days: int | None, option: str) -> datetime | None:
    """Return the moment before which things are old, in UTC."""
    if given is None:
        return None if days is None else datetime.now(UTC) - timedelta(days=days)
    if not (age := re.fullmatch(r"(\d{1,5})([hdw])", given)):
        raise typer.BadParameter(f"{given!r} is not an age like 90d, 12h or 4w", param_hint=option)
    hours = {"h": 1, "d": 24, "w": 168}[age[2]]
    return datetime.now(UTC) - timedelta(hours=int(age[1]) * hours)
