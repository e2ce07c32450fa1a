"""Percentiles by nearest rank: the smallest value that at least that share of the values does not exceed.

PostgreSQL's `percentile_disc` is that. SQLite has no such thing, and takes five times as long over ranks in a window as
Python over sorting the values: there it is an aggregate of ours, told to each connection.
"""

import json
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

PERCENTS: Final = (50, 95, 99)
_CENT: Final = 100
_NAME: Final = "otel_telemetry_ranks"


class _Ranks:
    """SQLite's aggregate: values come one by one, and go as a JSON array of the percentiles."""

    def __init__(self) -> None:
        self._values: list[float] = []

    def step(self, value: float | None) -> None:
        """Take a value; what is not known counts for nothing."""
        if value is not None:
            self._values.append(value)

    def finalize(self) -> str | None:
        """Return the percentiles."""
        return json.dumps(nearest_ranks(self._values)) if self._values else None


def nearest_ranks(values: list[float]) -> list[float]:
    """Return the percentiles of some values, one at least."""
    ordered = sorted(values)
    return [ordered[-(-len(ordered) * percent // _CENT) - 1] for percent in PERCENTS]


def prepare(engine: sa.Engine) -> None:
    """Let the connections of an engine understand `ranks`."""
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", lambda raw, _: raw.create_aggregate(_NAME, 1, _Ranks))


def ranks(dialect: str, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return the expression for the percentiles of a column in each group."""
    if dialect == "sqlite":
        return sa.func.otel_telemetry_ranks(column)
    shares = sa.literal([percent / _CENT for percent in PERCENTS], postgresql.ARRAY(sa.Double))
    return sa.func.percentile_disc(shares).within_group(column)


def named(prefix: str, found: str | list[float] | None) -> dict[str, float | None]:
    """Return what `ranks` found under the names of its percentiles: `latency_p50_ms` and so on."""
    values = json.loads(found) if isinstance(found, str) else found
    return {f"{prefix}_p{p}_ms": values[n] if values else None for n, p in enumerate(PERCENTS)}
