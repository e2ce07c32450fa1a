"""Figures that users define, from the rows: read with the very definition by which the metric is made.

A row is a map: what it was grouped by, then of each figure its own name with its main number (the sum of a counter, the
mean of a gauge or histogram), `NAME_values`, how many there are, and for others than counters `NAME_p50`, `NAME_p95`
and `NAME_max`. Labels are whole here: bounds are for Prometheus.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.kpis.config import TABLES, first_of
from otel_telemetry.exporters.request_log.kpis.definitions import Kpi, Value, of_map
from otel_telemetry.exporters.request_log.operate.report_groups import BUCKETS, Period, Row
from otel_telemetry.exporters.request_log.operate.report_ranks import nearest_ranks

_CHUNK: Final = 2_000
_LENGTH: Final = {"day": len("2026-11-21"), "hour": len("2026-11-21 10")}
Group = tuple[str | None, ...]


@dataclass(slots=True)
class _Sum:
    """What a group has of one figure."""

    numbers: "array[float]" = field(default_factory=lambda: array("d"))
    last: float = 0.0


def kpis(
    connection: sa.Connection, asked: Sequence[Kpi], by: Sequence[str], period: Period, newest: int | None = None
) -> list[Row]:
    """Return the figures by labels, day or hour; of `newest` rows of each at most."""
    groups: dict[Group, dict[str, _Sum]] = {}
    for kpi in asked:
        for ts, value in _values(connection, kpi, period, newest):
            if not value.problem:
                words = dict(zip((name for name, _ in kpi.labels), value.words, strict=True))
                group = tuple(_bucket(ts, name) if name in BUCKETS else words[name] for name in by)
                own = groups.setdefault(group, {}).setdefault(kpi.name, _Sum())
                own.numbers.append(value.number)
                own.last = value.number
    ordered = sorted(groups, key=lambda group: [word or "" for word in group])
    return [{**dict(zip(by, group, strict=True)), **_shown(asked, groups[group])} for group in ordered]


def _bucket(ts: datetime, name: str) -> str:
    text = ts.astimezone(UTC).isoformat(" ")[: _LENGTH[name]]
    return f"{text}:00" if name == "hour" else text


def _shown(asked: Sequence[Kpi], sums: dict[str, _Sum]) -> Row:
    row: Row = {}
    for kpi in asked:
        numbers = sums[kpi.name].numbers if kpi.name in sums else array("d")
        total = sum(numbers)
        row[f"{kpi.name}_values"] = len(numbers)
        if kpi.kind == "counter":
            row[kpi.name] = total if numbers else None
            continue
        p50, p95, _ = nearest_ranks(list(numbers)) if numbers else (None, None, None)
        row[kpi.name] = total / len(numbers) if numbers else None
        row |= {f"{kpi.name}_p50": p50, f"{kpi.name}_p95": p95, f"{kpi.name}_max": max(numbers, default=None)}
    return row


def _values(
    connection: sa.Connection, kpi: Kpi, period: Period, newest: int | None
) -> Iterator[tuple[datetime, Value]]:
    table = schema.metadata.tables[TABLES[kpi.source]] if kpi.source in TABLES else schema.kpi_value
    if table is schema.kpi_value:
        query = sa.select(table.c.ts, table.c.value, table.c.labels).where(table.c.kpi == kpi.name)
    else:
        query = sa.select(table.c.ts, *(table.c[name] for name in _columns(kpi) if name != "ts"))
    query = query.where(period.of(table.c.ts)).order_by(table.c.ts.desc()).limit(newest)
    for row in connection.execute(query.execution_options(yield_per=_CHUNK)).mappings():
        value = _kept(kpi, row) if table is schema.kpi_value else kpi.of(of_map(row))  # type: ignore[arg-type]
        if value is not None:
            yield row["ts"], value


def _kept(kpi: Kpi, row: sa.RowMapping) -> Value:
    """Return a value that was kept; one from before the labels were others has none of them."""
    words = row["labels"] or []
    return Value(row["value"], tuple(words) if len(words) == len(kpi.labels) else (None,) * len(kpi.labels))


def _columns(kpi: Kpi) -> set[str]:
    given = kpi.settings
    paths = [*given.where, *(label.path for label in given.labels.values()), *filter(None, (given.value,))]
    return {first_of(path) for path in paths} or {"id"}


def choices(asked: Sequence[Kpi]) -> list[str]:
    """Return by what figures can be asked together."""
    common = [name for name, _ in asked[0].labels if all(name in dict(kpi.labels) for kpi in asked)]
    return [*BUCKETS, *common]


def total(connection: sa.Connection, asked: Sequence[Kpi], period: Period, newest: int) -> Row:
    """Return the figures of a whole period, of so many of the newest rows at most."""
    found = kpis(connection, asked, (), period, newest)
    return found[0] if found else {}


def main(kpi: Kpi, row: Row) -> tuple[Any, str]:
    """Return the number that stands for a figure, and what it is."""
    of_many = "sum" if kpi.kind == "counter" else "mean"
    return row.get(kpi.name), f"{of_many} of {row.get(f'{kpi.name}_values', 0):,}"
