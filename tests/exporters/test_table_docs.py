"""docs/tables.md tells every table, view and column of databases of both kinds."""

import re

import pytest
import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import database, descriptions, schema
from tests.exporters import table_docs


@pytest.fixture(name="engine", params=["sqlite", "postgres"])
def engine_fixture(request, empty_database):
    engine = database.connect(empty_database(request.param))
    yield engine
    engine.dispose()


def test_the_page_is_up_to_date_and_has_the_columns_of_a_real_database(engine: sa.Engine) -> None:
    there = table_docs.columns_of(engine)
    page = table_docs.PAGE.read_text(encoding="utf-8")
    if engine.dialect.name == "sqlite":  # PostgreSQL has two columns of a view in another order
        assert page == table_docs.page(there), "run python -m tests.exporters.table_docs"
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    on_page = {text.split("\n", 1)[0]: re.findall(r"^\| `(\w+)`", text, re.MULTILINE) for text in sections}
    assert on_page.keys() == there.keys()
    for name, columns in there.items():
        assert sorted(on_page[name]) == sorted(columns), name


def test_nothing_is_described_that_is_not_there() -> None:
    described = {(table, name) for table, columns in descriptions.COLUMNS.items() for name in columns}
    tables = {(table.name, column.name) for table in schema.metadata.tables.values() for column in table.columns}
    assert {pair for pair in described - tables if pair[0] not in descriptions.VIEWED} == set()
    assert descriptions.TABLES.keys() == {*schema.metadata.tables, *descriptions.VIEWED}
    assert descriptions.COLUMNS.keys() == descriptions.TABLES.keys()
