"""Sums over rows that have something in common, added up in whole numbers."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple

from otel_telemetry.base import conventions
from otel_telemetry.exporters.request_log.db import rollups
from otel_telemetry.exporters.request_log.rollup import bins
from otel_telemetry.exporters.request_log.rollup.bins import Bins

_REQUEST: Final = ("service", "environment", "region", "route", "model", "degraded", "is_ok", "is_hit")
#: What rows have in common, by kind: `request` and `call` what filters know, the others what is shown without filters.
#: `other` are requests once more, under each model that is their calls' and not their own.
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "request": _REQUEST,
    "other": _REQUEST,
    "all": (),
    "route": ("route",),
    "degraded": ("degraded",),
    "user": ("user_id",),
    "call": ("service", "environment", "region", "provider", "model", "model_requested", "is_ok"),
    "model": ("model", "model_requested", "is_ok"),
}
#: Kinds that are added up of another one's cells, which are far more.
ADDED: Final = {"all": "request", "route": "request", "degraded": "request", "model": "call"}

Key = tuple[Any, ...]
Cells = dict[Key, "Cell"]

_PICO: Final = 10**12
_AT: Final = {name: index for index, name in enumerate(rollups.SUMS)}
_COST: Final = _AT["cost_usd"]
_REST: Final = _AT["cost_pico"]
_COLUMNS: Final = tuple(rollups.rollup.c.keys())
_DEGRADED: Final = _REQUEST.index("degraded")
_REQUEST_OK: Final = _REQUEST.index("is_ok")
_CALL_OK: Final = KINDS["call"].index("is_ok")


@dataclass(slots=True)
class Cell:
    """Sums in the order of `rollups.SUMS`; all of the cost is in `cost_pico` here."""

    sums: list[int] = field(default_factory=lambda: [0] * len(rollups.SUMS))
    latency: Bins = field(default_factory=dict)
    ttfb: Bins = field(default_factory=dict)
    most_ms: float | None = None
    most_usd: float | None = None

    def __getitem__(self, name: str) -> int:
        return self.sums[_AT[name]]

    def known(self, name: str, known: str) -> int | None:
        """Return a sum, or None where not one of its values is known."""
        return self[name] if self[known] else None

    @property
    def cost(self) -> Decimal | None:
        """The cost in USD, as far as it is known; None where it is not at all."""
        return Decimal(self[("cost_pico")]).scaleb(-12) if self["cost_known"] else None


class Stored(NamedTuple):
    """A cell as its row of the table has it; the sums are in the order of `rollups.SUMS`."""

    sums: Sequence[int]
    latency: str
    ttfb: str


def merged(cells: Iterable[tuple[Key, Cell | Stored]]) -> Cells:
    """Return cells added up by key."""
    groups: dict[Key, list[Cell | Stored]] = {}
    for key, cell in cells:
        groups.setdefault(key, []).append(cell)
    return {key: _together(parts) for key, parts in groups.items()}


def _together(parts: Sequence[Cell | Stored]) -> Cell:
    sums = [sum(values) for values in zip(*(part.sums for part in parts), strict=True)]
    sums[_REST] += sums[_COST] * _PICO
    sums[_COST] = 0
    counted = [part for part in parts if isinstance(part, Cell)]
    stored = [part for part in parts if isinstance(part, Stored)]
    return Cell(
        sums,
        bins.merged([part.latency for part in counted], [part.latency for part in stored]),
        bins.merged([part.ttfb for part in counted], [part.ttfb for part in stored]),
        max((part.most_ms for part in counted if part.most_ms is not None), default=None),
        max((part.most_usd for part in counted if part.most_usd is not None), default=None),
    )


def subtract(cell: Cell, part: Cell) -> None:
    """Take a part from a cell that contains it. `most_ms` and `most_usd` stay: nothing in the rest exceeds them."""
    cell.sums = [one - less for one, less in zip(cell.sums, part.sums, strict=True)]
    bins.subtract(cell.latency, part.latency)
    bins.subtract(cell.ttfb, part.ttfb)


def added(kind: str, found: Iterable[tuple[Key, Cell]]) -> Cells:
    """Return the cells of a kind, from those that it is added up of."""
    names = KINDS[ADDED[kind]]
    indexes = [names.index(name) for name in KINDS[kind]]
    return merged((tuple(key[index] for index in indexes), cell) for key, cell in found)


def whole(cells: Cells) -> Cells:
    """Return all cells as one, if there are any."""
    return merged(((), cell) for cell in cells.values())


def stored(kind: str, start: int, minutes: int, cells: Cells) -> Iterator[list[Any]]:
    """Yield cells as rows of the table."""
    for key, cell in cells.items():
        sums = dict(zip(rollups.SUMS, cell.sums, strict=True))
        sums["cost_usd"], sums["cost_pico"] = divmod(cell["cost_pico"], _PICO)
        row = {"start": start, "minutes": minutes, "kind": kind, "is_ok": False, "is_hit": False, **sums}
        row |= zip(KINDS[kind], key, strict=True)
        row |= {"latency": bins.dump(cell.latency), "ttfb": bins.dump(cell.ttfb)}
        row |= {"most_ms": cell.most_ms, "most_usd": cell.most_usd}
        yield [row.get(name) for name in _COLUMNS]


class Tally:
    """Rows on their way into cells."""

    def __init__(self) -> None:
        self.cells: dict[int, Cells] = {}
        self.users: Cells = {}

    def _cell(self, start: int, key: Key) -> Cell:
        of_start = self.cells.get(start)
        if of_start is None:
            of_start = self.cells[start] = {}
        return of_start.get(key) or of_start.setdefault(key, Cell())

    def request(self, start: int, row: tuple[Any, ...]) -> None:
        """Count a row as rows.py reads requests."""
        *key, user, llm_calls, prompt, cached, completion, cost, unpriced, latency, ttfb, usd, ms = row
        degraded, ok, hit = key[_DEGRADED], bool(key[_REQUEST_OK]), bool(key[_REQUEST_OK + 1])
        values = _values(llm_calls, prompt, cached, completion, cost)
        values[:4] = 1, ok or degraded in conventions.SKIPS, degraded is not None, hit
        values[_AT["unpriced"]] = bool(unpriced)
        if hit:
            _saved(values, usd, ms)
        cell = self._cell(start, (*key[:_REQUEST_OK], ok, hit))
        cell.sums = [one + more for one, more in zip(cell.sums, values, strict=True)]
        _count(cell, latency, ttfb)
        if cost is not None and (cell.most_usd is None or cost > cell.most_usd):
            cell.most_usd = math.nextafter(float(cost), math.inf)
        of_user = self.users.get((user,)) or self.users.setdefault((user,), Cell())
        of_user.sums = [one + more for one, more in zip(of_user.sums, values, strict=True)]

    def call(self, start: int, row: tuple[Any, ...]) -> None:
        """Count a row as rows.py reads calls."""
        *key, prompt, cached, completion, cost, unpriced, latency, ttfb = row
        ok = bool(key[_CALL_OK])
        values = _values(1, prompt, cached, completion, cost)
        values[:2] = 1, ok
        values[_AT["unpriced"]] = bool(unpriced)
        cell = self._cell(start, (*key[:_CALL_OK], ok))
        cell.sums = [one + more for one, more in zip(cell.sums, values, strict=True)]
        _count(cell, latency, ttfb)


def _values(llm_calls: int, prompt: int | None, cached: int | None, completion: int | None, cost: Any) -> list[int]:
    return [
        *(0, 0, 0, 0, llm_calls),
        *(prompt or 0, prompt is not None, cached or 0, cached is not None, completion or 0, completion is not None),
        *(0, 0 if cost is None else pico(cost), cost is not None, 0),
        *(0, 0, 0, 0),
    ]


def _count(cell: Cell, latency: float | None, ttfb: float | None) -> None:
    if latency is not None:
        number = bins.bin_of(latency)
        cell.latency[number] = cell.latency.get(number, 0) + 1
        if cell.most_ms is None or latency > cell.most_ms:
            cell.most_ms = latency
    if ttfb is not None:
        number = bins.bin_of(ttfb)
        cell.ttfb[number] = cell.ttfb.get(number, 0) + 1


def _saved(values: list[int], usd: Any, ms: Any) -> None:
    for name, value, unit in (("saved_nano", usd, 1e9), ("saved_us", ms, 1e3)):
        if value is not None and abs(float(value)) < _LARGEST:
            values[_AT[name]], values[_AT[name] + 1] = round(float(value) * unit), 1


def pico(amount: float | Decimal) -> int:
    """Return an amount of money in its smallest unit; a float of SQLite stands for the decimal that it prints as."""
    if isinstance(amount, float):
        if abs(amount) < _PLAIN:
            return round(amount * 1e12)
        amount = Decimal(repr(amount))
    return int(amount.scaleb(12).to_integral_value())


_LARGEST: Final = 1e9
_PLAIN: Final = 1_000.0
