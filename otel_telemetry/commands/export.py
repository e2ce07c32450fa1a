"""`otel-telemetry export`: stored requests as CSV, JSON lines or Parquet, by the page's filters; or whole days."""

import sys
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer
from rich.console import Console
from starlette.datastructures import QueryParams

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.commands.options import Readable, progress, readable
from otel_telemetry.exporters.request_log.operate import parquet
from otel_telemetry.exporters.request_log.operate.archive import Archive, Written
from otel_telemetry.exporters.request_log.operate.report_groups import Period
from otel_telemetry.ui import asked, export
from otel_telemetry.ui.problems import Problem
from otel_telemetry.ui.reading import Reading

_err = Console(stderr=True)
_SECONDS: Final = 60.0
_ALL: Final = 1 << 62
_TIMES: Final = {"range", "since", "until", "tz"}


class Format(StrEnum):
    """What is written."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


_WRITTEN: Final = {Format.CSV: export.csv_lines, Format.JSONL: export.json_lines, Format.PARQUET: export.parquet_file}


def export_rows(
    *,
    output: Annotated[
        str, typer.Option("--output", "-o", help="File to write; -: standard output.", metavar="FILE")
    ] = "-",
    kind: Annotated[
        Format | None, typer.Option("--format", help="What to write.", show_default="by the ending of FILE, else csv")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            "-f",
            help="A parameter of the page, like range=30d, since=2026-11-01, route=chat, outcome=failed, min_ms=1000.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="Instead: a folder, or s3://BUCKET/PATH, for whole days of requests and calls as Parquet files.",
            metavar="TARGET",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="With --to: replace files with more rows than are stored now, too.")
    ] = False,
    db: Readable = None,
) -> None:
    """Write stored requests to a file, newest first, without their texts.

    [bold]Try it:[/] otel-telemetry export -o failed.csv -f range=7d -f outcome=failed

    With --to, all requests and model calls, a file for each table and day (UTC) that has ended; -f since=2026-11-01 and
    -f until=... choose the days. DuckDB, ClickHouse, Spark and pandas read them as one table. Each run replaces them.
    """
    if to is not None:
        _archive(readable(db).url, to, _pairs(where or ()), replace=replace)
        return
    chosen = kind or _by_ending(output)
    if chosen is Format.PARQUET and not parquet.is_there():
        raise ConfigurationError("--format", "Parquet needs the extra parquet", parquet.INSTALL)
    reading = Reading(readable(db).url, _SECONDS)
    try:
        pages = export.pages(reading, asked.view(QueryParams(_pairs(where or ()))), _ALL)
        written = _WRITTEN[chosen](next(pages), pages)
        if output == "-":
            _write(written, sys.stdout.buffer)
        else:
            with Path(output).open("wb") as file:
                _write(written, file)
    except Problem as error:
        raise ConfigurationError("export", error.title, error.hint) from None
    except OSError as error:
        raise ConfigurationError("--output", f"cannot be written: {error.strerror}", "choose another file") from None
    finally:
        reading.close()
    if output != "-":
        _err.print(f"written to {output}", highlight=False)


def _archive(url: str, target: str, asked_for: list[tuple[str, str]], *, replace: bool) -> None:
    if other := sorted({name for name, _ in asked_for} - _TIMES):
        raise ConfigurationError(
            "--filter", f"{', '.join(other)} cannot go with --to", f"choose days: {sorted(_TIMES)}"
        )
    try:
        period = asked.view(QueryParams(asked_for)).period if asked_for else Period()
    except Problem as error:
        raise ConfigurationError("--filter", error.title, error.hint) from None
    with Archive(url, target, period, replace=replace) as archive, progress() as bar:
        days = archive.days()
        task = bar.add_task("writing", total=len(days))
        rows: Counter[str] = Counter()
        left: list[Written] = []
        for table, day in days:
            bar.update(task, description=f"writing {table.name} of {day}", advance=1)
            written = archive.write(table, day)
            rows[written.table] += 0 if written.is_left else written.rows
            left += [written] if written.is_left else []
    for name, count in rows.items():
        _err.print(f"{name}: {count:,} rows written to {target}", highlight=False, soft_wrap=True)
    for each in left:
        _err.print(
            f"{each.table} of {each.day} is left as it is: its file has more rows than the database, {each.rows:,}. "
            "next: --replace, if they were erased",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


def _by_ending(output: str) -> Format:
    ending = Path(output).suffix.removeprefix(".").lower()
    return Format(ending) if ending in {one.value for one in Format} else Format.CSV


def _pairs(where: Any) -> list[tuple[str, str]]:
    pairs = []
    for one in where:
        name, equals, value = one.partition("=")
        if not equals:
            raise typer.BadParameter(f"{one!r} is not like route=chat", param_hint="--filter")
        pairs.append((name, value))
    return pairs


def _write(parts: Any, file: BinaryIO) -> None:
    file.writelines(part.encode() if isinstance(part, str) else part for part in parts)
