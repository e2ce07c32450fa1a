"""A request_log with rows that say something, and the page over it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from starlette.testclient import TestClient

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.db import bulk, database, schema
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.ui.app import make_app
from otel_telemetry.ui.reading import Reading
from tests.long import fewer

NOW = datetime.now(UTC).replace(microsecond=0)


def request(number: int, **values: Any) -> records.Request:
    """Return a request of some minutes ago."""
    name = f"{number:032x}-{number:016x}"
    given: dict[str, Any] = {
        "id": name,
        "ts": NOW - timedelta(seconds=number),
        "trace_id": name[:32],
        "span_id": name[33:],
        "route": "chat",
        "model": "small",
        "latency_ms": 100.0 + number,
        "ttfb_ms": 10.0,
        "llm_calls": 1,
    }
    return records.Request(**(given | values))


def call(number: int, **values: Any) -> records.LlmCall:
    """Return a call of that request."""
    asked = request(number)
    given: dict[str, Any] = {"id": f"call-{number}", "request_id": asked.id, "ts": asked.ts, "trace_id": asked.trace_id}
    return records.LlmCall(**{"span_id": "c", "model": "small", "total_latency_ms": 50.0, **given, **values})


def several() -> tuple[list[records.Request], list[records.LlmCall]]:
    """Return 120 requests of two routes, with failures, costs known and not, and one answered from the cache."""
    requests = [
        request(
            n,
            route="search" if n % 3 == 0 else "chat",
            ok=n % 10 != 0,
            error="TimeoutError: no answer" if n % 10 == 0 else None,
            degraded="no_sources" if n % 15 == 1 else None,
            cost_usd=None if n % 4 == 0 else Decimal(n) / 1_000,
            cost_source="unpriced" if n % 4 == 0 else "computed",
            prompt_tokens=100,
            cached_tokens=40,
            completion_tokens=10,
            user_id=f"u{n % 2}",
        )
        for n in range(120)
    ]
    requests[1].cache_hit, requests[1].meta = True, {"cache_saved_usd": 0.5, "cache_saved_ms": 1500}
    requests[2].query_text, requests[2].answer_text = "how long is a <b>rope</b>?", "as long as it is"
    return requests, [call(n, model="large" if n == 5 else "small") for n in range(120)]


def fill(url: str, requests: list[records.Request], calls: list[records.LlmCall]) -> None:
    """Write rows as they are."""
    engine = database.connect(url)
    with engine.begin() as connection:
        for table, rows in ((schema.request_log, requests), (schema.llm_call, calls)):
            bulk.bulk(connection).insert(table, [[getattr(row, column.name) for column in table.c] for row in rows])
    engine.dispose()


def serve(url: str) -> TestClient:
    """Return a browser of a kind on the page of a database."""
    return TestClient(make_app(Reading(url), RedactionSettings()), base_url="http://127.0.0.1", follow_redirects=False)


@pytest.fixture
def url(with_tables: Callable[[str], str]) -> str:
    """Return an SQLite database of these rows."""
    found = with_tables("sqlite")
    fill(found, *several())
    return found


@pytest.fixture(params=fewer(["sqlite", "postgres", "clickhouse"], ["sqlite", "postgres"], "e2e"))
def either(
    request: pytest.FixtureRequest, with_tables: Callable[[str], str], as_read: Callable[..., str]
) -> Iterator[TestClient]:
    """Return the page over these rows, in each database."""
    found = with_tables(request.param)
    fill(found, *several())
    with serve(as_read(request.param, found, once="ui")) as client:
        yield client


@pytest.fixture
def client(url: str) -> Iterator[TestClient]:
    """Return the page over these rows."""
    with serve(url) as client:
        yield client
