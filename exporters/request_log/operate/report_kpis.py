"""Figures that users define, from the rows: read with the very definition by which the metric is made.

A row is a map: what it was grouped by, then of each figure its own name with its main number (the sum of a counter, the
mean of a gauge or histogram), `NAME_values`, how many there are, and for others than counters `NAME_p50`, `NAME_p95`
and `NAME_max`. Labels are whole here: bounds are for Prometheus.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.kpis.config import TABLES, first_of
from otel_telemetry.exporters.request_log.kpis.definitions import ABSENT, Kpi, Value
from otel_telemetry.exporters.request_log.operate.report_groups import BUCKETS, Period, Row
from otel_telemetry.exporters.request_log.operate.report_ranks import nearest_ranks

_CHUNK: Final = 2_000
_LENGTH: Final = {"day": len("2026-11-21"), "hour": len("2026-11-21 10")}
Group = tuple[str | None, ...]


@dataclass(slots=True)
class _Sum:
    """What a group has of one figure; `numbers` only where percentiles are shown."""

    count: int = 0
    total: float = 0.0
    numbers: "array[float]" = field(default_factory=lambda: array("d"))


class _Columns(dict[str, Any]):
    """A row's columns by name."""

    def __missing__(self, name: str) -> Any:
        return ABSENT


def kpis(
    connection: sa.Connection, asked: Sequence[Kpi], by: Sequence[str], period: Period, newest: int | None = None
) -> list[Row]:
    """Return the figures by labels, day or hour; of `newest` rows of each at most."""
    groups: dict[Group, dict[str, _Sum]] = {}
    buckets = [name for name in by if name in BUCKETS]
    for kpi in asked:
        names = [*buckets, *(name for name, _ in kpi.labels)]
        indexes = [names.index(name) for name in by]
        ranked = kpi.kind != "counter"
        for moment, value in _values(connection, kpi, buckets, period, newest):
            if value.problem:
                continue
            words = moment + value.words
            own = groups.setdefault(tuple([words[index] for index in indexes]), {}).setdefault(kpi.name, _Sum())
            own.count += 1
            own.total += value.number
            if ranked:
                own.numbers.append(value.number)
    ordered = sorted(groups, key=lambda group: [word or "" for word in group])
    return [{**dict(zip(by, group, strict=True)), **_shown(asked, groups[group])} for group in ordered]


def _shown(asked: Sequence[Kpi], sums: dict[str, _Sum]) -> Row:
    row: Row = {}
    for kpi in asked:
        own = sums.get(kpi.name, _Sum())
        row[f"{kpi.name}_values"] = own.count
        if kpi.kind == "counter":
            row[kpi.name] = own.total if own.count else None
            continue
        p50, p95, _ = nearest_ranks(list(own.numbers)) if own.count else (None, None, None)
        row[kpi.name] = own.total / own.count if own.count else None
        row |= {f"{kpi.name}_p50": p50, f"{kpi.name}_p95": p95, f"{kpi.name}_max": max(own.numbers, default=None)}
    return row


def _values(
    connection: sa.Connection, kpi: Kpi, buckets: Sequence[str], period: Period, newest: int | None
) -> Iterator[tuple[Group, Value]]:
    """Yield each value with the day or hour that it belongs to, reading as few columns as that takes."""
    stored, table = kpi.source not in TABLES, table_of(kpi)
    names = ["value", "labels"] if stored else sorted(_columns(kpi))
    moments = [_bucket(connection.dialect.name, table.c.ts, name) for name in buckets]
    query = sa.select(*moments, *(table.c[name] for name in names)).where(period.of(table.c.ts))
    if stored:
        query = query.where(table.c.kpi == kpi.name)
    if newest is not None:
        query = query.order_by(table.c.ts.desc()).limit(newest)
    first = len(moments)
    for chunk in connection.execute(query.execution_options(yield_per=_CHUNK)).partitions():
        for row in chunk:
            columns = _Columns(zip(names, row[first:], strict=True))
            value = _stored_value(kpi, columns) if stored else kpi.of(columns.__getitem__)
            if value is not None:
                yield tuple(row[:first]), value


def table_of(kpi: Kpi) -> sa.Table:
    """Return the table that a figure is read from."""
    return schema.metadata.tables[TABLES[kpi.source]] if kpi.source in TABLES else schema.kpi_value


def _bucket(dialect: str, ts: Any, name: str) -> sa.ColumnElement[str]:
    """Return the day or hour in UTC of a time, as text."""
    if dialect == "sqlite":  # a time is text: with a T between day and hour in some tables, a space in others
        text = sa.func.substr(sa.type_coerce(ts, sa.Text), 1, _LENGTH[name])
        return text if name == "day" else sa.func.replace(text, "T", " ") + ":00"
    if dialect == "clickhouse":
        return sa.func.formatDateTime(ts, "%Y-%m-%d" if name == "day" else "%Y-%m-%d %H:00")
    form = "YYYY-MM-DD" if name == "day" else "YYYY-MM-DD HH24:00"
    return sa.func.to_char(sa.func.timezone("UTC", ts), form)


def _stored_value(kpi: Kpi, row: Mapping[str, Any]) -> Value:
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
