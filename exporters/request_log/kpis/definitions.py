"""A figure's definition, ready for use: from a row, a span or a log record to its number and its labels."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, Final

import orjson

from otel_telemetry.exporters.request_log.kpis.config import TABLES, Kind, KpiSettings, Source

#: Asked for a column or an attribute; ABSENT where there is none.
Get = Callable[[str], Any]
ABSENT: Final = object()
_STEP: Final = re.compile(r"\[(\d+)\]|\.?([^.\[\]]+)")
_LABEL_LIMIT: Final = 120


@dataclass(frozen=True, slots=True)
class Path:
    """A way to a value: the names that may be a key as a whole, the longest first, each with what follows within it."""

    ways: tuple[tuple[str, tuple[str | int, ...]], ...]

    def of(self, get: Get) -> Any:
        """Return the value there, or None."""
        for name, rest in self.ways:
            found = get(name)
            if found is not ABSENT:
                return _within(found, rest)
        return None


def path(text: str, *, of_rows: bool = False) -> Path:
    """Return the way that a text means: `a.b[0].c` may be a key `a.b`, and in its value the item 0, and in that `c`.

    In rows `a` is the column: no column's name has a dot.
    """
    steps: list[str | int] = [int(index) if index else name for index, name in _STEP.findall(text)]
    ways = []
    for length in range(1 if of_rows else len(steps), 0, -1):
        own = steps[:length]
        if all(isinstance(step, str) for step in own):
            ways.append((".".join(map(str, own)), tuple(steps[length:])))
    return Path(tuple(ways))


def _within(value: Any, rest: tuple[str | int, ...]) -> Any:
    for step in rest:
        if isinstance(value, str) and value[:1] in {"{", "["}:
            try:
                value = orjson.loads(value)
            except orjson.JSONDecodeError:
                return None
        if isinstance(value, Mapping) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list | tuple) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


@dataclass(frozen=True, slots=True)
class Value:
    """What one row, span or record is in a figure: its number and its labels. `problem` is why it has no number."""

    number: float
    words: tuple[str | None, ...]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Kpi:
    """A definition."""

    name: str
    source: Source
    kind: Kind
    value: Path | None
    where: tuple[tuple[Path, Any], ...]
    labels: tuple[tuple[str, Path], ...]
    settings: KpiSettings

    def of(self, get: Get) -> Value | None:
        """Return what it makes of something; None where that is not of it, or has no such value."""
        for where, wanted in self.where:
            if not _is(where.of(get), wanted):
                return None
        if self.value is None:
            number, problem = 1.0, ""
        else:
            given = self.value.of(get)
            if given is None:
                return None
            number, problem = _number(given, self.kind)
        return Value(number, tuple(_word(label.of(get)) for _, label in self.labels), problem)


def _is(value: Any, wanted: Any) -> bool:
    if isinstance(value, bool) != isinstance(wanted, bool):
        return False
    return bool(value == wanted)


def _number(given: Any, kind: Kind) -> tuple[float, str]:
    try:
        number = float(given) if isinstance(given, int | float | Decimal | str) else math.nan
    except (ValueError, OverflowError):
        return 0.0, "no_number"
    if not math.isfinite(number):
        return 0.0, "not_finite" if isinstance(given, float | str) else "no_number"
    return (0.0, "negative") if number < 0 and kind != "gauge" else (number, "")


def _word(given: Any) -> str | None:
    """Return a value as a label shows it; None where there is none, or it is no single value."""
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, str | int | float | Decimal):
        return str(given).encode("utf-8", "replace").decode()[:_LABEL_LIMIT]
    return None


def compiled(given: Mapping[str, KpiSettings]) -> tuple[Kpi, ...]:
    """Return the definitions of the settings, which were checked."""
    return tuple(_compiled(given))


def _compiled(given: Mapping[str, KpiSettings]) -> Iterator[Kpi]:
    for name, one in given.items():
        way = partial(path, of_rows=one.source in TABLES)
        yield Kpi(
            name,
            one.source,
            one.kind,
            None if one.value is None else way(one.value),
            tuple((way(where), wanted) for where, wanted in one.where.items()),
            tuple((label, way(own.path)) for label, own in one.labels.items()),
            one,
        )


def of_record(row: Any) -> Get:
    """Return the columns of a row that is an object."""
    return lambda name: getattr(row, name, ABSENT)


def of_map(row: Mapping[str, Any]) -> Get:
    """Return the columns of a row that is a map."""
    return lambda name: row.get(name, ABSENT)
