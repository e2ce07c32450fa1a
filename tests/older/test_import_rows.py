"""Rows of older systems come over as they were: each value in its new column, redacted, texts only where stored."""

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tests.older import databases
from tests.older.conftest import everything

STORE_TEXT = "OTEL_TELEMETRY_REQUEST_LOG__STORE_TEXT"


def test_what_was_asked_is_a_row_of_request_log(tmp_path, bring, stored, new):
    report = bring(databases.module(tmp_path / "old.db"), new)
    assert report["ask_logs"] == {
        "system": "the SQLite telemetry module",
        "table": "ask_logs",
        "rows": 1,
        "new": 1,
        "known": 0,
        "skipped": 0,
        "lost": 0,
    }
    (row,) = stored(new, "request_log")
    assert row["ts"] == datetime(2025, 9, 1, 10, 0, 0, 123456, UTC)
    assert (row["latency_ms"], row["model"], row["scope"], row["allow_tps"]) == (1234, "gpt-4o-mini", "manuals", 1)
    assert (row["prompt_tokens"], row["completion_tokens"], row["ok"]) == (100, 20, True)
    assert row["ip_hash"] == "a1b2c3d4e5f6"
    assert row["topk"] == [{"title": "Ropes", "score": 0.5}]
    assert (row["cost_usd"], row["llm_calls"]) == (None, 0)
    assert row["meta"] == {"imported": "ask_logs 1"}


def test_one_person_is_one_pseudonym_in_all_tables(tmp_path, bring, stored, new):
    bring(databases.module(tmp_path / "old.db"), new)
    (asked,), (judged,), (seen,) = (stored(new, name) for name in ("request_log", "feedback", "browser_event"))
    assert asked["session_id"] == judged["session_id"] == seen["session_id"]
    assert "sess-1" not in asked["session_id"]


def test_feedback_and_browser_events_keep_what_they_say(tmp_path, bring, stored, new):
    bring(databases.module(tmp_path / "old.db"), new)
    (judged,), (seen,) = stored(new, "feedback"), stored(new, "browser_event")
    assert judged["ts"] == datetime(2025, 9, 1, 10, 0, 5, tzinfo=UTC)
    assert (judged["verdict"], judged["note"]) == ("down", "write to [REDACTED_EMAIL]")
    assert (judged["model"], judged["scope"], judged["sources"]) == ("gpt-4o-mini", "manuals", [{"title": "Tents"}])
    assert seen["ts"] == datetime(2025, 9, 1, 10, 0, 1, 500_000, UTC)
    assert (seen["type"], seen["user_agent"], seen["data"]) == ("page_view", "Firefox", {"path": "/docs"})


def test_texts_come_over_only_where_texts_are_stored_and_redacted_then(tmp_path, bring, stored, monkeypatch):
    old = databases.module(tmp_path / "old.db")
    bring(old, f"sqlite:///{tmp_path / 'without.db'}")
    monkeypatch.setenv(STORE_TEXT, "true")
    bring(old, f"sqlite:///{tmp_path / 'with.db'}")
    (row,) = stored(f"sqlite:///{tmp_path / 'without.db'}", "request_log")
    assert (row["query_text"], row["answer_text"], row["normalized"]) == (None, None, None)
    assert "tent" not in everything(tmp_path / "without.db").replace("Tents", "")
    (row,) = stored(f"sqlite:///{tmp_path / 'with.db'}", "request_log")
    assert (row["query_text"], row["answer_text"]) == ("what does [REDACTED_EMAIL] want?", "she wants a tent")
    assert "jane@example.com" not in everything(tmp_path / "with.db")


def test_the_bots_rows_keep_their_ids_costs_and_tokens_as_given(tmp_path, bring, stored, new):
    bring(databases.bot(tmp_path / "old.db"), new)
    (row,) = stored(new, "request_log")
    assert (row["id"], row["ts"]) == ("req-1", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert (row["cost_usd"], row["cost_source"]) == (Decimal("0.0125"), "given")
    assert (row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"]) == (300, 100, 50)
    assert row["conversation_id"] == "!room:example.org"
    assert row["user_id"]
    assert "jane" not in row["user_id"]
    assert (row["route"], row["router_source"], row["router_confidence"]) == ("web_then_answer", "classifier", 0.75)
    assert row["models"] == {"router": "small", "final": "large"}
    assert (row["stage_ms"], row["latency_ms"]) == ({"router": 12, "web": 1400}, 2100.5)
    assert (row["escalated"], row["cache_hit"], row["ok"], row["error"]) == (True, False, True, None)
    assert (row["degraded"], row["prompt_version"], row["provider_request_id"]) == ("web_failed", "v3", "prov-9")
    assert row["meta"] == {"mood": "curious"}


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        ('{"input": 0.25, "output": 0.5}', ("0.75", "0.25", None, "0.5")),
        ('{"total": 2, "cached": 0.5}', ("2", None, "0.5", None)),
        (None, (None, None, None, None)),
        (0, ("0", None, None, None)),
    ],
)
def test_costs_in_parts_are_added_up_and_no_cost_stays_unknown(tmp_path, bring, stored, cost, expected):
    columns = "ID TEXT, RoomID TEXT, Route TEXT, Cost TEXT, Err TEXT, TS TEXT"
    rows = [{"ID": "r", "RoomID": "room", "Route": "none", "Cost": cost, "Err": "boom", "TS": "2026-01-02 03:04:05"}]
    new = f"sqlite:///{tmp_path / 'new.db'}"
    bring(databases.bot(tmp_path / "old.db", rows, columns), new)
    (row,) = stored(new, "request_log")
    names = ("cost_usd", "cost_input_usd", "cost_cached_usd", "cost_output_usd")
    assert tuple(row[name] for name in names) == tuple(None if each is None else Decimal(each) for each in expected)
    assert (row["conversation_id"], row["route"], row["error"], row["ok"]) == ("room", "none", "boom", False)


@pytest.fixture(name="chronicle", params=["sqlite", "postgres"])
def chronicle_fixture(request, tmp_path):
    if request.param == "sqlite":
        return databases.chronicle(tmp_path / "old.db")
    return databases.chronicle_on_postgres(request.getfixturevalue("postgres").database())


def test_chronicle_comes_over_from_both_databases(tmp_path, bring, stored, chronicle, monkeypatch):
    monkeypatch.setenv(STORE_TEXT, "true")
    new = f"sqlite:///{tmp_path / 'new.db'}"
    report = bring(chronicle, new)
    assert {name: row["new"] for name, row in report.items()} == {
        "chronicle_events": 2,
        "chronicle_runs": 1,
        "chronicle_steps": 1,
    }
    (call,) = stored(new, "llm_call")
    assert call["id"].startswith(databases.CALL.replace("-", ""))
    assert (call["provider"], call["model_requested"], call["model"]) == (
        "openai",
        "gpt-4o-mini",
        "gpt-4o-mini-2024-07-18",
    )
    assert (call["prompt_tokens"], call["completion_tokens"], call["finish_reason"]) == (11, 3, "stop")
    assert (call["request_latency_ms"], call["total_latency_ms"], call["retries"]) == (700, 900, 1)
    assert (call["application"], call["environment"], call["organization_id"]) == ("shop", "prod", "org-1")
    assert (call["run_id"], call["step_id"], call["step_index"]) == (databases.RUN, databases.STEP, 2)
    assert (call["prompt_id"], call["prompt_version"], call["meta"]["plan"]) == ("greet", "4", "gold")
    assert call["rate_limited"]
    assert call["cost_usd"] > 0
    assert call["ts"] == datetime.fromtimestamp(1_767_323_045, UTC)
    assert "[REDACTED_EMAIL]" in str(call["chat_request"])
    (event,) = stored(new, "workflow_event")
    assert (event["id"], event["type"], event["run_id"]) == (databases.EVENT, "approval", databases.RUN)
    assert event["data"] == {"by": "[REDACTED_EMAIL]", "level": 2}
    (run,) = stored(new, "workflow_run")
    assert (run["id"], run["name"], run["status"], run["tags"]) == (databases.RUN, "answer", "skipped", ["a", "b"])
    assert run["info"] == {"tokens": 5, "mail": "[REDACTED_EMAIL]"}
    assert (run["input"], run["output"]) == ({"question": "is anyone in?"}, {"done": True})
    assert (run["updated_at"] - run["created_at"]).total_seconds() == 10
    (step,) = stored(new, "workflow_step")
    assert (step["id"], step["run_id"], step["type"], step["status"]) == (
        databases.STEP,
        databases.RUN,
        "llm",
        "error",
    )
    assert (step["tags"], step["info"]["n"], step["output"]) == (["t"], 1, {"message": "broke"})
    assert (step["end_time"] - step["start_time"]).total_seconds() == 3
    assert "jane@example.com" not in everything(tmp_path / "new.db")


@pytest.mark.parametrize(
    ("status", "ended"), [("started", None), ("waiting", None), ("finished", 1_767_323_049), ("odd", 1_767_323_049)]
)
def test_each_status_of_a_step_stays_as_it_was(tmp_path, bring, stored, status, ended):
    step = {**databases.STEPPED, "status": status, "end_time": ended}
    rows = {"chronicle_events": [], "chronicle_runs": [], "chronicle_steps": [step]}
    new = f"sqlite:///{tmp_path / 'new.db'}"
    bring(databases.chronicle(tmp_path / "old.db", rows), new)
    (found,) = stored(new, "workflow_step")
    assert found["status"] == status
    assert found["end_time"] == (ended and datetime.fromtimestamp(ended, UTC))


def test_a_call_that_failed_is_one_here_too(tmp_path, bring, stored):
    call = {**databases.CALLED, "chat_response": None, "error": {"status": 500}, "model": "gpt-4o-mini"}
    rows = {"chronicle_events": [call], "chronicle_runs": [], "chronicle_steps": []}
    new = f"sqlite:///{tmp_path / 'new.db'}"
    bring(databases.chronicle(tmp_path / "old.db", rows), new)
    (found,) = stored(new, "llm_call")
    assert (found["ok"], found["error"], found["prompt_tokens"]) == (False, '{"status": 500}', None)


ASKED_OF_BOTH = {
    "module": (
        "SELECT count(*), avg(latency_ms), sum(tokens_in), sum(tokens_out), min(ts) FROM ask_logs WHERE ok = 1",
        "SELECT ts, ip_hash, scope, allow_tps, model, tokens_in FROM ask_logs WHERE ts >= '2025-09-01T00:00:00'",
        "SELECT type, ua, count(*) FROM events GROUP BY type, ua",
        "SELECT verdict, model, scope, count(*) FROM feedback GROUP BY verdict, model, scope",
    ),
    "chronicle": (
        "SELECT event_type, count(*), avg(request_latency_ms), max(created_at) FROM chronicle_events GROUP BY 1",
        "SELECT organization_id, provider, model, application, retries FROM chronicle_events WHERE model > ''",
        "SELECT run_id, step_id, step_index, prompt_version, total_latency_ms FROM chronicle_events ORDER BY 3",
        "SELECT pricing_plan FROM chronicle_events LIMIT 1",
        "SELECT meta ->> 'level' FROM chronicle_events WHERE event_type = 'approval'",
        "SELECT id, name, application, environment, status, tags, created_at, updated_at FROM chronicle_runs",
        "SELECT id, run_id, type, name, status, tags, start_time, end_time FROM chronicle_steps",
    ),
}


@pytest.mark.parametrize("system", ASKED_OF_BOTH)
def test_old_queries_find_in_the_new_database_what_they_find_in_the_old_one(tmp_path, bring, system):
    make: dict[str, Callable[[Path], str]] = {"module": databases.module, "chronicle": databases.chronicle}
    bring(make[system](tmp_path / "old.db"), f"sqlite:///{tmp_path / 'new.db'}")
    before, after = (sqlite3.connect(tmp_path / name) for name in ("old.db", "new.db"))
    for query in ASKED_OF_BOTH[system]:
        assert after.execute(query).fetchall() == before.execute(query).fetchall(), query
    before.close()
    after.close()
