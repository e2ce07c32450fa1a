"""The tables of workflows, feedback and browsers, and the views for queries that were written for other systems."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import coerce, schema
from otel_telemetry.exporters.request_log.store.retention import Retention
from otel_telemetry.exporters.request_log.store.store import open_store

NOW = datetime.now(UTC)
CONTRACT = Path(__file__).parents[3] / "shared" / "CONTRACT.md"
RUN = (
    *("id", "name", "description", "application", "environment", "input", "output", "status", "trace_id", "span_id"),
    *("tags", "info", "created_at", "updated_at"),
)
STEP = (
    *("id", "run_id", "type", "parent_step", "name", "input", "output", "status", "tags", "info", "span_id"),
    *("start_time", "end_time"),
)
EVENT = ("id", "run_id", "step_id", "type", "data", "error", "ts")
FEEDBACK = (
    *("id", "ts", "request_id", "trace_id", "session_id", "ip_hash", "verdict", "query", "answer", "note", "model"),
    *("scope", "sources"),
)
BROWSER = ("id", "ts", "type", "session_id", "user_agent", "ip_hash", "data")
ASK_LOGS = (
    *("id", "ts", "sid", "ip_hash", "query", "normalized", "scope", "allow_tps", "latency_ms", "model", "ok"),
    *("topk_json", "tokens_in", "tokens_out", "answer"),
)
EVENTS = ("id", "ts", "type", "sid", "ua", "ip_hash", "data_json")
CHRONICLE = (
    *("id", "event_type", "organization_id", "project_id", "user_id", "chat_request", "chat_response", "error"),
    *("provider", "model", "application", "environment", "request_organization_id", "request_project_id"),
    *("request_user_id", "workflow_id", "workflow_name", "run_id", "step_id", "step_index", "prompt_id"),
    *("prompt_version", "meta", "response_meta", "retries", "rate_limited", "request_latency_ms"),
    *("total_latency_ms", "pricing_plan", "created_at"),
)


@pytest.fixture(name="store", params=["sqlite", "postgres"])
def store_fixture(request, tmp_path):
    sqlite = f"sqlite:///{tmp_path / 'log.db'}"
    url = sqlite if request.param == "sqlite" else request.getfixturevalue("shared_database")
    store = open_store(RequestLogSettings(url=url, store_text=True))
    yield store
    assert store._engine is not None
    with store._engine.begin() as connection:
        for table in schema.metadata.sorted_tables:
            connection.execute(sa.delete(table))
    store.close()


@pytest.fixture(name="ask")
def ask_fixture(store):
    def ask(query: str) -> list[tuple[Any, ...]]:
        with store._engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query).all()]

    return ask


@pytest.fixture(name="fill")
def fill_fixture(store):
    """Inserts rows; each may be a mapping of some columns."""

    def fill(table: sa.Table, *rows: dict[str, Any]) -> None:
        with store._engine.begin() as connection:
            for row in rows:
                connection.execute(sa.insert(table).values(row))

    return fill


def at_time(at: datetime) -> dict[str, int]:
    start = coerce.nanoseconds(at)
    return {"start_ns": start, "end_ns": start + 1_000}


def count(store, table: str) -> int:
    with store._engine.connect() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(sa.table(table))).scalar_one())


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        (schema.workflow_run, RUN),
        (schema.workflow_step, STEP),
        (schema.workflow_event, EVENT),
        (schema.feedback, FEEDBACK),
        (schema.browser_event, BROWSER),
    ],
)
def test_a_table_begins_with_the_contract_s_columns_in_their_order(table, columns):
    assert tuple(table.c.keys())[: len(columns)] == columns


@pytest.mark.parametrize(
    ("view", "columns"), [("ask_logs", ASK_LOGS), ("events", EVENTS), ("chronicle_events", CHRONICLE)]
)
def test_a_view_has_the_columns_that_its_old_queries_name(store, view, columns):
    with store._engine.connect() as connection:
        assert tuple(connection.execute(sa.select(sa.text("*")).select_from(sa.table(view))).keys()) == columns


def test_every_name_that_the_contract_page_gives_tables_and_views_is_there():
    if not CONTRACT.exists():
        pytest.skip("the contract page is not beside this checkout")
    page = CONTRACT.read_text()

    def names(after: str, before: str) -> tuple[str, ...]:
        part = page.split(after, 1)[1].split(before, 1)[0]
        return tuple(re.sub(r"\([^)]*\)", "", part).replace("\n", " ").strip(" .").replace(" ", "").split(","))

    assert names("\nrun: ", "\n") == RUN
    assert names("\nstep: ", "\n") == STEP
    assert names("\nevent: ", "\n") == EVENT
    assert names("### feedback\n", "\n\n") == FEEDBACK
    assert names("`ask_logs` (", "),") == ASK_LOGS
    assert names("`events` (", ")") == EVENTS
    assert names("`chronicle_events` (", ")") == tuple(name for name in CHRONICLE if name != "pricing_plan")


def test_the_view_of_questions_answers_what_was_asked_of_its_table(store, ask, span, chat):
    attributes = {"request_log.session_id": "s1", "request_log.query_text": "why?", "request_log.topk": '["a","b"]'}
    store.write([span(1, None, attributes), span(2, 1, chat())])
    failed = {"request_log.session_id": "s1", "request_log.ok": False}
    store.write([span(1, None, failed, trace_id="a" * 32)])
    rows = ask("SELECT sid, query, tokens_in, tokens_out, ok FROM ask_logs ORDER BY ok DESC")
    assert rows == [("s1", "why?", 100, 20, 1), ("s1", None, None, None, 0)]
    assert ask("SELECT sid, count(*), sum(ok), avg(latency_ms) FROM ask_logs WHERE ok = 1 GROUP BY sid") == [
        ("s1", 1, 1, 1000.0)
    ]


def test_the_view_of_browsers_events_answers_what_was_asked_of_its_table(ask, fill):
    fill(
        schema.browser_event,
        {"id": "1", "ts": NOW, "type": "page_view", "session_id": "s", "user_agent": "Firefox", "data": {"path": "/"}},
        {"id": "2", "ts": NOW, "type": "error", "session_id": "s", "data": {"message": "x"}},
    )
    assert ask("SELECT type, count(*) FROM events GROUP BY type ORDER BY type") == [("error", 1), ("page_view", 1)]
    assert ask("SELECT sid, ua, data_json ->> 'path' FROM events WHERE type = 'page_view'") == [("s", "Firefox", "/")]


def test_the_view_of_the_proxy_s_events_has_model_calls_and_custom_events(store, ask, fill, span, chat):
    failed = {**chat(), "error.type": "TimeoutError"}
    store.write([span(1, None, chat(), seconds=1.2347), span(2, None, failed, trace_id="b" * 32)])
    about = {"run_id": "r", "application": "shop", "organization_id": "o", "prompt_version": "3"}
    fill(schema.workflow_event, {"id": "e", "type": "approval", "ts": NOW, "data": {"by": "x"}, **about})
    assert ask("SELECT event_type, count(*) FROM chronicle_events GROUP BY event_type ORDER BY event_type") == [
        ("approval", 1),
        ("chronicle_llm_request", 2),
    ]
    calls = "FROM chronicle_events WHERE event_type = 'chronicle_llm_request'"
    query = f"SELECT provider, model, rate_limited, retries, request_latency_ms {calls} AND error IS NULL"
    assert ask(query) == [("openai", "gpt-4o-mini", 0, 0, 1235)]
    custom = "FROM chronicle_events WHERE event_type = 'approval'"
    assert ask(
        f"SELECT run_id, application, request_organization_id, prompt_version, meta ->> 'by', model {custom}"
    ) == [("r", "shop", "o", 3, "x", "")]


def test_times_in_the_view_of_the_proxy_s_events_are_as_that_database_had_them(store, ask, fill):
    fill(schema.workflow_event, {"id": "e", "type": "x", "ts": NOW})
    ((created,),) = ask("SELECT created_at FROM chronicle_events")
    assert created == (NOW if store._engine.dialect.name == "postgresql" else int(NOW.timestamp()))


def test_the_views_of_runs_and_steps_have_tags_and_times_as_that_database_had_them(store, ask, fill):
    run = {"id": "r", "created_at": NOW, "updated_at": NOW, "status": "finished", "info": {"n": 1}}
    fill(schema.workflow_run, {**run, "name": "n", "tags": ["tag1", "tag2"]}, {**run, "id": "r2"})
    fill(
        schema.workflow_step, {"id": "s", "run_id": "r", "type": "llm", "tags": ["dag", "node", "a"], "start_time": NOW}
    )
    runs = ask("SELECT name, tags, created_at, updated_at, info ->> 'n' FROM chronicle_runs ORDER BY id")
    steps = ask("SELECT type, tags, start_time, end_time, input FROM chronicle_steps")
    if store._engine.dialect.name == "postgresql":
        assert runs == [("n", ["tag1", "tag2"], NOW, NOW, "1"), ("", None, NOW, NOW, "1")]
        assert steps == [("llm", ["dag", "node", "a"], NOW, None, None)]
        assert ask("SELECT id FROM chronicle_runs WHERE tags @> ARRAY['tag2']") == [("r",)]
    else:
        at = int(NOW.timestamp())
        assert runs == [("n", "tag1|tag2", at, at, 1), ("", None, at, at, 1)]
        assert steps == [("llm", "dag|node|a", at, None, None)]


OF_RUNS = (*RUN[:-2], "updated_at", "created_at")
OF_STEPS = {"postgresql": STEP, "sqlite": (*STEP[:8], "span_id", "tags", "info", "start_time", "end_time")}


def test_the_views_of_runs_and_steps_have_the_columns_of_that_database_in_their_order(store):
    with store._engine.connect() as connection:
        for view, columns in (("chronicle_runs", OF_RUNS), ("chronicle_steps", OF_STEPS[store._engine.dialect.name])):
            assert tuple(connection.execute(sa.select(sa.text("*")).select_from(sa.table(view))).keys()) == columns


def test_no_row_of_the_proxy_s_events_has_a_pricing_plan(store, ask, fill, span, chat):
    store.write([span(1, None, chat())])
    fill(schema.workflow_event, {"id": "e", "type": "x", "ts": NOW})
    assert ask("SELECT pricing_plan FROM chronicle_events") == [(None,), (None,)]


def test_feedback_has_the_names_that_the_older_module_gave_its_columns(ask, fill):
    fill(schema.feedback, {"id": "1", "ts": NOW, "verdict": "up", "session_id": "s1", "sources": [{"t": 1}]})
    ((sid, sources),) = ask("SELECT sid, sources_json FROM feedback WHERE sid = 's1'")
    assert (sid, json.loads(sources)) == ("s1", [{"t": 1}])


@pytest.mark.parametrize("table", ["ask_logs", "events", "feedback"])
def test_a_time_with_a_t_bounds_rows_of_the_same_day(store, ask, fill, span, table):
    noon = datetime(2026, 11, 29, 12, 0, 0, 250_000, tzinfo=UTC)
    early = datetime(2026, 11, 28, 23, 59, 59, 999_999, tzinfo=UTC)
    for number, at in enumerate((noon, early)):
        store.write([span(1, None, {"request_log.route": "a"}, trace_id=f"{number}" * 32, **at_time(at))])
        fill(schema.browser_event, {"id": str(number), "ts": at, "type": "x"})
        fill(schema.feedback, {"id": str(number), "ts": at, "verdict": "up"})

    def times(where: str) -> list[tuple[Any, ...]]:
        return list(ask(f"SELECT ts FROM {table} WHERE {where} ORDER BY ts"))  # noqa: S608

    assert len(times("ts >= '2026-11-28T00:00:00' AND ts <= '2026-11-29T12:00:00.250000'")) == 2
    (since,) = times("ts >= '2026-11-29T00:00:00'")
    assert times("ts >= '2026-11-29T00:00:00' AND ts < '2026-11-29T12:00:00'") == []
    if store._engine.dialect.name == "sqlite":
        assert since == ("2026-11-29T12:00:00.250000",)


def test_ids_of_questions_are_whole_numbers_that_rise_with_their_time(store, ask, span):
    times = [datetime(2026, 11, 29, 12, 0, 0, micro, tzinfo=UTC) for micro in (5, 1, 3)]
    for number, at in enumerate(times):
        attributes = {"request_log.route": "a", "request_log.session_id": str(number)}
        store.write([span(1, None, attributes, trace_id=f"{number}" * 32, **at_time(at))])
    rows = ask("SELECT id, sid FROM ask_logs ORDER BY id")
    later = ask("SELECT sid FROM ask_logs WHERE id > (SELECT min(id) FROM ask_logs)")
    assert [sid for _, sid in rows] == ["1", "2", "0"]
    assert all(type(own) is int and 0 < own < 2**53 for own, _ in rows)
    assert len(later) == 2


def old_and_new(fill) -> None:
    for name, days in (("old", 40), ("new", 5)):
        ts = NOW - timedelta(days=days)
        text = {"query": "secret", "answer": "secret", "note": "secret"}
        fill(schema.feedback, {"id": name, "ts": ts, "verdict": "up", **text})
        fill(schema.browser_event, {"id": name, "ts": ts, "type": "page_view"})
        fill(schema.workflow_event, {"id": name, "ts": ts, "type": "x"})
        fill(schema.workflow_seen, {"id": name, "ts": ts})
        texts = {"input": "secret", "output": "secret"}
        fill(schema.workflow_run, {"id": name, "created_at": ts, "updated_at": ts, **texts})
        fill(schema.workflow_step, {"id": "1", "run_id": name, **texts})
        for step in ("", "1"):
            state: dict[str, Any] = {"run_id": name, "step_id": step, "ts": ts, "stamps": {}, "has_text": True}
            fill(schema.workflow_state, state)


TRIMMED = (
    "browser_event",
    "feedback",
    "workflow_event",
    "workflow_run",
    "workflow_seen",
    "workflow_state",
    "workflow_step",
)


def test_retention_deletes_old_rows_of_every_table(store, ask, fill):
    old_and_new(fill)
    trim = Retention(store._engine, NOW - timedelta(days=30), None)
    due = trim.due()
    assert due == {(name, "row"): 2 if name == "workflow_state" else 1 for name in TRIMMED}
    counts = {(step.table, step.what): step.count for step in trim.steps() if step.what == "row"}
    assert counts == due
    for name in TRIMMED:
        assert count(store, name) == due[name, "row"]
    assert trim.due() == {}


def test_retention_removes_old_texts_of_every_table_and_leaves_the_rows(store, ask, fill):
    old_and_new(fill)
    trim = Retention(store._engine, None, NOW - timedelta(days=30))
    assert trim.due() == {(name, "text"): 1 for name in ("feedback", "workflow_run", "workflow_step")}
    trim.run(10)
    assert trim.due() == {}
    assert ask("SELECT id, query, answer, note FROM feedback ORDER BY id DESC") == [
        ("old", None, None, None),
        ("new", "secret", "secret", "secret"),
    ]
    texts = "FROM {} WHERE input IS NOT NULL OR output IS NOT NULL"
    assert ask("SELECT id " + texts.format("workflow_run")) == [("new",)]
    assert ask("SELECT run_id " + texts.format("workflow_step")) == [("new",)]
    assert [count(store, table) for table in ("workflow_run", "workflow_step")] == [2, 2]


def test_a_chunk_at_a_time_all_runs_and_steps_go(store, ask, fill, monkeypatch):
    monkeypatch.setattr("otel_telemetry.exporters.request_log.store.retention._CHUNK", 3)
    ts = NOW - timedelta(days=40)
    for run in range(4):
        fill(schema.workflow_run, {"id": f"{run}", "created_at": ts, "updated_at": ts})
        for step in ("", "1", "2"):
            if step:
                fill(schema.workflow_step, {"id": step, "run_id": f"{run}"})
            fill(
                schema.workflow_state, {"run_id": f"{run}", "step_id": step, "ts": ts, "stamps": {}, "has_text": False}
            )
    Retention(store._engine, NOW - timedelta(days=30), None).run(10)
    for name in ("workflow_run", "workflow_step", "workflow_state"):
        assert count(store, name) == 0
