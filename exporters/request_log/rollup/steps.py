"""Sums by steps of time, such as the days of a time zone, out of sums of days and quarters of an hour in UTC.

A day that lies in several steps counts for the step that has most of it. Of its quarters, only those in other steps are
read: their sums are added there, and taken from the day's. So days of a zone need a quarter to a half of all quarters.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from otel_telemetry.exporters.request_log.db.rollups import DAY, QUARTER, rollup
from otel_telemetry.exporters.request_log.rollup import cells, reading
from otel_telemetry.exporters.request_log.rollup.cells import Cell, Key, Stored
from otel_telemetry.exporters.request_log.rollup.reading import Plan, Sums

_DAY_SECONDS = DAY * 60
_QUARTER_SECONDS = QUARTER * 60


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps of `width` seconds from `begin` on, numbered from 0; both are whole quarters of an hour."""

    begin: float
    width: float
    plan: Plan
    #: In which step a day of the plan counts, if it does not lie in one.
    _main: dict[int, int] = field(default_factory=dict)
    _apart: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for since, until in self.plan.days:
            for day in range(int(since), int(until), _DAY_SECONDS):
                self._divide(day)

    def _divide(self, day: int) -> None:
        quarters = range(day, day + _DAY_SECONDS, _QUARTER_SECONDS)
        [(main, most)] = Counter(map(self._of, quarters)).most_common(1)
        if most < len(quarters):
            self._main[day] = main
            self._apart.extend(start for start in quarters if self._of(start) != main)

    def _of(self, start: int) -> int:
        return int((start - self.begin) // self.width)

    @property
    def quarters(self) -> Plan:
        """The quarters that are read beside the parts of the plan; none where all days lie in one step each."""
        start = rollup.c.start
        step = (start - int(self.begin)) // int(self.width)
        return Plan((), reading.joined_quarters(self._apart), (), (step, start // _DAY_SECONDS))

    def cells(self, whole: Iterable[Sums], apart: Iterable[Sums]) -> dict[int, Cell]:
        """Return the sums of each step, without first bytes: `whole` are those of the plan, `apart` of `quarters`."""
        moved = cells.merged(
            ((self._of(start), self._main[start - start % _DAY_SECONDS]), _without_first_bytes(cell))
            for start, _, cell in apart
        )
        found = cells.merged((*self._placed(whole), *(((step,), cell) for (step, _), cell in moved.items())))
        for (_, main), cell in moved.items():
            cells.subtract(found[main,], cell)
        return {step: cell for (step,), cell in found.items() if cell["rows"]}

    def _placed(self, whole: Iterable[Sums]) -> Iterator[tuple[Key, Cell | Stored]]:
        for start, _, cell in whole:
            main = self._main.get(start)  # a quarter or a row that begins like such a day would be part of it
            yield (self._of(start) if main is None else main,), _without_first_bytes(cell)


def _without_first_bytes(cell: Cell | Stored) -> Cell | Stored:
    if isinstance(cell, Stored):
        return Stored(cell.sums, cell.latency, "")
    return Cell(cell.sums, cell.latency)
