"""The part of `otel-telemetry verify` about prompts and answers: where they were planted, and what became of them.

Two tables: what `content: drop` lets out, and what reaches the database with `request_log.store_text` off.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from otel_telemetry.commands import text_proof
from otel_telemetry.commands.coverage_rows import counts, short, surface
from otel_telemetry.processors.verify.content_canaries import FORMS, NAMES
from otel_telemetry.processors.verify.coverage import COVERED, KEPT, LEAKED, UNPROVED, CoverageReport, Outcome

HEADS: Final = ("covered", "kept by policy", "leaked", "not proved")
STYLES: Final = ("", "", "bold red", "bold red")
DROPPED: Final = "prompts and answers, with content: drop"
NOT_STORED: Final = "prompts and answers, with request_log.store_text off"
ABOUT: Final = (
    f"Each attribute list takes a sentence under {len(NAMES)} names of conventions, frameworks and apps, and "
    f"{', '.join(FORMS)} under names that say nothing."
)


class Row(NamedTuple):
    """One place, with how many sentences met which fate in it."""

    place: str
    covered: int
    kept: int
    leaked: int
    unproved: int


def parts(report: CoverageReport) -> Iterator[tuple[str, list[Row]]]:
    """Yield the two tables: their titles and rows."""
    stored = [outcome for outcome in report.content if outcome.slot.surface == text_proof.SURFACE]
    sent = [outcome for outcome in report.content if outcome.slot.surface != text_proof.SURFACE]
    for title, outcomes in ((DROPPED, sent), (NOT_STORED, stored)):
        if outcomes:
            yield title, list(_rows(outcomes))


def verdict(report: CoverageReport) -> str:
    """Return the result in one sentence."""
    numbers = zip(("covered", "kept by policy", "LEAKED", "not proved"), counts(report.content), strict=True)
    found = ", ".join(f"{number} {label}" for label, number in numbers if number)
    return f"{len(report.content)} prompts and answers in {len(list(_rows(report.content)))} places: {found}."


def problems(report: CoverageReport) -> list[str]:
    """Return one line for each prompt or answer that leaked, or that proved nothing."""
    return [_problem(each) for each in report.content if each.verdict in (LEAKED, UNPROVED)]


def as_json(report: CoverageReport) -> dict[str, Any]:
    """Return the part as data, with one entry for each place and name."""
    planted = [
        {
            "surface": outcome.slot.surface,
            "field": outcome.slot.path,
            "planted_as": outcome.slot.shape,
            "key": outcome.slot.key,
            "column": outcome.found_in or None,
            "verdict": outcome.verdict,
        }
        for outcome in report.content
    ]
    names = (COVERED, KEPT, LEAKED, UNPROVED)
    summary = dict(zip(names, counts(report.content), strict=True))
    tables = [{"title": title, "places": [row._asdict() for row in own]} for title, own in parts(report)]
    found = {"proved": report.content_proved, **summary, "verdict": verdict(report), "problems": problems(report)}
    return found | {"tables": tables, "planted": planted}


def _rows(outcomes: Sequence[Outcome]) -> Iterator[Row]:
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(_place(outcome), []).append(outcome)
    return (Row(place, *counts(own)) for place, own in groups.items())


def _place(outcome: Outcome) -> str:
    if outcome.slot.surface == text_proof.SURFACE:
        return outcome.slot.path
    return f"{surface(outcome)}: {short(outcome.slot.path)}"


def _problem(outcome: Outcome) -> str:
    slot = outcome.slot
    name = f" {slot.key}" if slot.key else ""
    into = f", into {outcome.found_in}" if outcome.found_in else ""
    return f"{outcome.verdict}: content in {_place(outcome)}, {slot.shape}{name}{into}"


__all__ = ["ABOUT", "HEADS", "STYLES", "as_json", "parts", "problems", "verdict"]
