"""Percentiles by nearest rank: the smallest value that at least that share of the values does not exceed.

PostgreSQL's `percentile_disc` is that. SQLite has no such function, and ranks in a window take five times as long there
as sorting the values in Python: so it is our own aggregate, registered with each connection. ClickHouse's quantiles are
of other ranks where a share of the values is a whole number: there the share is taken a trifle smaller.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

PERCENTS: Final = (50, 95, 99)
_CENT: Final = 100
_NAME: Final = "otel_telemetry_ranks"


class _Ranks:
    """SQLite's aggregate of two columns at once: their percentiles come as a JSON array for each."""

    def __init__(self) -> None:
        self._first: list[float] = []
        self._second: list[float] = []

    def step(self, first: float | None, second: float | None) -> None:
        """Take a row; what is not known counts for nothing."""
        if first is not None:
            self._first.append(first)
        if second is not None:
            self._second.append(second)

    def finalize(self) -> str:
        """Return the percentiles."""
        return json.dumps([nearest_ranks(values) if values else None for values in (self._first, self._second)])


def nearest_ranks(values: list[float]) -> list[float]:
    """Return the percentiles of some values, one at least."""
    ordered = sorted(values)
    return [ordered[-(-len(ordered) * percent // _CENT) - 1] for percent in PERCENTS]


def prepare(engine: sa.Engine) -> None:
    """Let the connections of an engine understand `ranks`."""
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", lambda raw, _: raw.create_aggregate(_NAME, 2, _Ranks))


def ranks(dialect: str, columns: Mapping[str, sa.ColumnElement[Any]]) -> list[sa.ColumnElement[Any]]:
    """Return the expressions for the percentiles of two columns in each group; `named` reads what they find."""
    if dialect == "sqlite":
        return [sa.func.otel_telemetry_ranks(*columns.values()).label(_NAME)]
    if dialect == "clickhouse":
        return [_exact_ranks(column).label(f"{_NAME}_{name}") for name, column in columns.items()]
    shares = sa.literal([percent / _CENT for percent in PERCENTS], postgresql.ARRAY(sa.Double))
    return [
        sa.func.percentile_disc(shares).within_group(column).label(f"{_NAME}_{name}")
        for name, column in columns.items()
    ]


def _exact_ranks(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    found = sa.func.nearest_ranks(column, *(sa.literal_column(str(percent / _CENT)) for percent in PERCENTS))
    return sa.case((sa.func.count(column) > 0, found), else_=sa.func.emptyArrayFloat64())


def named(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, float | None]:
    """Return the percentiles in a row under their names, `latency_p50_ms` and so on; none where it has none."""
    if _NAME in row:
        found = json.loads(row[_NAME] or "[null, null]")  # of no rows SQLite makes NULL without asking
    elif f"{_NAME}_{names[0]}" in row:
        found = [row[f"{_NAME}_{name}"] for name in names]
    else:
        return {}
    return {
        f"{name}_p{percent}_ms": values[n] if values else None
        for name, values in zip(names, found, strict=True)
        for n, percent in enumerate(PERCENTS)
    }
