"""Rows depend on the set of spans alone: not on order, batches, repetition or restarts (DESIGN D6 and D7)."""

import random
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_telemetry import records
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.store import open_store

TABLES = ("request_log", "llm_call", "span_node", "dead_letter")
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
    {"request_log.stage": "web"},
    {"request_log.route": "web_then_grok", "request_log.degraded": "web_failed"},
    {"request_log.id": "r-1", "request_log.stage_ms.web": 12},
    {"request_log.id": "r-2", "request_log.prompt_tokens": 7},
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
    return found


@pytest.fixture(scope="module", name="empty")
def empty_fixture(tmp_path_factory) -> Path:
    """An empty database of the current schema: migrating one for each example would take most of the time."""
    path: Path = tmp_path_factory.mktemp("empty") / "empty.db"
    open_store(RequestLogSettings(url=f"sqlite:///{path}")).close()
    return path


def contents(path: Path) -> dict[str, list[Any]]:
    connection = sqlite3.connect(path)
    try:
        return {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY trace_id, span_id").fetchall()  # noqa: S608
            for table in TABLES
        }
    finally:
        connection.close()


def write(empty: Path, path: Path, batches: list[list[records.Span]], restarts: frozenset[int] = frozenset()) -> None:
    shutil.copyfile(empty, path)
    config = RequestLogSettings(url=f"sqlite:///{path}")
    store = open_store(config)
    for number, batch in enumerate(batches):
        if number in restarts:
            store.close()
            store = open_store(config)
        store.write(batch)
    store.close()


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


bounded = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


@bounded
@given(spans=traces(), chance=st.randoms(use_true_random=False))
def test_any_order_split_repetition_and_restart_gives_the_same_tables(empty, spans, chance):
    with tempfile.TemporaryDirectory() as folder:
        write(empty, Path(folder, "whole.db"), [spans])
        batches = cut(spans, chance)
        restarts = frozenset(chance.sample(range(len(batches)), k=len(batches) // 3))
        write(empty, Path(folder, "parts.db"), batches, restarts)
        assert contents(Path(folder, "parts.db")) == contents(Path(folder, "whole.db"))


class Oracle:
    """The four rules of derive.py, computed from all spans at once and with no regard for cost."""

    def __init__(self, spans: list[records.Span]) -> None:
        self.spans = {(span.trace_id, span.span_id): span for span in spans}
        self.counted = {key for key in self.spans if self.is_call(key) and not self.wraps_call(key)}
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
        said = self.spans[key].attributes
        return said.get("gen_ai.operation.name") == "chat" or "gen_ai.usage.prompt_tokens" in said

    def wraps_call(self, key):
        return any(self.is_call(other) and other != key and key in list(self.above(other)) for other in self.spans)

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
def test_requests_and_their_calls_are_those_that_the_rules_name(empty, spans, chance):
    oracle = Oracle(spans)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log.db")
        write(empty, path, cut(spans, chance))
        connection = sqlite3.connect(path)
        requests = {
            (trace, span): (log_id, calls, prompt)
            for trace, span, log_id, calls, prompt in connection.execute(
                "SELECT trace_id, span_id, id, llm_calls, prompt_tokens FROM request_log"
            )
        }
        calls = {
            (trace, span): request
            for trace, span, request in connection.execute("SELECT trace_id, span_id, request_id FROM llm_call")
        }
        connection.close()
    assert set(requests) == oracle.requests
    assert set(calls) == oracle.counted
    for call, request_id in calls.items():
        request = oracle.request_of(call)
        assert request_id == (requests[request][0] if request is not None else None)
    for key, (_, count, _) in requests.items():
        assert count == sum(oracle.request_of(call) == key for call in oracle.counted)


def test_spans_whose_parents_go_round_in_a_circle_are_stored_and_end(store, span, chat, rows, tmp_path):
    store.write([span(1, 2, chat()), span(2, 3), span(3, 1, {"request_log.route": "a"})])
    store.write([span(11, 12, chat())])
    store.write([span(12, 11)])
    store.write([span(21, 21, chat())])
    assert len(rows(tmp_path / "log.db", "span_node")) == 6


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
