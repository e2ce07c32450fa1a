"""What both parts of the result of `otel-telemetry verify` share: names of places, and counts of fates."""

from collections.abc import Sequence
from typing import Final

from otel_telemetry.processors.verify.coverage import COVERED, KEPT, LEAKED, UNPROVED, Outcome

_SURFACES: Final = {"traces": "OTLP traces", "logs": "OTLP logs", "metrics": "OTLP metrics"}


def surface(outcome: Outcome) -> str:
    """Return what a place is a part of, as people call it."""
    return _SURFACES.get(outcome.slot.surface, outcome.slot.surface)


def short(path: str) -> str:
    """Return a path without the two messages that everything of a signal is in."""
    for step in ("resource_", "scope_"):
        head, _, rest = path.partition(".")
        if head.startswith(step) and "." in rest:
            path = rest
    return path


def counts(outcomes: Sequence[Outcome]) -> tuple[int, int, int, int]:
    """Return the numbers of covered, kept, leaked and not proved values."""
    found = [outcome.verdict for outcome in outcomes]
    return found.count(COVERED), found.count(KEPT), found.count(LEAKED), found.count(UNPROVED)


__all__ = ["counts", "short", "surface"]
