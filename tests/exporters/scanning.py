"""A second look at a database of tests, and all that is in it."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from otel_telemetry.commands.scan import RowCleaner
from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.operate.scan import Scan
from otel_telemetry.exporters.request_log.store.store import Store
from otel_telemetry.processors.config import PseudonymSettings, RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor

SECRET = SecretStr("k" * 32)


def cleaner(policy: Path | None = None, **pseudonyms: Any) -> RowCleaner:
    return RowCleaner(Redactor(RedactionSettings(policy=policy, pseudonyms=PseudonymSettings(**pseudonyms))))


def run(url: str, *, fix: bool = False, **settings: Any) -> Scan:
    """Scan to the end, which has to tell of each row once; the bytes are not reclaimed."""
    with Scan(url, cleaner(**settings), fix=fix) as scanned:
        size = scanned.size()
        assert sum(count for _, count in scanned.steps()) == size
        return scanned


def everything(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables."""
    assert store._engine is not None
    with store._engine.connect() as connection:
        return {
            table.name: [
                tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key.columns))
            ]
            for table in schema.metadata.sorted_tables
        }


class Meanwhile(RowCleaner):
    """Looks at texts, and has something done once, when these are read and nothing is written yet."""

    def __init__(self, redactor: Redactor, done: Any) -> None:
        super().__init__(redactor)
        self._done = [done]

    def suspects(self, texts: Sequence[str]) -> Collection[int]:
        while self._done:
            self._done.pop()()
        return super().suspects(texts)
