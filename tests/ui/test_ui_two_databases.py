"""Requests from one database, the rest from the one that is written to."""

from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa
from starlette.testclient import TestClient

from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database, schema
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.ui.app import make_app
from otel_telemetry.ui.config import UiSettings
from otel_telemetry.ui.reading import Reading, databases
from tests.ui.conftest import fill, request


def test_requests_come_from_the_database_that_is_named_and_feedback_from_that_written_to(
    with_tables: Callable[[str], str],
) -> None:
    read, written = with_tables("sqlite"), with_tables("sqlite")
    asked = request(1)
    fill(read, [asked], [])
    engine = database.connect(written)
    with engine.begin() as connection:
        said = {"id": "f", "ts": datetime.now(UTC), "request_id": asked.id, "verdict": "up"}
        connection.execute(sa.insert(schema.feedback), [said])
    engine.dispose()
    urls = databases(UiSettings(database_url=read), RequestLogSettings(url=written))
    assert urls == (read, written)
    app = make_app(Reading(urls[0]), RedactionSettings(), written=Reading(urls[1]))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        (found,) = client.get(f"/ui/api/requests/{asked.id}").json()
        assert [each["verdict"] for each in found["feedback"]] == ["up"]
        assert client.get("/ui/api/summary").json()["total"]["requests"] == 1


def test_the_word_clickhouse_is_where_rows_are_sent_to() -> None:
    config = RequestLogSettings(url="sqlite:///x.db", clickhouse={"url": "https://u:p@host:8443/telemetry"})
    found = databases(UiSettings(database_url="clickhouse"), config)
    assert found == ("clickhouse+https://u:p@host:8443/telemetry", "sqlite:///x.db")
    assert "u:p" not in repr(UiSettings(database_url=found[0]))
