"""The tables are the contract's, the records are the tables', and migrations make what schema.py says."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.db import column_types, database, schema
from otel_telemetry.exporters.request_log.derive import requests

REQUEST_LOG = [
    *(
        "id",
        "ts",
        "trace_id",
        "span_id",
        "service",
        "environment",
        "session_id",
        "conversation_id",
        "user_id",
        "ip_hash",
        "route",
        "router_source",
    ),
    *(
        "router_confidence",
        "models",
        "model",
        "provider",
        "prompt_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "completion_tokens",
    ),
    *(
        "reasoning_tokens",
        "cost_usd",
        "cost_input_usd",
        "cost_cached_usd",
        "cost_output_usd",
        "cost_source",
        "latency_ms",
        "ttfb_ms",
    ),
    *(
        "tokens_per_second",
        "stage_ms",
        "llm_calls",
        "retries",
        "escalated",
        "fallback_fired",
        "cache_hit",
        "ceiling_hit",
        "per_user_cap_hit",
    ),
    *(
        "rate_limited",
        "prompt_version",
        "provider_request_id",
        "scope",
        "allow_tps",
        "normalized",
        "topk",
        "degraded",
        "error",
        "ok",
        "query_text",
    ),
    *("answer_text", "meta", "region"),
]
LLM_CALL = [
    *(
        "id",
        "request_id",
        "trace_id",
        "span_id",
        "parent_span_id",
        "event_type",
        "ts",
        "organization_id",
        "project_id",
        "user_id",
    ),
    *(
        "request_organization_id",
        "request_project_id",
        "request_user_id",
        "application",
        "environment",
        "workflow_id",
        "workflow_name",
        "run_id",
    ),
    *(
        "step_id",
        "step_index",
        "prompt_id",
        "prompt_version",
        "operation",
        "provider",
        "model_requested",
        "model",
        "chat_request",
        "chat_response",
    ),
    *(
        "finish_reason",
        "provider_request_id",
        "prompt_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "completion_tokens",
        "reasoning_tokens",
    ),
    *(
        "token_basis",
        "cost_usd",
        "cost_input_usd",
        "cost_cached_usd",
        "cost_output_usd",
        "cost_source",
        "price_version",
        "retries",
        "rate_limited",
    ),
    *(
        "request_latency_ms",
        "total_latency_ms",
        "ttfb_ms",
        "tokens_per_second",
        "streamed",
        "error",
        "ok",
        "dialect",
        "meta",
        "response_meta",
        "region",
    ),
]
CONTRACT = Path(__file__).parents[3] / "shared" / "CONTRACT.md"


@pytest.mark.parametrize(
    ("table", "record", "names"),
    [(schema.request_log, records.Request, REQUEST_LOG), (schema.llm_call, records.LlmCall, LLM_CALL)],
)
def test_record_table_and_contract_have_the_same_columns_in_the_same_order(table, record, names):
    assert [column.name for column in table.columns] == names
    assert [field.name for field in fields(record)] == names


#: Columns beyond the contract.
OURS = {"region"}


def test_every_column_that_the_contract_page_names_exists():
    if not CONTRACT.exists():
        pytest.skip("the contract page is not beside this checkout")
    page = CONTRACT.read_text()
    section = page[page.index("### request_log") : page.index("### llm_call")]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ")][1:]
    named = {name.strip() for cell in cells for name in cell.split(",")}
    assert named == set(REQUEST_LOG) - OURS
    calls = page[page.index("### llm_call") : page.index("### workflow_run")].split("\n", 1)[1]
    calls = re.sub(r"\([^)]*\)", "", calls).replace("cost_* as above", "cost_usd")
    assert {name.strip() for name in calls.strip().rstrip(".").split(",")} <= set(LLM_CALL)


def test_an_app_can_say_every_column_that_is_not_the_span_s_own():
    assert set(REQUEST_LOG) - set(requests.COLUMNS) == {
        *("ts", "trace_id", "span_id", "service", "environment", "cost_source", "meta")
    }


def test_migrations_make_exactly_the_tables_of_the_schema(tmp_path):
    engine = database.connect(f"sqlite:///{tmp_path / 'log.db'}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE})
        assert compare_metadata(context, schema.metadata) == []
        made = set(connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql LIKE '%WHERE%'").all())
    engine.dispose()
    wanted = {
        (index.name, str(CreateIndex(index).compile(dialect=engine.dialect)))
        for table in schema.metadata.sorted_tables
        for index in table.indexes
        if index.dialect_options["sqlite"]["where"] is not None
    }
    assert made == wanted


def test_the_revision_that_needs_no_migration_is_the_newest_one():
    folder = Path(database.__file__).parents[1] / "migrations"
    config = Config()
    config.set_main_option("script_location", str(folder))
    assert ScriptDirectory.from_config(config).get_current_head() == schema.HEAD


def test_the_same_definition_is_valid_ddl_for_postgresql_with_its_own_types():
    ddl = {
        table.name: str(CreateTable(table).compile(dialect=postgresql.dialect()))
        for table in schema.metadata.sorted_tables
    }
    assert "cost_usd NUMERIC(20, 12)" in ddl["request_log"]
    assert "ts TIMESTAMP WITH TIME ZONE NOT NULL" in ddl["request_log"]
    assert "stage_ms JSONB" in ddl["request_log"]


def test_money_comes_back_digit_for_digit_and_sums_in_plain_sql(tmp_path):
    from decimal import Decimal

    amounts = [Decimal("0.000000000001"), Decimal("999.999999999999"), Decimal("0.1"), Decimal("0.2"), None]
    table = sa.Table("money", sa.MetaData(), sa.Column("amount", column_types.Money))
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'money.db'}")
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(sa.insert(table), [{"amount": amount} for amount in amounts])
        assert list(connection.execute(sa.select(table.c.amount)).scalars()) == amounts
        total = connection.exec_driver_sql("SELECT SUM(amount) FROM money").scalar()
        assert total == pytest.approx(1000.3, abs=1e-9)
    engine.dispose()
