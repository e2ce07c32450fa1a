"""`otel-telemetry import`: bring the rows of an older system's database over."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from otel_telemetry import assemble, assemble_gateway, settings
from otel_telemetry.commands import tables
from otel_telemetry.commands.options import AsJson, progress
from otel_telemetry.exporters.request_log.store.writer import Writer
from otel_telemetry.older.bring import Import, refuse_same
from otel_telemetry.older.source import Source
from otel_telemetry.settings import Settings

_COLUMNS: tuple[tables.Column, ...] = (
    ("table", "table", None),
    ("rows", "rows", 0),
    ("new", "new", 0),
    ("there before", "known", 0),
    ("left out", "skipped", 0),
    ("lost", "lost", 0),
)
_SPARE = ("lost", "skipped", "known")
_err = Console(stderr=True)


def import_old(
    old: Annotated[
        str,
        typer.Argument(help="The old database: the path of its file, or its SQLAlchemy URL.", metavar="OLD"),
    ],
    *,
    into: Annotated[
        str | None,
        typer.Option(
            "--into",
            help="SQLAlchemy URL of the database that the rows go to.",
            metavar="URL",
            show_default="request_log.url",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything, write nothing.")] = False,
    service: Annotated[
        str | None,
        typer.Option(help="Service of rows that name none.", metavar="NAME", show_default=False),
    ] = None,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave out rows that cannot come over, and tell them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the rows of an older system over: the SQLite telemetry module, the chat bot's request_log, chronicle.

    [bold]Try it:[/] otel-telemetry import old.db --into sqlite:///telemetry.db --dry-run

    The old database is only read. Its rows go the way of all input: redacted by the policy in force, texts only where
    request_log.store_text is on. Run again, it adds what has come since; nothing comes twice. Stop the old program
    first, and write nothing else to a new SQLite file meanwhile.
    """
    config = settings.load(**({"request_log": {"url": into}} if into else {}))
    refuse_same(old, config.request_log.url)
    with Source(old) as source:
        work = Import(source, service=service, skip_bad_rows=skip_bad_rows)
        _check(work)
        _warn(work, config)
        if not dry_run:
            _bring(work, config)
        _show(work, dry_run=dry_run, as_json=as_json)


def _check(work: Import) -> None:
    with progress() as bar:
        task = bar.add_task("reading", total=work.size())
        for table in work.check():
            bar.update(task, description=f"reading {table}", advance=1)


def _bring(work: Import, config: Settings) -> None:
    redactor = assemble_gateway.otlp_redactor_of(config, assemble.redactor_of(config))
    writer = Writer(config.request_log)
    try:
        writer.open()
        with progress() as bar:
            task = bar.add_task("bringing over", total=sum(tally.rows for tally in work.tallies.values()))
            for table, count in work.bring(redactor.redact, writer.write):
                bar.update(task, description=f"bringing over {table}", advance=count)
    except KeyboardInterrupt:
        _err.print("stopped: what is over stays. [dim]next:[/] run it again to go on; nothing comes twice")
        raise typer.Exit(130) from None
    finally:
        writer.close()


def _warn(work: Import, config: Settings) -> None:
    for bad in work.bad:
        _err.print(f"left out: {escape(str(bad))}")
    for table, tally in work.tallies.items():
        if tally.not_understood:
            names = escape(", ".join(tally.not_understood))
            _err.print(f"{table}: columns that are not known: {names} (kept in meta where the new table has one)")
    beyond = work.beyond(config.request_log.retention_days)
    if beyond:
        days = config.request_log.retention_days
        _err.print(
            f"[yellow]{', '.join(beyond)}: rows older than request_log.retention_days = {days} are deleted at the "
            "next trim[/]"
        )


def _show(work: Import, *, dry_run: bool, as_json: bool) -> None:
    rows: list[dict[str, Any]] = []
    for table, tally in work.tallies.items():
        known = max(0, tally.rows - tally.skipped - tally.lost - tally.new)
        counts = {} if dry_run else {"new": tally.new, "known": known, "lost": tally.lost}
        rows.append(
            {"system": tally.system.name, "table": table, "rows": tally.rows, "skipped": tally.skipped, **counts}
        )
    if as_json:
        tables.as_json(rows)
        return
    columns = tuple(column for column in _COLUMNS if not dry_run or column[1] in {"table", "rows", "skipped"})
    tables.show(tables.table("would come over" if dry_run else "brought over", columns, rows, tables.window(), _SPARE))
