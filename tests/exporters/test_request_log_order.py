"""Rows depend on the set of spans alone: not on order, batches, repetition or restarts.

The reasons: docs/architecture.md, D6 and D7.
"""

import dataclasses
import random
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.store.store import open_store
from tests.exporters.known import rows_of

pytestmark = pytest.mark.timeout(1_200)  # sixty examples, each of which opens its database several times

TABLES = ("request_log", "llm_call", "trace_facts", "request_claim", "dead_letter")
SECOND = 1_000_000_000
START = 1_790_000_000 * SECOND

_chat = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini"}
_usage = {"gen_ai.usage.input_tokens": 1_000, "gen_ai.usage.output_tokens": 20}
#: What a span may say: nothing, a call (priced, unpriced, failed, with a stage), an agent, a stage, a request.
SAYINGS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {**_chat, **_usage},
    {**_chat, **_usage, "gen_ai.usage.cache_read.input_tokens": 300, "request_log.stage": "final"},
    {**_chat, **_usage, "gen_ai.request.model": "nobody-knows-it"},
    {**_chat, "error.type": "timeout", "request_log.stage": "router"},
    {"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "gpt-4o", **_usage},
    {"gen_ai.request.model": "gpt-4o", "gen_ai.system": "openai", "gen_ai.usage.prompt_tokens": 50},
    {**_chat, **_usage, "gen_ai.response.id": "a"},
    {**_chat, **_usage, "gen_ai.response.id": "b", "user.id": "0123456789ab"},
    {**_chat, "gen_ai.response.id": "a"},
    {"request_log.stage": "web"},
    {"request_log.route": "web_then_grok", "request_log.degraded": "web_failed"},
    {"request_log.id": "r-1", "request_log.stage_ms.web": 12},
    {"request_log.id": "r-2", "request_log.prompt_tokens": 7},
)
#: What a log record of a model call may say.
LOGGED: tuple[dict[str, Any], ...] = (
    {**_chat, "gen_ai.usage.input_tokens": 700, "gen_ai.usage.output_tokens": 8},
    {**_chat, "gen_ai.usage.input_tokens": 800, "gen_ai.usage.output_tokens": 9, "gen_ai.response.id": "a"},
    {**_chat, "gen_ai.response.id": "b", "gen_ai.response.finish_reasons": ["stop"], "user.id": "ba9876543210"},
)


def log_of(span: records.Span, attributes: dict[str, Any]) -> records.Span:
    """Return the log record of a model call, written in the context of a span."""
    return dataclasses.replace(
        span,
        span_id=f"1{span.span_id[1:]}",
        parent_span_id=span.span_id,
        local_root=False,
        kind="LOG",
        start_ns=span.end_ns,
        status="UNSET",
        attributes=attributes,
    )


@st.composite
def traces(draw: st.DrawFn) -> list[records.Span]:
    """Draw the spans of a few traces, as trees over two services, some with spans that never come."""
    found = []
    for trace in range(draw(st.integers(1, 2))):
        size = draw(st.integers(1, 12))
        services: list[str] = []
        for number in range(size):
            parent = draw(st.one_of(st.none(), st.integers(0, number - 1))) if number else None
            inherited = services[parent] if parent is not None else "chat"
            services.append(draw(st.sampled_from([inherited, inherited, inherited, "worker"])))
            missing = draw(st.integers(0, 11)) == 0
            enters = parent is None or draw(st.integers(0, 5)) == 0
            length = draw(st.integers(0, 5))
            span = records.Span(
                trace_id=f"{trace + 1:032x}",
                span_id=f"{number + 1:016x}",
                parent_span_id=None if parent is None else f"{parent + 1:016x}",
                local_root=enters,
                name="span",
                kind="SERVER" if enters else "INTERNAL",
                start_ns=START + number * SECOND,
                end_ns=START + (number + length) * SECOND,
                status=draw(st.sampled_from(["UNSET", "UNSET", "ERROR"])),
                status_message="",
                attributes=draw(st.sampled_from(SAYINGS)),
                events=(),
                resource={"service.name": services[-1]},
            )
            if not missing:
                found.append(span)
            if draw(st.integers(0, 3)) == 0:
                found.append(log_of(span, draw(st.sampled_from(LOGGED))))
    return found


class Database:
    """Databases of one kind: empties one, writes spans to it, reads what is in it as Python's own values."""

    def __init__(self, url: str) -> None:
        self.store = open_store(RequestLogSettings(url=url))

    def write(self, batches: list[list[records.Span]], restarts: frozenset[int] = frozenset()) -> dict[str, list[Any]]:
        """Write batches to an empty database; return its tables."""
        self.clear()
        for number, batch in enumerate(batches):
            if number in restarts:
                self.store.close()
            self.store.write(batch)
        return rows_of(self.engine, [schema.metadata.tables[name] for name in TABLES])

    @property
    def engine(self) -> sa.Engine:
        assert self.store._engine is not None
        return self.store._engine

    def clear(self) -> None:
        self.store.open()
        with self.engine.begin() as connection:
            for name in TABLES:
                connection.execute(sa.delete(schema.metadata.tables[name]))


@pytest.fixture(scope="module", name="sqlite_database")
def sqlite_database_fixture(tmp_path_factory):
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('order') / 'log.db'}")
    yield database
    database.store.close()


@pytest.fixture(scope="module", name="postgres_database")
def postgres_database_fixture(postgres):
    database = Database(postgres.database())
    yield database
    database.store.close()


@pytest.fixture(scope="module", name="database", params=["sqlite", "postgres"])
def database_fixture(request) -> Database:
    database: Database = request.getfixturevalue(f"{request.param}_database")
    return database


def cut(spans: list[records.Span], chance: random.Random) -> list[list[records.Span]]:
    """Shuffle, repeat some, and cut into batches."""
    shuffled = [*spans, *chance.choices(spans, k=chance.randrange(len(spans) + 1))] if spans else []
    chance.shuffle(shuffled)
    batches: list[list[records.Span]] = [[]]
    for span in shuffled:
        if chance.random() < 0.4:
            batches.append([])
        batches[-1].append(span)
    return batches


bounded = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


@bounded
@given(spans=traces(), chance=st.randoms(use_true_random=False))
def test_any_order_split_repetition_and_restart_gives_the_same_tables(database, spans, chance):
    batches = cut(spans, chance)
    restarts = frozenset(chance.sample(range(len(batches)), k=len(batches) // 3))
    assert database.write(batches, restarts) == database.write([spans])


@bounded
@given(spans=traces(), chance=st.randoms(use_true_random=False))
def test_both_databases_hold_the_same_tables(sqlite_database, postgres_database, spans, chance):
    assert postgres_database.write(cut(spans, chance)) == sqlite_database.write(cut(spans, chance))


class Oracle:
    """The four rules of derive/trace.py, computed from all spans at once and with no regard for cost."""

    def __init__(self, spans: list[records.Span]) -> None:
        self.spans = {(span.trace_id, span.span_id): span for span in spans}
        self.counted = {key for key in self.spans if self.is_call(key) and not self.is_repeated(key)}
        self.requests = {key for key in self.spans if self.is_request(key)}

    def above(self, key):
        """The span itself, then its ancestors within the service."""
        while key is not None:
            yield key
            span = self.spans[key]
            upper = (span.trace_id, span.parent_span_id or "")
            known = self.spans.get(upper)
            key = upper if known is not None and known.resource == span.resource else None

    def is_call(self, key):
        attributes = self.spans[key].attributes
        return attributes.get("gen_ai.operation.name") == "chat" or "gen_ai.usage.prompt_tokens" in attributes

    def is_repeated(self, key):
        calls = [
            other for other in self.spans if self.is_call(other) and other != key and self.is_same_call(key, other)
        ]
        if self.spans[key].kind == "LOG":
            return any(self.spans[other].kind != "LOG" and other in self.above(key) for other in calls)
        return any(self.spans[other].kind != "LOG" and key in self.above(other) for other in calls)

    def is_same_call(self, key, other):
        ids = {self.spans[each].attributes.get("gen_ai.response.id") for each in (key, other)}
        return None in ids or len(ids) == 1

    def is_carrier(self, key):
        names = {name for name in self.spans[key].attributes if name.startswith("request_log.")}
        return bool(names - {"request_log.stage"})

    def enters(self, key):
        span = self.spans[key]
        upper = self.spans.get((span.trace_id, span.parent_span_id or ""))
        return span.local_root or (upper is not None and upper.resource != span.resource)

    def root(self, key):
        return next((upper for upper in self.above(key) if self.enters(upper)), None)

    def top(self, key):
        carriers = [upper for upper in self.above(key) if self.is_carrier(upper)]
        return carriers[-1] if carriers else None

    def owner(self, key):
        if self.top(key) is not None:
            return self.top(key)
        root = self.root(key)
        overruled = any(self.is_carrier(other) and self.root(other) == root for other in self.spans)
        return None if root is None or overruled else root

    def is_request(self, key):
        if self.is_carrier(key):
            return self.top(key) == key
        return any(self.owner(call) == key for call in self.counted)

    def request_of(self, call):
        if self.owner(call) is not None:
            return self.owner(call)
        group = (call[0], self.spans[call].resource)
        candidates = [key for key in self.requests if (key[0], self.spans[key].resource) == group]
        return candidates[0] if len(candidates) == 1 else None


@bounded
@given(spans=traces(), chance=st.randoms(use_true_random=False))
def test_requests_and_their_calls_are_those_that_the_rules_name(database, spans, chance):
    oracle = Oracle(spans)
    tables = database.write(cut(spans, chance))
    requests = {
        (row["trace_id"], row["span_id"]): (row["id"], row["llm_calls"], row["prompt_tokens"])
        for row in tables["request_log"]
    }
    calls = {(row["trace_id"], row["span_id"]): row["request_id"] for row in tables["llm_call"]}
    assert set(requests) == oracle.requests
    assert set(calls) == oracle.counted
    for call, request_id in calls.items():
        request = oracle.request_of(call)
        assert request_id == (requests[request][0] if request is not None else None)
    for key, (_, count, _) in requests.items():
        assert count == sum(oracle.request_of(call) == key for call in oracle.counted)


def test_a_call_that_turns_out_to_wrap_another_stays_with_its_request(database, span, chat):
    root, other = span(1, None), span(3, 2, chat(), kind="LOG")  # the log's own span never comes
    outer, inner = span(4, 1, chat(request_log__stage="final")), span(6, 4, chat(), local_root=True)
    inside = dataclasses.replace(span(7, 6, chat()), kind="LOG")
    first = dataclasses.replace(span(8, 1, chat()), kind="LOG")
    spans = [first, root, outer, inner, other, inside]
    expected = database.write([spans])
    assert expected["request_log"][0]["stage_ms"] == {"final": 1000.0}
    assert database.write([[first], [root], [outer], [inner, other, inside]]) == expected


def test_spans_whose_parents_go_round_in_a_circle_are_stored_and_end(store, span, chat, rows, tmp_path):
    store.write([span(1, 2, chat()), span(2, 3), span(3, 1, {"request_log.route": "a"})])
    store.write([span(11, 12, chat())])
    store.write([span(12, 11)])
    store.write([span(21, 21, chat())])
    assert len(rows(tmp_path / "log.db", "facts")) == 6


def test_one_trace_in_many_batches_costs_per_batch_what_the_batch_holds(store, span, chat):
    """Count the nodes that each batch reads and writes: they must not grow with the trace."""
    store.write([span(1, None, {"request_log.route": "agent"}, kind="SERVER")])
    touched = []
    for batch in range(8):
        with counted_parameters(store) as parameters:
            store.write([span(100 * (batch + 1) + n, 1, chat()) for n in range(50)])
        touched.append(sum(parameters))
    assert max(touched[1:]) <= touched[1] * 1.1


class counted_parameters:  # noqa: N801  # reads as a phrase
    """How many sets of parameters the store sends to the database."""

    def __init__(self, store):
        self.engine = store._engine
        self.counts: list[int] = []

    def _count(self, *event):
        _, _, _, parameters, _, many = event
        self.counts.append(len(parameters) if many else 1)

    def __enter__(self):
        sa.event.listen(self.engine, "before_cursor_execute", self._count)
        return self.counts

    def __exit__(self, *exc):
        sa.event.remove(self.engine, "before_cursor_execute", self._count)
