"""The result of `otel-telemetry verify` as a table for terminals, as Markdown for docs/privacy.md, and as JSON."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from otel_telemetry.processors.coverage import COVERED, KEPT, LEAKED, UNPROVED, Outcome, Report
from otel_telemetry.processors.planting import KEY, UNKNOWN

_SURFACES: Final = {"traces": "OTLP traces", "logs": "OTLP logs", "metrics": "OTLP metrics"}
_LATER: Final = "fields that OTLP adds later"
_ABOUT: Final = (
    "attribute: as key, string, bytes, in an array, in a map, as a map's key, in JSON text, in message content, "
    "and by its name alone (string, integer, float, in a map). value: the same without a key."
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


def rows(report: Report) -> list[Row]:
    """Return the table, one row per field; fields unknown to the schema share one row per signal."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in report.outcomes:
        later = outcome.slot.shape == UNKNOWN
        name = _LATER if later else _short(outcome.slot.path)
        groups.setdefault((_SURFACES.get(outcome.slot.surface, outcome.slot.surface), name), []).append(outcome)
    surfaces = list(dict.fromkeys(surface for surface, _ in groups))
    ordered = sorted(groups, key=lambda key: (surfaces.index(key[0]), key[1] == _LATER))
    return [Row(*key, _planted_as(groups[key]), *_counts(groups[key])) for key in ordered]


def types(report: Report) -> list[tuple[str, int, int, int, int, int]]:
    """Return (type, rules, covered, kept, leaked, unproved) by type of canary."""
    return [(type_, len({outcome.rule for outcome in own}), *_counts(own)) for type_, own in report.by_type().items()]


def problems(report: Report) -> list[str]:
    """Return one line for each canary that leaked, or that proved nothing."""
    return [_problem(outcome) for outcome in (*report.of(LEAKED), *report.of(UNPROVED))]


def _problem(outcome: Outcome) -> str:
    slot = outcome.slot
    where = f"{_SURFACES.get(slot.surface, slot.surface)} {slot.path}, as {slot.shape}"
    return f"{outcome.verdict}: {outcome.type} (rule {outcome.rule}) in {where}" + (
        f" of {slot.key}" if slot.key else ""
    )


def verdict(report: Report) -> str:
    """Return the result in one sentence."""
    fields = len({(row.surface, row.field) for row in rows(report)})
    counts = [(report.count(name), label) for name, label in _LABELS]
    found = ", ".join(f"{number} {label}" for number, label in counts if number)
    return f"{len(report.outcomes)} canaries of {len(report.by_type())} types in {fields} fields: {found}."


_LABELS: Final = ((COVERED, "covered"), (KEPT, "kept by policy"), (LEAKED, "LEAKED"), (UNPROVED, "not proved"))


def to_terminal(report: Report, console: Console) -> None:
    """Print both tables, then what is wrong, then the verdict."""
    for surface, own in _by_surface(rows(report)):
        table = Table(
            "field", "planted as", *_heads(report), title=surface, title_justify="left", row_styles=["", "dim"]
        )
        for row in own:
            table.add_row(escape(row.field), row.planted_as, *map(_cell, row[3:], _styles(report)))
        console.print(table)
    console.print(f"[dim]{_ABOUT}[/]")
    table = Table("type", "rules", *_heads(report), title="by type", title_justify="left", row_styles=["", "dim"])
    for type_, number, *counts in types(report):
        table.add_row(type_, str(number), *map(_cell, counts, _styles(report)))
    console.print(table)
    for line in problems(report):
        console.print(f"[red]{escape(line)}[/]", soft_wrap=True)
    console.print(f"[bold {'green' if report.proved else 'red'}]{verdict(report)}[/]", soft_wrap=True)


def _heads(report: Report) -> tuple[str, ...]:
    """Return the names of the counts; the last one only where there is something to say."""
    return ("covered", "kept by policy", "leaked", *(("not proved",) if report.of(UNPROVED) else ()))


def _styles(report: Report) -> tuple[str, ...]:
    return ("", "", "bold red", "bold red")[: len(_heads(report))]


def to_markdown(report: Report) -> str:
    """Return both tables as Markdown: what docs/privacy.md holds."""
    lines = [verdict(report), ""]
    for surface, own in _by_surface(rows(report)):
        lines += _markdown([surface, "planted as", *_heads(report)], [[f"`{row.field}`", *row[2:]] for row in own])
    lines += [_ABOUT, "", *_markdown(["type", "rules", *_heads(report)], types(report))]
    lines += [f"- {line}" for line in problems(report)]
    return "\n".join(lines).rstrip() + "\n"


def to_json(report: Report) -> str:
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
    return json.dumps({"proved": report.proved, "engine": report.engine, **summary, "canaries": outcomes}, indent=1)


def _markdown(heads: Sequence[str], body: Sequence[Sequence[Any]]) -> list[str]:
    return [
        f"| {' | '.join(heads)} |",
        "|" + "---|" * len(heads),
        *(f"| {' | '.join(str(cell) for cell in line[: len(heads)])} |" for line in body),
        "",
    ]


def _by_surface(table: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    for surface in dict.fromkeys(row.surface for row in table):
        yield surface, [row for row in table if row.surface == surface]


def _counts(outcomes: Sequence[Outcome]) -> tuple[int, int, int, int]:
    found = [outcome.verdict for outcome in outcomes]
    return found.count(COVERED), found.count(KEPT), found.count(LEAKED), found.count(UNPROVED)


def _planted_as(outcomes: Sequence[Outcome]) -> str:
    shapes = {outcome.slot.shape for outcome in outcomes}
    if KEY in shapes:
        return "attribute"
    return shapes.pop() if len(shapes) == 1 else "value"


def _short(path: str) -> str:
    """Return a path without the two messages that everything of a signal is in."""
    for step in ("resource_", "scope_"):
        head, _, rest = path.partition(".")
        if head.startswith(step) and "." in rest:
            path = rest
    return path


def _cell(number: int, style: str) -> str:
    return "" if not number else f"[{style}]{number}[/]" if style else str(number)


__all__ = ["problems", "rows", "to_json", "to_markdown", "to_terminal", "types", "verdict"]
