"""Days of rows in S3-compatible storage: ClickHouse reads them there as one table, and a denial is told."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from typer.testing import CliRunner, Result

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.cli import app
from otel_telemetry.exporters.request_log.clickhouse.client import ClickHouse
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.store.store import open_store
from tests.backends.clickhouse import ClickHouseServer, clickhouse_fixture
from tests.backends.s3_server import BUCKET, READER, WRITER, S3Server, s3_fixture
from tests.exporters.conftest import START, chat, make_span

__all__ = ["clickhouse_fixture", "s3_fixture"]

DAYS = 5
COST = (100 * Decimal("0.15") + 20 * Decimal("0.60")) / 1_000_000  # of gpt-4o-mini


@pytest.fixture(name="url")
def url_fixture(with_tables: Callable[[str], str]) -> str:
    """A hundred requests with a call each, on each of five days."""
    url = with_tables("postgres")
    store = open_store(RequestLogSettings(url=url))
    for day in range(DAYS):
        traces = range(day * 100 + 1, day * 100 + 101)
        spans = [
            make_span(1, None, {"request_log.route": "direct"}, trace_id=f"{n:032x}", start=day * 86_400.0 + n)
            for n in traces
        ]
        store.write(
            [*spans, *(make_span(2, 1, chat(), trace_id=span.trace_id, start=day * 86_400.0) for span in spans)]
        )
    store.close()
    return url


def export(url: str, s3: S3Server, credentials: dict[str, str], target: str = "cold") -> Result:
    return CliRunner().invoke(app, ["export", "--db", url, "--to", s3.url(target)], env=credentials)


def test_clickhouse_reads_the_days_in_the_bucket_as_one_table(
    url: str, s3: S3Server, clickhouse: ClickHouseServer
) -> None:
    for _ in range(2):  # again is the same
        result = export(url, s3, WRITER)
        assert result.exit_code == 0, result.output
    key, secret = READER.values()
    files = f"s3('{s3.address}/{BUCKET}/cold/llm_call/day=*/rows.parquet', '{key}', '{secret}')"
    server = ClickHouse(clickhouse.url())
    (found,) = server.rows(f"SELECT count() AS n, uniq(day) AS days, toString(sum(cost_usd)) AS usd FROM {files}")  # noqa: S608
    assert (int(found["n"]), int(found["days"]), Decimal(found["usd"])) == (500, DAYS, 500 * COST)
    second = datetime.fromtimestamp(START / 1e9, UTC).date() + timedelta(days=1)
    (one_day,) = server.rows(f"SELECT count() AS n FROM {files} WHERE day = '{second}'")  # noqa: S608
    assert int(one_day["n"]) == 100


def test_who_may_not_write_is_told_and_what_is_there_stays(url: str, s3: S3Server) -> None:
    refused = export(url, s3, READER).exception
    assert isinstance(refused, ConfigurationError)
    assert "ACCESS_DENIED" in refused.problem
    assert "AWS_ACCESS_KEY_ID" in refused.hint
