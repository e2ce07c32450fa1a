"""The stored form of facts: that of earlier versions is read as it is, that of later ones is refused."""

from decimal import Decimal

import orjson
import pytest
import sqlalchemy as sa

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.derive import chunks
from otel_telemetry.exporters.request_log.read import span_facts
from tests.exporters.known import known, rows_of
from tests.exporters.test_request_log_migration import old_database

TRACE = "a" * 32
SERVED = (schema.request_log, schema.llm_call)


@pytest.fixture(name="spans")
def spans_fixture(span, chat):
    """Return a request and two calls of it, one of which failed and was tried again."""
    failed = {**chat("gpt-4o"), "http.request.resend_count": 2, "error.type": "429", "gen_ai.request.temperature": 0.2}
    return [
        span(1, None, {"request_log.route": "a"}, trace_id=TRACE, kind="SERVER"),
        span(2, 1, {**chat(), "user.id": "0123456789ab"}, trace_id=TRACE, start=1),
        span(3, 1, failed, trace_id=TRACE, start=2, status="ERROR"),
    ]


def with_whole_names(body: str) -> str:
    """Return facts as version 1 wrote them: columns by their names, and those of a failed call among them."""
    version, *head, spans = orjson.loads(body)
    assert version == chunks.VERSION
    for span in spans:
        if len(span) > 6 and span[9] is not None:
            span[9] = {chunks._LONG.get(name, name): value for name, value in span[9].items()}
    return orjson.dumps([1, *head, spans]).decode()


def test_what_is_stored_of_a_span_comes_back(spans):
    placed = [span_facts.to_fact(each, store_text=False) for each in spans]
    body = chunks.row(placed)[-1]
    for form in (body, with_whole_names(body)):
        found = chunks.load(form)
        assert [fact.call for fact in found] == [getattr(each, "call", None) for each in placed]
        assert [fact.request_fields for fact in found] == [fact.request_fields for fact in placed]
    call = chunks.load(body)[1].call
    assert call is not None
    assert isinstance(call.cost_usd, Decimal)


def test_short_names_are_of_columns_and_differ():
    columns = set(records.LlmCall.__dataclass_fields__)
    assert chunks._SHORT.keys() <= columns
    assert len(chunks._LONG) == len(chunks._SHORT)
    assert not chunks._LONG.keys() & columns


def test_facts_of_a_later_version_are_refused(spans):
    _, *rest = orjson.loads(chunks.row([span_facts.to_fact(spans[1], store_text=False)])[-1])
    with pytest.raises(ValueError, match="a later version of this program wrote"):
        chunks.load(orjson.dumps([chunks.VERSION + 1, *rest]).decode())


@pytest.fixture(name="late")
def late_fixture(span, chat):
    return span(4, 1, chat("gpt-4o"), trace_id=TRACE, start=5)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_late_span_finds_what_an_earlier_version_stored(kind, empty_database, open_url, spans, late, tmp_path):  # noqa: PLR0917
    fresh = open_url(f"sqlite:///{tmp_path / 'fresh.db'}")
    fresh.write(spans)
    table = schema.trace_facts
    with fresh._engine.connect() as connection:
        rows = {
            each: [dict(row) for row in connection.execute(sa.select(each)).mappings()] for each in (*SERVED, table)
        }
    engine = old_database(empty_database(kind), "0021")
    with engine.begin() as connection:
        for table, found in rows.items():
            for row in found:
                if table is schema.trace_facts:
                    row = {**row, "body": with_whole_names(row["body"])}  # noqa: PLW2901
                    del row["id"]  # the database gives it
                connection.execute(sa.insert(table), row)
    url = engine.url.render_as_string(hide_password=False)
    engine.dispose()
    store = open_url(url)
    assert store.write(spans).spans == 0
    for each in (fresh, store):
        assert each.write([late]).spans == 1
    assert rows_of(store._engine, SERVED) == rows_of(fresh._engine, SERVED)
    with store._engine.connect() as one, fresh._engine.connect() as other:
        assert known(one) == known(other)
        assert one.execute(sa.text("SELECT version_num FROM otel_telemetry_version")).scalar() == schema.HEAD
