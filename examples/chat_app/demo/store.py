"""Where a run's rows are: SQLite in its folder, or what further settings of the gateway say. Read as anybody would."""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from otel_telemetry.exporters.request_log.operate import limits

Row = Mapping[str, Any]

_URL: Final = "request_log.url"
_COPY: Final = "request_log.clickhouse.url"
_TRANSPORT: Final = "gateway.transport"
_SQLITE: Final = "sqlite:///"


@dataclass(slots=True, frozen=True)
class Store:
    """The databases of one run; `settings` are the gateway's, by their names."""

    folder: Path
    settings: Mapping[str, str]

    @property
    def written(self) -> str:
        """The URL of the database that the gateway writes."""
        return self.settings.get(_URL, f"{_SQLITE}{self.folder / 'telemetry.db'}")

    @property
    def read(self) -> str:
        """The URL of the database whose rows count: ClickHouse, where they are sent on to it."""
        copy = self.settings.get(_COPY)
        return f"clickhouse+{copy}" if copy else self.written

    @property
    def is_file(self) -> bool:
        """Whether the rows are in a file of the folder."""
        return self.read.startswith(_SQLITE)

    @property
    def is_sent_on(self) -> bool:
        """Whether rows go on to ClickHouse."""
        return _COPY in self.settings

    @property
    def has_topics(self) -> bool:
        """Whether Kafka is between receiving and delivering."""
        return self.settings.get(_TRANSPORT) == "kafka"

    def environment(self) -> dict[str, str]:
        """Return the settings as variables."""
        values = {_URL: self.written, **self.settings}
        return {f"OTEL_TELEMETRY_{name.replace('.', '__').upper()}": value for name, value in values.items()}

    def rows(self, table: str) -> tuple[Row, ...]:
        """Return a table's rows in the order of time, with values as SQLite has them.

        What is in no file of the folder is written to one, so that what is looked for in files is looked for there too.
        """
        query = f"SELECT * FROM {table} ORDER BY ts"  # noqa: S608 - names of ours
        if self.is_file:
            with closing(sqlite3.connect(f"file:{self.read.removeprefix(_SQLITE)}?mode=ro", uri=True)) as connection:
                connection.row_factory = sqlite3.Row
                return tuple(dict(row) for row in connection.execute(query))
        engine = limits.unlimited(self.read)
        with engine.connect() as asked:
            found = tuple({**row} for row in asked.exec_driver_sql(query).mappings())
        engine.dispose()
        rows = tuple({name: _plain(value) for name, value in row.items()} for row in found)
        with (self.folder / f"{table}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, default=str, ensure_ascii=False) + "\n" for row in rows)
        return rows


def _plain(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return float(value) if isinstance(value, Decimal) else value
