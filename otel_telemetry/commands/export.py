"""`otel-telemetry export`: stored requests as CSV, lines of JSON or Parquet, by the filters of the page."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer
from rich.console import Console
from starlette.datastructures import QueryParams

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.commands.options import Database, request_log
from otel_telemetry.ui import asked, export
from otel_telemetry.ui.problems import Problem
from otel_telemetry.ui.reading import Reading

_err = Console(stderr=True)
_SECONDS: Final = 60.0
_ALL: Final = 1 << 62


class Format(StrEnum):
    """What is written."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


_WRITTEN: Final = {Format.CSV: export.csv_lines, Format.JSONL: export.json_lines, Format.PARQUET: export.parquet}


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
    db: Database = None,
) -> None:
    """Write stored requests to a file, newest first, without their texts.

    [bold]Try it:[/] otel-telemetry export -o failed.csv -f range=7d -f outcome=failed
    """
    chosen = kind or _by_ending(output)
    if chosen is Format.PARQUET and not export.has_parquet():
        hint = 'pip install "otel-telemetry[parquet]"'
        raise ConfigurationError("--format", "Parquet needs the extra parquet", hint)
    reading = Reading(request_log(db).url, _SECONDS)
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
