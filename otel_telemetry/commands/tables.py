"""Rows as tables that fit their window: numbers to the right, what is not known as a dash, no figure ever cut."""

import csv
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape, render
from rich.table import Table

from otel_telemetry.base.foreign_text import plain, spreadsheet

Row = Mapping[str, Any]
#: Heading, key, digits behind the point where it is a number; PERCENT where it is a share of 1.
Column = tuple[str, str, int | None]
PERCENT: Final = -1
_TEXT_WIDTH: Final = 24
_WIDE_ENOUGH: Final = 10_000


def table(title: str, columns: Sequence[Column], rows: Sequence[Row], width: int, spare: Sequence[str] = ()) -> Table:
    """Return rows as a table. Where they do not fit into the window, columns go in the order of `spare`."""
    columns = _fitting(columns, rows, width, spare)
    made = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading, _, digits in columns:
        if digits is not None:
            made.add_column(heading, no_wrap=True, justify="right")
        else:
            made.add_column(heading, no_wrap=True, max_width=_TEXT_WIDTH)
    for row in rows:
        made.add_row(*(_cell(row.get(name), digits) for _, name, digits in columns))
    return made


def show(made: Table | str) -> None:
    """Print a table, or a line."""
    Console(width=window()).print(made)


def window() -> int:
    """Return the characters of a line of the terminal; without terminal and COLUMNS, enough for all columns."""
    console = Console()
    return console.width if console.is_terminal or "COLUMNS" in os.environ else _WIDE_ENOUGH


def as_json(rows: Sequence[Row]) -> None:
    """Print rows as a JSON list of objects; amounts of money are texts, which keeps every digit."""
    sys.stdout.write(json.dumps(list(rows), default=str, indent=2) + "\n")


def json_text(value: Any) -> str:
    """Return a value as JSON on one line."""
    return json.dumps(value, default=str, ensure_ascii=False)


def as_csv(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Print rows as CSV with a line of names; what is not known is empty.

    A spreadsheet runs a text that begins like a formula: it gets a quote in front, which makes it text (OWASP).
    """
    writer = csv.DictWriter(sys.stdout, rows[0].keys() if rows else columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)


def _plain(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, default=str)
    return spreadsheet(value) if isinstance(value, str) else value


def visible(text: str) -> str:
    """Return a text of somebody else's for rich's markup, with what would steer a terminal made visible."""
    return escape(plain(text))


def _fitting(columns: Sequence[Column], rows: Sequence[Row], width: int, spare: Sequence[str]) -> list[Column]:
    """Return the columns that fit into a window."""
    kept = list(columns)
    for name in spare:
        if sum(_width(column, rows) for column in kept) < width:
            break
        kept = [column for column in kept if column[1] != name]
    return kept


def _width(column: Column, rows: Sequence[Row]) -> int:
    heading, name, digits = column
    longest = max((cell_len(render(_cell(row.get(name), digits)).plain) for row in rows), default=0)
    return max(len(heading), longest if digits is not None else min(longest, _TEXT_WIDTH)) + 3  # the room between two


def _cell(value: Any, digits: int | None) -> str:
    if value is None:
        return "[dim]-[/]"
    if isinstance(value, datetime):
        return f"{value:%m-%d %H:%M:%S}"
    if digits is not None and isinstance(value, int | float | Decimal):
        return f"{value:.1%}" if digits == PERCENT else f"{value:,.{digits}f}"
    return visible(str(value))
