"""The result of `otel-telemetry verify` as a table for terminals, as Markdown for docs/privacy.md, and as JSON."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from otel_telemetry.commands import content_table
from otel_telemetry.commands.coverage_rows import counts, short, surface
from otel_telemetry.processors.verify.coverage import COVERED, KEPT, LEAKED, UNPROVED, CoverageReport, Outcome
from otel_telemetry.processors.verify.planting_otlp import KEY, UNKNOWN

_OF_TYPE: Final = ("type", "rules", "covered", "kept", "leaked", "unproved")
_LATER: Final = "fields that OTLP adds later"
_ABOUT: Final = (
    "attribute: as key, string, bytes, in an array, in a map, as a map's key, in JSON text, in message content, by its "
    "name alone (string, integer, float, in a map), glued to letters of nine scripts, and as secrets of letters only "
    "and passphrases (under names of any spelling, in JSON, assignments, options, argument lists and header pairs). "
    "value: the same without a key."
)


class Row(NamedTuple):
    """One field of the schema, with how many canaries met which fate in it."""

    surface: str
    field: str
    planted_as: str
    covered: int
    kept: int
    leaked: int
    unproved: int


def rows(report: CoverageReport) -> list[Row]:
    """Return the table, one row per field; fields unknown to the schema share one row per signal."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in report.outcomes:
        later = outcome.slot.shape == UNKNOWN
        name = _LATER if later else short(outcome.slot.path)
        groups.setdefault((surface(outcome), name), []).append(outcome)
    surfaces = list(dict.fromkeys(of for of, _ in groups))
    ordered = sorted(groups, key=lambda key: (surfaces.index(key[0]), key[1] == _LATER))
    return [Row(*key, _planted_as(groups[key]), *counts(groups[key])) for key in ordered]


def types(report: CoverageReport) -> list[tuple[str, int, int, int, int, int]]:
    """Return (type, rules, covered, kept, leaked, unproved) by type of canary."""
    return [(type_, len({outcome.rule for outcome in own}), *counts(own)) for type_, own in report.by_type().items()]


def problems(report: CoverageReport) -> list[str]:
    """Return one line for each canary that leaked, or that proved nothing."""
    return [_problem(outcome) for outcome in (*report.of(LEAKED), *report.of(UNPROVED))]


def _problem(outcome: Outcome) -> str:
    slot = outcome.slot
    where = f"{surface(outcome)} {slot.path}, as {slot.shape}"
    return f"{outcome.verdict}: {outcome.type} (rule {outcome.rule}) in {where}" + (
        f" of {slot.key}" if slot.key else ""
    )


def verdict(report: CoverageReport) -> str:
    """Return the result in one sentence."""
    fields = len({(row.surface, row.field) for row in rows(report)})
    numbers = [(report.count(name), label) for name, label in _LABELS]
    found = ", ".join(f"{number} {label}" for number, label in numbers if number)
    return f"{len(report.outcomes)} canaries of {len(report.by_type())} types in {fields} fields: {found}."


_LABELS: Final = ((COVERED, "covered"), (KEPT, "kept by policy"), (LEAKED, "LEAKED"), (UNPROVED, "not proved"))


def to_terminal(report: CoverageReport, console: Console) -> None:
    """Print the tables, then what is wrong, then the verdict; and so of prompts and answers."""
    for name, own in _by_surface(rows(report)):
        table = Table("field", "planted as", *_heads(report), title=name, title_justify="left", row_styles=["", "dim"])
        for row in own:
            table.add_row(escape(row.field), row.planted_as, *map(_cell, row[3:], _styles(report)))
        console.print(table)
    console.print(f"[dim]{_ABOUT}[/]")
    table = Table("type", "rules", *_heads(report), title="by type", title_justify="left", row_styles=["", "dim"])
    for type_, number, *fates in types(report):
        table.add_row(type_, str(number), *map(_cell, fates, _styles(report)))
    console.print(table)
    for line in problems(report):
        console.print(f"[red]{escape(line)}[/]", soft_wrap=True)
    console.print(f"[bold {'green' if report.proved else 'red'}]{verdict(report)}[/]", soft_wrap=True)
    if report.content:
        _content_to_terminal(report, console)


def _content_to_terminal(report: CoverageReport, console: Console) -> None:
    for title, own in content_table.parts(report):
        table = Table("place", *content_table.HEADS, title=title, title_justify="left", row_styles=["", "dim"])
        for row in own:
            table.add_row(escape(row.place), *map(_cell, row[1:], content_table.STYLES))
        console.print(table)
    console.print(f"[dim]{content_table.ABOUT}[/]")
    for line in content_table.problems(report):
        console.print(f"[red]{escape(line)}[/]", soft_wrap=True)
    colour = "green" if report.content_proved else "red"
    console.print(f"[bold {colour}]{content_table.verdict(report)}[/]", soft_wrap=True)


def _heads(report: CoverageReport) -> tuple[str, ...]:
    """Return the names of the counts; the last one only if its count is not 0."""
    return ("covered", "kept by policy", "leaked", *(("not proved",) if report.of(UNPROVED) else ()))


def _styles(report: CoverageReport) -> tuple[str, ...]:
    return ("", "", "bold red", "bold red")[: len(_heads(report))]


def to_markdown(report: CoverageReport) -> str:
    """Return all tables as Markdown: what docs/privacy.md holds."""
    lines = [verdict(report), ""]
    for name, own in _by_surface(rows(report)):
        lines += _markdown([name, "planted as", *_heads(report)], [[f"`{row.field}`", *row[2:]] for row in own])
    lines += [_ABOUT, "", *_markdown(["type", "rules", *_heads(report)], types(report))]
    lines += [f"- {line}" for line in problems(report)]
    texts = [lines, _content_lines(report)] if report.content else [lines]
    return "\n\n".join("\n".join(each).rstrip() for each in texts) + "\n"


def _content_lines(report: CoverageReport) -> list[str]:
    lines = [content_table.verdict(report), ""]
    for title, own in content_table.parts(report):
        lines += _markdown([title, *content_table.HEADS], [[f"`{row.place}`", *row[1:]] for row in own])
    return [*lines, content_table.ABOUT, "", *(f"- {line}" for line in content_table.problems(report))]


def to_json(report: CoverageReport) -> str:
    """Return everything, one entry per place and type, as JSON."""
    outcomes = [
        {
            "surface": outcome.slot.surface,
            "field": outcome.slot.path,
            "planted_as": outcome.slot.shape,
            "key": outcome.slot.key,
            "type": outcome.type,
            "rule": outcome.rule,
            "verdict": outcome.verdict,
        }
        for outcome in report.outcomes
    ]
    summary = {name: report.count(name) for name, _ in _LABELS}
    found = {"proved": report.proved, "engine": report.engine, **summary, "verdict": verdict(report)}
    found |= {"fields": [row._asdict() for row in rows(report)], "problems": problems(report)}
    found |= {"types": [dict(zip(_OF_TYPE, row, strict=True)) for row in types(report)], "canaries": outcomes}
    return json.dumps(found | ({"content": content_table.as_json(report)} if report.content else {}), indent=1)


def _markdown(heads: Sequence[str], body: Sequence[Sequence[Any]]) -> list[str]:
    return [
        f"| {' | '.join(heads)} |",
        "|" + "---|" * len(heads),
        *(f"| {' | '.join(str(cell) for cell in line[: len(heads)])} |" for line in body),
        "",
    ]


def _by_surface(table: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    for name in dict.fromkeys(row.surface for row in table):
        yield name, [row for row in table if row.surface == name]


def _planted_as(outcomes: Sequence[Outcome]) -> str:
    shapes = {outcome.slot.shape for outcome in outcomes}
    if KEY in shapes:
        return "attribute"
    return shapes.pop() if len(shapes) == 1 else "value"


def _cell(number: int, style: str) -> str:
    return "" if not number else f"[{style}]{number}[/]" if style else str(number)


__all__ = ["problems", "rows", "to_json", "to_markdown", "to_terminal", "types", "verdict"]
