"""What rows are in Parquet: money as decimals, times in UTC with microseconds, JSON as text."""

import importlib.util
from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import column_types

#: Installs what writes Parquet.
INSTALL: Final = 'pip install "otel-telemetry[parquet]"'


def is_there() -> bool:
    """Return whether Parquet can be written (the extra `parquet`)."""
    return importlib.util.find_spec("pyarrow") is not None


def fields(columns: Iterable[sa.Column[Any]]) -> Any:
    """Return columns as a `pyarrow.Schema`."""
    import pyarrow as pa  # noqa: PLC0415 - an extra

    types = {
        column_types.UtcTime: pa.timestamp("us", tz="UTC"),
        column_types.Money: pa.decimal128(20, column_types.PICO),
        sa.Boolean: pa.bool_(),
        sa.BigInteger: pa.int64(),
        sa.Double: pa.float64(),
    }
    return pa.schema([(column.name, types.get(type(column.type), pa.string())) for column in columns])
