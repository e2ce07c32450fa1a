"""A gateway that writes rows to a real database, for the tests of the endpoints beside OTLP."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import sqlalchemy as sa
from pydantic import SecretStr

from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database, schema
from otel_telemetry.exporters.request_log.sink import RequestLogSink
from otel_telemetry.processors.config import PseudonymSettings, RedactionSettings
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.pseudonym import Pseudonyms
from otel_telemetry.processors.redact.redactor import Redactor

PSEUDONYMS = PseudonymSettings(secret=SecretStr("0123456789abcdef0123456789abcdef"))
pseudonyms = Pseudonyms(PSEUDONYMS)


def engine_with_secret() -> OtlpRedactor:
    """Return a redactor that makes pseudonyms."""
    return OtlpRedactor(Redactor(RedactionSettings(pseudonyms=PSEUDONYMS)))


@dataclass
class RestGateway:
    """A client of a running gateway, and what is in its database."""

    client: httpx.AsyncClient
    running: Any
    url: str

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a table as they are now, in the order of their times."""
        table = schema.metadata.tables[name]
        order = [table.c[column] for column in ("ts", "created_at") if column in table.c] or [table.c.id]
        engine = database.reader(self.url)
        with engine.connect() as connection:
            found = [dict(row) for row in connection.execute(sa.select(table).order_by(*order)).mappings()]
        engine.dispose()
        return found

    async def until(self, name: str, count: int) -> list[dict[str, Any]]:
        """Return the rows of a table once it has so many."""
        end = time.monotonic() + 60
        while len(rows := await asyncio.to_thread(self.rows, name)) < count:
            assert time.monotonic() < end, (rows, self.rows("dead_letter"))
            await asyncio.sleep(0.02)
        return rows


def gateway_opener(serving: Any, url: str) -> Callable[..., Any]:
    """Return a context manager that runs a gateway on a database and yields its RestGateway."""

    @asynccontextmanager
    async def open_gateway(rest: Any = None, headers: Any = None, **settings: Any) -> AsyncIterator[RestGateway]:
        given = {name: settings.pop(name) for name in ("store_text",) if name in settings}
        engine = settings.pop("engine", None) or engine_with_secret()
        sink = RequestLogSink(RequestLogSettings(url=url, **given))
        async with (
            serving(engine=engine, sinks=[sink], rest=rest, **settings) as running,
            httpx.AsyncClient(base_url=running.http, headers=headers, timeout=60) as client,
        ):
            yield RestGateway(client, running, url)
        sink.close()

    return open_gateway
