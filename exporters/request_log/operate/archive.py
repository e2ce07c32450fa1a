"""Writes whole days of `request_log` and `llm_call` as Parquet files, into a folder or into S3-compatible storage.

There is one file for each table and day in UTC, `request_log/day=2026-11-30/rows.parquet`: the layout that DuckDB,
ClickHouse, Spark and pandas read as one table, with `day` as a column. Columns with texts are left out, and today,
which has not ended. Writing a day again replaces its file. A file that has more rows than the database has left of that
day, because retention deleted them, is not replaced.
"""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import IO, Any, Final, Self

import sqlalchemy as sa

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.exporters.request_log.db import column_types, schema
from otel_telemetry.exporters.request_log.operate import limits, parquet
from otel_telemetry.exporters.request_log.operate.report_groups import Period

TABLES: Final = (schema.request_log, schema.llm_call)
_OPTION: Final = "--to"
_DAY: Final = timedelta(days=1)
_GROUP: Final = 10_000  # rows of a group within a file
_HINT: Final = "name a folder, or s3://bucket/path?region=...&endpoint_override=..."
_CREDENTIALS: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of a user that may write there, then run it again"
)


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one day of a table; `is_left`: its file has more rows, and was not replaced."""

    table: str
    day: date
    rows: int
    is_left: bool


class Archive:
    """Writes the days of a period, as far as they have ended, from the database at `url` to `target`.

    `target` is a folder, or a URL such as `s3://bucket/telemetry?region=eu-central-1`; with `endpoint_override=` for
    other servers than Amazon's. With `replace`, files with more rows are replaced too. Raises ConfigurationError where
    the target cannot be used.
    """

    def __init__(self, url: str, target: str, period: Period, *, replace: bool = False) -> None:
        self._files, self._root = _opened(target)
        self._period = period
        self._replace = replace
        self._engine = limits.unlimited(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.dispose()

    def days(self) -> list[tuple[sa.Table, date]]:
        """Return the days to be written, of each table, the oldest first."""
        return [(table, day) for table in TABLES for day in self._days(table)]

    def _days(self, table: sa.Table) -> Iterator[date]:
        with self._engine.connect() as connection:
            first = connection.execute(sa.select(sa.func.min(table.c.ts))).scalar()
        if first is None:
            return
        today = datetime.now(UTC).date()
        since, until = self._period.since, self._period.until
        start = max(first.date(), _next_day(since)) if since else first.date()
        end = min(today, until.astimezone(UTC).date()) if until else today
        yield from (start + _DAY * number for number in range((end - start).days))

    def write(self, table: sa.Table, day: date) -> Written:
        """Write the file of a day, where it has rows."""
        path = f"{self._root}/{table.name}/day={day}/rows.parquet"
        with tempfile.TemporaryFile() as file:
            rows = self._collect(table, day, file)
            is_left = bool(rows) and not self._replace and self._rows_of(path) > rows
            if rows and not is_left:
                self._put(file, path)
        return Written(table.name, day, rows, is_left)

    def _collect(self, table: sa.Table, day: date, file: IO[bytes]) -> int:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        from pyarrow.parquet import ParquetWriter  # noqa: PLC0415

        columns = [column for column in table.c if column.name not in schema.TEXTS]
        start = datetime.combine(day, time(), UTC)
        query = sa.select(*columns).where(table.c.ts >= start, table.c.ts < start + _DAY)
        ordered = query.order_by(table.c.ts, table.c.id).execution_options(yield_per=_GROUP)
        as_json = [column.name for column in columns if isinstance(column.type, column_types.Json)]
        fields = parquet.fields(columns)
        count = 0
        with self._engine.connect() as connection, ParquetWriter(file, fields, compression="zstd") as writer:
            for group in connection.execute(ordered).mappings().partitions():
                rows = [dict(row) for row in group]
                for row in rows:
                    row.update((name, column_types.encode(row[name])) for name in as_json if row[name] is not None)
                writer.write_table(pa.Table.from_pylist(rows, schema=fields))
                count += len(rows)
        return count

    def _rows_of(self, path: str) -> int:
        """Return how many rows a file has, 0 where there is none."""
        from pyarrow.fs import FileType  # noqa: PLC0415
        from pyarrow.parquet import read_metadata  # noqa: PLC0415

        try:
            if self._files.get_file_info(path).type is FileType.NotFound:
                return 0
            with self._files.open_input_file(path) as file:
                return int(read_metadata(file).num_rows)
        except OSError as error:
            raise _unusable(error) from None

    def _put(self, file: IO[bytes], path: str) -> None:
        """Upload a file; where a folder is the target, it appears as a whole."""
        from pyarrow.fs import LocalFileSystem  # noqa: PLC0415

        file.seek(0)
        is_local = isinstance(self._files, LocalFileSystem)
        name = f"{path}.part" if is_local else path
        try:
            if is_local:
                self._files.create_dir(path.rpartition("/")[0])
            with self._files.open_output_stream(name) as out:
                shutil.copyfileobj(file, out, 1 << 20)
            if is_local:
                self._files.move(name, path)
        except OSError as error:
            raise _unusable(error) from None


def _opened(target: str) -> tuple[Any, str]:
    """Return the file system that a target names, and the path in it."""
    if not parquet.is_there():
        raise ConfigurationError(_OPTION, "Parquet needs the extra parquet", parquet.INSTALL)
    from pyarrow.fs import FileSystem  # noqa: PLC0415

    url = target if "://" in target else Path(target).absolute().as_uri()
    try:
        files, root = FileSystem.from_uri(url)
    except (OSError, ValueError) as error:
        raise ConfigurationError(_OPTION, f"cannot be used: {str(error).splitlines()[0]}", _HINT) from None
    if not root:
        raise ConfigurationError(_OPTION, "names no bucket", _HINT)
    return files, root.rstrip("/")


def _unusable(error: OSError) -> ConfigurationError:
    return ConfigurationError(_OPTION, f"cannot be written: {str(error).splitlines()[0]}", _CREDENTIALS)


def _next_day(since: datetime) -> date:
    """Return the first day that lies wholly behind a moment."""
    start = since.astimezone(UTC)
    return start.date() if start.time() == time() else start.date() + _DAY
