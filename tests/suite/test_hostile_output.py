"""Hostile texts in rows do nothing to a spreadsheet or a terminal."""

import csv
import io

import pytest
from rich.console import Console

from otel_telemetry.commands import tables


def printed_csv(capsys: pytest.CaptureFixture[str], value: object) -> str:
    tables.as_csv([{"route": value}], ["route"])
    (_, (cell,)) = csv.reader(io.StringIO(capsys.readouterr().out))
    return cell


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        '=HYPERLINK("http://x.example","go")',
        "+cmd|' /C calc'!A0",
        "-2+3+cmd",
        "@SUM(1)",
        "\t=1+1",
        "\r=1",
        "  =1+1",
        "\u200b=1+1",
        "\ufeff=1",
        "\uff1d1+1",
        "\uff0b1+cmd",
        "\uff20x",
        "|calc",
        "%x",
    ],
)
def test_no_text_is_a_formula(capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert printed_csv(capsys, text).startswith("'")


@pytest.mark.parametrize("value", [-5, 1.5, None, "-5", "+1.5e3", "direct", "a=b", "jane-doe", "'quoted", ""])
def test_numbers_and_ordinary_texts_stay_as_they_are(capsys: pytest.CaptureFixture[str], value: object) -> None:
    assert printed_csv(capsys, value) == ("" if value is None else str(value))


HOSTILE = [
    "\x1b[2J\x1b[1;1H",
    "\x1b]0;title\x07",
    "\x9b31m",
    "a\rb",
    "\x00",
    "\u202egnp.exe",
    "\u2066x\u2069",
    "x\x08\x08y",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_a_cell_steers_the_terminal_or_the_file(capsys: pytest.CaptureFixture[str], text: str) -> None:
    made = tables.table("t", [("route", "route", None)], [{"route": text}], 200)
    console = Console(width=200, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(made)
    shown = console.file.getvalue() + printed_csv(capsys, text)  # type: ignore[attr-defined] # a StringIO
    for character in set(text) - set(" "):
        assert character.isprintable() or character not in shown


def test_markup_in_a_text_is_shown_and_not_obeyed() -> None:
    console = Console(width=200, file=io.StringIO())
    console.print(tables.table("t", [("route", "route", None)], [{"route": "[red]x[/]"}], 200))
    assert "[red]x[/]" in console.file.getvalue()  # type: ignore[attr-defined] # a StringIO
