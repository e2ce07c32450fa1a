"""Spans that are ended when the app has its answer: at their true times, waited for by flush, shutdown and forks."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_telemetry.instrument import active, afterwards
from otel_telemetry.instrument.llm_http import LlmHttpInstrumentor
from tests.instrument.conftest import Telemetry

URL = "https://api.openai.com/v1/chat/completions"
ANSWER = {"id": "c-1", "model": "gpt-4o", "usage": {"prompt_tokens": 3, "completion_tokens": 5}}


def ask(count: int = 1, *, pause: float = 0.0, answer: Any = None, url: str = URL, **body: Any) -> None:
    def handle(_: httpx.Request) -> httpx.Response:
        time.sleep(pause)
        return httpx.Response(200, json=ANSWER if answer is None else answer)

    with httpx.Client(transport=httpx.MockTransport(handle)) as client:
        for _ in range(count):
            client.post(url, json={"model": "gpt-4o", **body})


class Watched(SpanProcessor):
    """Notes on which thread, and in which context, spans begin and end."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, threading.Thread]] = []
        self.parents: list[trace.Span] = []
        self.gate = threading.Event()
        self.gate.set()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.seen.append(("start", threading.current_thread()))
        self.parents.append(trace.get_current_span())

    def on_end(self, span: ReadableSpan) -> None:
        self.gate.wait(30)
        self.seen.append(("end", threading.current_thread()))


@pytest.fixture
def watched(telemetry: Telemetry) -> Iterator[Watched]:
    found = Watched()
    telemetry.tracers.add_span_processor(found)
    yield found
    found.gate.set()


def test_a_span_begins_in_the_callers_context_and_ends_on_the_other_thread(
    telemetry: Telemetry, watched: Watched
) -> None:
    with telemetry.tracers.get_tracer("app").start_as_current_span("outer") as outer:
        ask()
        assert telemetry.tracers.force_flush()
    (_, begun), (_, ended) = watched.seen[1:3]
    assert begun is threading.current_thread()
    assert ended.name == "otel_telemetry_afterwards"
    assert watched.parents[1] is outer


def test_the_span_has_the_time_at_which_the_call_ended(telemetry: Telemetry, watched: Watched) -> None:
    watched.gate.clear()
    before = time.time_ns()
    ask(pause=0.05)
    after = time.time_ns()
    time.sleep(0.1)
    watched.gate.set()
    span = telemetry.span()
    assert before <= span.start_time <= span.end_time <= after
    assert span.end_time - span.start_time >= 0.05e9


def test_the_app_has_its_answer_while_a_processor_is_stuck(telemetry: Telemetry, watched: Watched) -> None:
    watched.gate.clear()
    ask()
    assert [what for what, _ in watched.seen] == ["start"]
    assert telemetry.tracers.force_flush(50) is False
    watched.gate.set()
    assert telemetry.span().attributes["gen_ai.usage.output_tokens"] == 5


def test_answers_that_wait_are_bounded_and_then_read_by_who_has_them(
    telemetry: Telemetry, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(afterwards, "MAX_ANSWERS", 3)
    assert afterwards.flush()
    held = threading.Event()
    afterwards.do(held.wait)  # type: ignore[arg-type]  # what it returns is not looked at
    ask(10)
    done = [thread for what, thread in watched.seen if what == "end"]
    assert len(done) >= 7
    assert set(done) == {threading.current_thread()}
    held.set()
    assert len(telemetry.spans(10)) == 10


def test_shutdown_waits_for_what_has_not_ended() -> None:
    memory, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(memory))
    LlmHttpInstrumentor().instrument(tracer_provider=tracers)
    try:
        ask(20)
        tracers.shutdown()
    finally:
        LlmHttpInstrumentor().uninstrument()
    assert len(memory.get_finished_spans()) == 20


def test_where_nobody_can_be_told_to_wait_a_span_ends_at_once() -> None:
    memory = InMemorySpanExporter()
    tracers = TracerProvider(active_span_processor=ConcurrentMultiSpanProcessor())
    tracers.add_span_processor(SimpleSpanProcessor(memory))
    LlmHttpInstrumentor().instrument(tracer_provider=tracers)
    try:
        ask()
        assert [span.name for span in memory.get_finished_spans()] == ["chat gpt-4o"]
    finally:
        LlmHttpInstrumentor().uninstrument()
        tracers.shutdown()


def test_what_a_computation_spent_is_known_at_once(telemetry: Telemetry) -> None:
    spent: list[active.ModelUsage] = []
    active.spending.set(spent)
    try:
        ask()
    finally:
        active.spending.set(None)
    assert [usage.output_tokens for usage in spent] == [5]


def test_an_answer_that_is_made_in_the_background_is_known_at_once(telemetry: Telemetry) -> None:
    url = "https://api.openai.com/v1/responses"
    ask(url=url, answer={"id": "resp_9", "model": "gpt-5", "status": "queued"}, background=True, input="x")
    done = {"id": "resp_9", "model": "gpt-5", "status": "completed", "usage": {"input_tokens": 2, "output_tokens": 4}}
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=done))) as client:
        client.get(f"{url}/resp_9")
    assert [span.attributes.get("gen_ai.usage.output_tokens") for span in telemetry.spans(2)] == [None, 4]


def test_a_processor_that_raises_or_flushes_when_a_span_ends_harms_nobody(telemetry: Telemetry) -> None:
    class Difficult(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            telemetry.tracers.force_flush(100)
            raise RuntimeError("a user's processor")

    telemetry.tracers.add_span_processor(Difficult())
    ask(3)
    assert len(telemetry.spans(3)) == 3
    assert telemetry.faults() == 3


def test_an_error_is_not_kept_until_its_call_was_reported(telemetry: Telemetry, watched: Watched) -> None:
    class Broken(Exception):
        gone = threading.Event()

        def __del__(self) -> None:
            Broken.gone.set()

    def handle(_: httpx.Request) -> httpx.Response:
        raise Broken

    watched.gate.clear()
    with httpx.Client(transport=httpx.MockTransport(handle)) as client, pytest.raises(Broken) as caught:
        client.post(URL, json={"model": "gpt-4o"})
    del caught
    assert Broken.gone.wait(5)
    watched.gate.set()
    assert telemetry.attributes()["error.type"].endswith("Broken")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_waits_for_the_task_that_runs() -> None:
    script = """
import os, threading, time
from otel_telemetry.instrument import afterwards
lock, begun = threading.Lock(), threading.Event()
def task():
    with lock:
        begun.set()
        time.sleep(0.1)
afterwards.watch()
afterwards.do(task)
begun.wait()
child = os.fork()
if child == 0:
    os._exit(0 if lock.acquire(timeout=2) else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], timeout=30, check=True)


def test_no_call_is_lost_at_the_end_of_a_process() -> None:
    script = """
import httpx, json
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from otel_telemetry.instrument.llm_http import LlmHttpInstrumentor
tracers = TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.name + chr(10))))
LlmHttpInstrumentor().instrument(tracer_provider=tracers)
answer = lambda _: httpx.Response(200, json={"id": "c"})
with httpx.Client(transport=httpx.MockTransport(answer)) as client:
    for _ in range(50):
        client.post("https://api.openai.com/v1/chat/completions", json={"model": "m"})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=True)
    assert done.stdout.split(b"\n").count(b"chat m") == 50
    assert json.dumps(done.stderr.decode()) == '""'
