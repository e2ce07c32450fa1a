"""What is counted of requests and model calls is what the rows say: in any order, however often it comes."""

import contextlib
import json
import os
import pickle
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from otel_telemetry.base import conventions, label_bounds, metrics, records
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.store import counts
from otel_telemetry.exporters.request_log.store.store import Store, open_store
from tests.exporters.test_request_log_order import bounded, cut, traces

COUNTERS = ("requests", "llm_calls", "tokens", "cost_usd", "unpriced_calls")
TYPES = {"prompt_tokens": "prompt", "cached_tokens": "cached", "cache_write_tokens": "cache_write"}
TYPES |= {"completion_tokens": "completion", "reasoning_tokens": "reasoning"}
CALL = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini"}
USAGE = {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20}

Counts = Counter[tuple[str, ...]]


@contextlib.contextmanager
def counting() -> Iterator[Counts]:
    """Collect what the counters count: (counter, *values of labels) -> sum, money in pico-dollars."""
    counted: Counts = Counter()
    with contextlib.ExitStack() as stack:
        for name in COUNTERS:
            stack.enter_context(patch.object(getattr(metrics, name), "add", adder(counted, name)))
        yield counted


def adder(counted: Counts, name: str) -> Any:
    def add(amount: float, attributes: dict[str, str]) -> None:
        assert amount >= 0
        counted[name, *attributes.values()] += round(amount * 10**12) if name == "cost_usd" else int(amount)

    return add


def deficit(*counters: counts.Counters | counts.DeferredCounters) -> Counts:
    """Return what these owe; only books do."""
    names = {getattr(metrics, name): name for name in COUNTERS}
    found: Counts = Counter()
    for each in counters:
        assert isinstance(each, counts.Counters)
        for (counter, words), amount in each.deficit.items():
            found[names[counter], *words] += int(amount * 10**12) if isinstance(amount, Decimal) else amount
    return found


def in_rows(store: Store, *, timed: bool = False) -> Counts:
    """Return what the tables hold, as the counters would tell it; `timed`, only of rows that know how long it took."""
    assert store._engine is not None
    found: Counts = Counter()
    with store._engine.connect() as connection:
        requests, calls = schema.request_log.c.latency_ms, schema.llm_call.c.total_latency_ms
        for row in connection.execute(
            sa.select(schema.request_log).where(requests.is_not(None) if timed else sa.true())
        ):
            well = row.ok or row.degraded in conventions.SKIPS
            labels = (row.service, row.region, row.route, row.model, row.degraded, "ok" if well else "error")
            found["requests", *known(labels)] += 1
            if row.cost_source == "given" and not timed:
                own = schema.llm_call.c
                calls_of = sa.select(own.cost_usd).where(own.request_id == row.id, own.cost_usd.is_not(None))
                more = row.cost_usd - sum(connection.execute(calls_of).scalars())
                found["cost_usd", *known((row.service, row.region, row.provider, row.model))] += max(
                    0, int(more * 10**12)
                )
        for row in connection.execute(sa.select(schema.llm_call).where(calls.is_not(None) if timed else sa.true())):
            of_model = known((row.application, row.region, row.provider, row.model))
            found["llm_calls", *of_model, "ok" if row.ok else "error"] += 1
            for column, kind in TYPES.items():
                found["tokens", *of_model, kind] += getattr(row, column) or 0
            found["cost_usd", *of_model] += int((row.cost_usd or 0) * 10**12)
            if row.cost_source == "unpriced":
                whole = row.prompt_tokens is not None and row.completion_tokens is not None
                found["unpriced_calls", *of_model, "no_price" if whole else "no_usage"] += 1
    return +found


def known(values: tuple[str | None, ...]) -> tuple[str, ...]:
    return tuple(value or "" for value in values)


def recorded(histogram: Any) -> Counter[tuple[str, ...]]:
    return Counter({series.words: sum(series.counts) for series in histogram.series()})


class Database:
    """An empty database, opened anew at will."""

    def __init__(self, url: str) -> None:
        self.url = url

    def write(self, batches: list[list[records.Span]], restarts: frozenset[int] = frozenset()) -> tuple[Counts, Counts]:
        """Write batches; return what is there, and what was counted but for what is owed."""
        stores = [open_store(RequestLogSettings(url=self.url))]
        self.clear(stores[0])
        with counting() as counted:
            for number, batch in enumerate(batches):
                if number in restarts:
                    stores[-1].close()
                    stores.append(open_store(RequestLogSettings(url=self.url)))
                stores[-1].write(batch)
        counted.subtract(deficit(*(store.counters for store in stores)))
        rows = in_rows(stores[-1])
        stores[-1].close()
        assert min(counted.values(), default=0) >= 0 or restarts
        return rows, Counter({key: amount for key, amount in counted.items() if amount})

    def clear(self, store: Store) -> None:
        assert store._engine is not None
        with store._engine.begin() as connection:
            for table in reversed(schema.metadata.sorted_tables):
                connection.execute(sa.delete(table))


@pytest.fixture(scope="module", name="database", params=["sqlite", "postgres"])
def database_fixture(request, tmp_path_factory):
    if request.param == "sqlite":
        return Database(f"sqlite:///{tmp_path_factory.mktemp('counted') / 'log.db'}")
    return Database(request.getfixturevalue("postgres").database())


@bounded
@given(spans=traces(), chance=st.randoms(use_true_random=False))
def test_any_order_split_repetition_and_restart_counts_what_the_rows_say(database, spans, chance):
    batches = cut(spans, chance)
    restarts = frozenset(chance.sample(range(len(batches)), k=len(batches) // 3))
    rows, counted = database.write(batches, restarts)
    assert counted == rows


@bounded
@given(spans=traces())
def test_what_comes_whole_is_counted_with_nothing_owed_and_each_duration_recorded(database, spans):
    histograms = {"requests": metrics.request_duration, "llm_calls": metrics.llm_call_duration}
    before = {name: recorded(histogram) for name, histogram in histograms.items()}
    store = open_store(RequestLogSettings(url=database.url))
    database.clear(store)
    with counting() as counted:
        for _ in range(3):
            store.write(spans)
    assert not deficit(store.counters)
    assert counted == in_rows(store)
    timed = in_rows(store, timed=True)
    store.close()
    for name, histogram in histograms.items():
        assert recorded(histogram) - before[name] == {key[1:]: n for key, n in timed.items() if key[0] == name}


def test_a_request_whose_calls_come_after_it_ends_up_with_the_model_that_answered(store, span):
    with counting() as counted:
        for number in range(1, 51):
            trace_id = f"{number:032x}"
            store.write([span(1, None, {"request_log.route": "web"}, trace_id=trace_id)])
            store.write([span(2, 1, {**CALL, **USAGE}, trace_id=trace_id)])
    assert counted["requests", "chat", "", "web", "gpt-4o-mini", "", "ok"] == 50
    assert counted["requests", "chat", "", "web", "", "", "ok"] == 1  # each of the others paid for the one before
    assert deficit(store.counters) == {("requests", "chat", "", "web", "", "", "ok"): 1}


def test_usage_that_only_log_records_know_is_counted_once(store, span):
    with counting() as counted:
        for number in range(1, 11):
            trace_id = f"{number:032x}"
            store.write([span(1, None, CALL, kind="CLIENT", trace_id=trace_id)])
            attributes = {**CALL, **USAGE}
            store.write([span(2, 1, attributes, kind="LOG", local_root=False, start=1, seconds=0, trace_id=trace_id)])
    rows = in_rows(store)
    assert counted["llm_calls", "chat", "", "openai", "gpt-4o-mini", "ok"] == 10
    assert counted["tokens", "chat", "", "openai", "gpt-4o-mini", "prompt"] == 1_000
    assert (
        counted["cost_usd", "chat", "", "openai", "gpt-4o-mini"]
        == rows["cost_usd", "chat", "", "openai", "gpt-4o-mini"]
        > 0
    )
    assert counted["unpriced_calls", "chat", "", "openai", "gpt-4o-mini", "no_usage"] == 1


def test_a_request_that_turns_out_to_be_part_of_another_is_owed(store, span):
    inner, outer = {"request_log.route": "inner"}, {"request_log.route": "outer"}
    with counting() as counted:
        store.write([span(2, 1, inner)])
        store.write([span(1, None, outer)])
        store.write([span(3, None, inner, trace_id=f"{3:032x}")])
    expected = {("requests", "chat", "", "inner", "", "", "ok"): 1, ("requests", "chat", "", "outer", "", "", "ok"): 1}
    assert counted == Counter(expected)
    assert not deficit(store.counters)
    assert counted == in_rows(store)


def test_outcome_and_degraded_reason_of_a_request_are_told(store, span):
    degraded = {"request_log.route": "web", "request_log.degraded": "web_failed"}
    with counting() as counted:
        store.write([span(1, None, degraded), span(2, None, {"request_log.route": "b"}, status="ERROR")])
    assert +counted == {
        ("requests", "chat", "", "web", "", "web_failed", "ok"): 1,
        ("requests", "chat", "", "b", "", "", "error"): 1,
    }


def test_an_outcome_that_did_not_happen_yet_stands_at_zero_beside_the_one_that_did(store, span):
    with counting() as counted:
        store.write([span(1, None, {"request_log.route": "web"}), span(2, 1, CALL)])
    assert {key: n for key, n in counted.items() if key[0] in {"requests", "llm_calls"}} == {
        ("requests", "chat", "", "web", "gpt-4o-mini", "", "ok"): 1,
        ("requests", "chat", "", "web", "gpt-4o-mini", "", "error"): 0,
        ("llm_calls", "chat", "", "openai", "gpt-4o-mini", "ok"): 1,
        ("llm_calls", "chat", "", "openai", "gpt-4o-mini", "error"): 0,
    }


def test_hostile_names_make_no_more_than_a_bounded_number_of_series(store, span):
    chance = random.Random(7)  # noqa: S311  # names, no secret
    with counting() as counted:
        for batch in range(30):
            store.write(
                [
                    span(
                        number,
                        None,
                        {
                            **CALL,
                            "request_log.route": f"r{chance.random()}",
                            "gen_ai.request.model": f"m{number % 150}",
                        },
                        trace_id=f"{batch * 100 + number:032x}",
                        service=f"s{number}",
                    )
                    for number in range(1, 101)
                ]
            )
    by_counter = Counter(key[0] for key in counted)
    assert by_counter["requests"] <= label_bounds.MOST_SETS + 2
    assert by_counter["llm_calls"] <= label_bounds.MOST_SETS + 2
    for position in range(1, 4):
        assert len({key[position] for key in counted if key[0] == "requests"}) <= label_bounds.MOST_VALUES + 1
    assert sum(amount for key, amount in counted.items() if key[0] == "requests") == 3_000
    assert sum(amount for key, amount in counted.items() if key[0] == "llm_calls") == 3_000


def test_an_instrument_that_fails_costs_no_row(store, span, rows, tmp_path):
    with patch.object(metrics.requests, "add", side_effect=RuntimeError("no meter")) as counted:
        written = store.write([span(1, None, {"request_log.route": "web"})])
    assert counted.called
    assert (written.requests, written.dead_letters) == (1, 0)
    assert len(rows(tmp_path / "log.db", "request_log")) == 1


def test_a_budget_is_shown_where_one_is_set(open_at, span, tmp_path):
    shown: list[float] = []
    with patch.object(metrics.cost_budget_per_day_usd, "set", shown.append):
        open_at(tmp_path / "a.db").write([span(1, None, CALL)])
        assert shown == []
        open_at(tmp_path / "b.db", cost_budget_per_day_usd=12.5).write([span(1, None, CALL)])
        assert shown == [12.5]


APP = """
import json, sys
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from otel_telemetry.exporters.request_log import RequestLogSpanExporter

reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(RequestLogSpanExporter(url=sys.argv[1])))
tracer = provider.get_tracer("app")
for _ in range(3):
    with tracer.start_as_current_span("ask", attributes={"request_log.route": "web"}):
        with tracer.start_as_current_span("chat", attributes=json.loads(sys.argv[2])):
            pass
provider.shutdown()
found = {}
for resource in reader.get_metrics_data().resource_metrics:
    for scope in resource.scope_metrics:
        for metric in scope.metrics:
            for point in metric.data.data_points:
                count = getattr(point, "count", None) or getattr(point, "value", 0)
                if count:
                    found[metric.name] = [dict(point.attributes), count]
print(json.dumps(found))
"""


def test_an_app_gets_it_all_through_the_meter_provider_it_has(tmp_path):
    command = [sys.executable, "-c", APP, f"sqlite:///{tmp_path / 'app.db'}", json.dumps({**CALL, **USAGE})]
    named = {**os.environ, "OTEL_SERVICE_NAME": "chat"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=named)
    counted = json.loads(done.stdout)
    of_request = {"route": "web", "model": "gpt-4o-mini", "degraded_reason": "", "outcome": "ok"}
    service = {"service": "chat", "region": ""}
    assert counted["otel_telemetry.requests"] == [{**service, **of_request}, 3]
    assert counted["otel_telemetry.request_duration"] == [{**service, **of_request}, 3]
    assert counted["otel_telemetry.llm_call_duration"][1] == 3
    assert counted["otel_telemetry.cost_usd"][1] == pytest.approx(3 * (100 * 0.15 + 20 * 0.6) / 1e6)


def test_what_several_processes_write_of_the_same_requests_is_counted_in_one_place(tmp_path, span):
    settings = RequestLogSettings(url=f"sqlite:///{tmp_path / 'log.db'}")
    deferred = counts.DeferredCounters()
    mine, other = Store(settings), Store(settings, counters=deferred)
    with counting() as counted:
        for number in range(1, 31):
            trace_id = f"{number:032x}"
            other.write([span(1, None, {"request_log.route": "web"}, trace_id=trace_id)])
            mine.write([span(2, 1, CALL | USAGE, trace_id=trace_id)])
            for delta in pickle.loads(pickle.dumps(deferred.take())):  # noqa: S301  # as between processes
                mine.counters.add(delta)
    assert counted["requests", "chat", "", "web", "gpt-4o-mini", "", "ok"] == 30
    assert counted["requests", "chat", "", "web", "", "", "ok"] <= 1
    counted.subtract(deficit(mine.counters))
    assert +counted == in_rows(mine)
    mine.close()
    other.close()


def test_a_cost_that_an_app_says_of_a_request_counts_once_with_or_without_calls(open_at, tmp_path, span, chat):
    attributes = {"request_log.route": "a", "request_log.cost_usd": 0.5, "request_log.models.final": "own-model"}
    for name, batches in {
        "alone": [[span(1, None, attributes)]],
        "with": [[span(1, None, attributes), span(2, 1, chat())]],
        "calls last": [[span(1, None, attributes)], [span(2, 1, chat())]],
        "calls first": [[span(2, 1, chat())], [span(1, None, attributes)], [span(1, None, attributes)]],
        "unpriced": [[span(1, None, attributes), span(2, 1, {**chat(), "gen_ai.request.model": "nobody-knows-it"})]],
    }.items():
        with counting() as counted:
            store = open_at(tmp_path / f"{name}.db")
            for batch in batches:
                store.write(batch)
        cost = sum(amount for key, amount in counted.items() if key[0] == "cost_usd")
        behind = sum(amount for key, amount in deficit(store.counters).items() if key[0] == "cost_usd")
        assert cost - behind == 5 * 10**11, name
        counted.subtract(deficit(store.counters))
        assert +counted == in_rows(store)


def test_a_request_that_was_declined_on_purpose_is_no_error(open_at, tmp_path, span):
    store = open_at(tmp_path / "log.db")
    with counting() as counted:
        for number, degraded in enumerate(("media", "send_failed", "skipped")):
            attributes = {"request_log.route": "a", "request_log.ok": False, "request_log.degraded": degraded}
            store.write([span(1, None, attributes, trace_id=f"{number}" * 32)])
    outcomes = {key[5]: key[6] for key, amount in counted.items() if key[0] == "requests" and amount}
    assert outcomes == {"media": "ok", "send_failed": "error", "skipped": "ok"}
