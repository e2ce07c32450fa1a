"""Repricing: afterwards the tables are as if the present prices had held all along."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database, schema
from otel_telemetry.exporters.request_log.operate import reprice
from otel_telemetry.exporters.request_log.operate.report_groups import Period
from otel_telemetry.exporters.request_log.operate.reprice import Repricing
from otel_telemetry.exporters.request_log.price import cost
from otel_telemetry.exporters.request_log.store.store import open_store
from tests.exporters.known import rows_of

START = datetime(2026, 9, 21, tzinfo=UTC)
ALWAYS = Period()
TABLES = (schema.request_log, schema.llm_call, schema.trace_facts)
NEW = "claude-sonnet-4-5"


@pytest.fixture(name="older_prices")
def older_prices_fixture(monkeypatch):
    """Price as an older table did: everything cost twice as much, and one model was not in it yet."""
    present = cost.price

    def price(provider, model, tokens, at):
        found = cost.NoPrice("not yet") if model == NEW else present(provider, model, tokens, at)
        if isinstance(found, cost.NoPrice):
            return found
        doubled = {name: 2 * getattr(found, name) for name in ("total", "input", "cached", "output")}
        return found._replace(**doubled)

    monkeypatch.setattr(cost, "price", price)
    monkeypatch.setattr(cost, "price_version", lambda: "genai-prices/0.0.1")
    return monkeypatch


@pytest.fixture(name="spans")
def spans_fixture(span, chat):
    """Return requests with calls of every kind of cost."""
    new = {"gen_ai.provider.name": "anthropic"}
    refused = {"http.response.status_code": 400, "gen_ai.usage.input_tokens": None, "gen_ai.usage.output_tokens": None}
    kinds = [
        [chat()],
        [chat(), chat("gpt-4o", (5_000, 300)), {**chat(NEW), **new}],
        [{**chat(NEW), **new}],
        [chat("of-tomorrow"), chat()],
        [{**chat(), "request_log.cost_usd": 0.5}, chat()],
        [{**chat(), **refused}],
        [{**chat(), "gen_ai.usage.output_tokens": -5}],
        [],
    ]
    made = []
    for n, calls in enumerate(kinds, 1):
        trace = f"{n:032x}"
        attributes = {"request_log.route": "a", **({"request_log.cost_usd": 0.75} if n == 1 else {})}
        made.append(span(1, None, attributes, trace_id=trace, start=n))
        for number, call in enumerate(calls, 2):
            status = "ERROR" if "http.response.status_code" in call else "UNSET"
            made.append(span(number, 1, call, trace_id=trace, start=n, status=status))
    return made


def content(url: str) -> dict[str, list[dict[str, Any]]]:
    """Return what the tables hold, whatever rows it is in."""
    engine = database.connect(url)
    found = rows_of(engine, TABLES)
    engine.dispose()
    return found


def stored(url: str, table: sa.Table) -> list[tuple[Any, ...]]:
    """Return the rows of a table as they are."""
    engine = database.connect(url)
    with engine.connect() as connection:
        found = connection.execute(sa.select(table).order_by(*table.primary_key.columns)).all()
    engine.dispose()
    return [tuple(row) for row in found]


def write(url: str, spans) -> None:
    store = open_store(RequestLogSettings(url=url))
    assert store.write(spans).dead_letters == 0
    store.close()


def run(url: str, period: Period = ALWAYS, *, dry_run: bool = False):
    with Repricing(url, period, dry_run=dry_run) as repricing:
        size = repricing.size()
        assert sum(repricing.steps()) == size
        return repricing.outcome


def test_afterwards_all_tables_are_as_if_the_present_prices_had_held_all_along(
    url, spans, older_prices, tmp_path, monkeypatch
):
    write(url, spans)
    older_prices.undo()
    monkeypatch.setattr(reprice, "_CHUNK", 2)
    outcome = run(url)
    fresh = f"sqlite:///{tmp_path / 'fresh.db'}"
    write(fresh, spans)
    assert content(url) == content(fresh)
    assert len(stored(url, schema.trace_facts)) == 8
    assert outcome.requests == 5
    assert outcome.models[NEW].newly_priced == 2
    mini = outcome.models["gpt-4o-mini"]
    assert (mini.calls, mini.changed) == (7, 5)
    assert mini.before - mini.after == 4 * Decimal("0.000027")
    assert outcome.models["of-tomorrow"].without_price == 1
    before = stored(url, schema.trace_facts)
    again = run(url)
    assert (again.requests, sum(tally.changed for tally in again.models.values())) == (0, 0)
    assert stored(url, schema.trace_facts) == before
    assert content(url) == content(fresh)


def test_a_run_that_broke_off_is_finished_by_the_next(url, spans, older_prices, tmp_path, monkeypatch):
    write(url, spans)
    older_prices.undo()
    monkeypatch.setattr(reprice, "_CHUNK", 3)
    with Repricing(url, Period(), dry_run=False) as repricing:
        assert next(iter(repricing.steps())) == 3
    run(url)
    write(f"sqlite:///{tmp_path / 'fresh.db'}", spans)
    assert content(url) == content(f"sqlite:///{tmp_path / 'fresh.db'}")


def test_late_spans_are_added_to_new_prices(url, spans, older_prices, tmp_path, monkeypatch):
    monkeypatch.undo()
    early = [each for n, each in enumerate(spans) if n % 3]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "price_version", lambda: "genai-prices/0.0.1")
        write(url, early)
    run(url)
    write(url, spans)
    write(f"sqlite:///{tmp_path / 'fresh.db'}", spans)
    assert content(url) == content(f"sqlite:///{tmp_path / 'fresh.db'}")


def test_late_spans_of_repriced_traces_are_what_they_are_elsewhere(url, spans, older_prices, tmp_path):
    other = f"sqlite:///{tmp_path / 'other.db'}"
    write(url, spans)
    for each in reversed(spans):
        write(other, [each])
    older_prices.undo()
    assert run(url) == run(other)
    assert content(url) == content(other)
    late = [replace(spans[1], trace_id=f"{n:032x}", span_id=f"{9:016x}") for n in range(1, 9)]
    for each in (url, other):
        write(each, late)
    assert content(url) == content(other)


def test_a_dry_run_tells_the_same_and_changes_nothing(url, spans, older_prices):
    write(url, spans)
    older_prices.undo()
    before = content(url), stored(url, schema.trace_facts)
    printed = run(url, dry_run=True)
    assert (content(url), stored(url, schema.trace_facts)) == before
    assert printed.requests == 5
    assert printed == run(url)
    assert stored(url, schema.trace_facts) != before[1]


def test_only_calls_of_the_period_are_looked_at(url, spans, older_prices):
    write(url, spans)
    older_prices.undo()
    assert run(url, Period(since=START + timedelta(days=30))).models == {}
    third = datetime.fromtimestamp(1_790_000_003, UTC)
    outcome = run(url, Period(third, third + timedelta(seconds=1)))
    assert {model: tally.calls for model, tally in outcome.models.items()} == {NEW: 1}


def test_what_has_no_price_any_more_keeps_the_one_it_had(url, spans, monkeypatch):
    write(url, spans)
    before = content(url)
    monkeypatch.setattr(cost, "price", lambda *_: cost.NoPrice("gone"))
    assert sum(tally.changed for tally in run(url).models.values()) == 0
    assert content(url) == before


def test_calls_whose_spans_are_forgotten_stay_as_they_are(url, spans, older_prices):
    write(url, spans)
    older_prices.undo()
    store = open_store(RequestLogSettings(url=url))
    assert store._engine is not None
    with store._engine.begin() as connection:
        connection.execute(sa.delete(schema.trace_facts))
    store.close()
    before = content(url)
    assert run(url).forgotten == 8
    assert content(url) == before
