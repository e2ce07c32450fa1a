"""Work that a request gives to threads, and to the threads of pools, belongs to the request."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from otel_telemetry.instrument import active
from otel_telemetry.instrument.threads import ThreadsInstrumentor

TRACER = TracerProvider().get_tracer("tests")
OWN: ContextVar[str] = ContextVar("own", default="the thread's own")


@pytest.fixture(autouse=True)
def carried() -> Iterator[None]:
    ThreadsInstrumentor().instrument()
    yield
    ThreadsInstrumentor().uninstrument()


def here() -> tuple[int, str | None]:
    """Return which span is the current one, and the stage."""
    return trace.get_current_span().get_span_context().span_id, active.stage.get()


def test_a_thread_and_a_pool_s_thread_continue_the_request() -> None:
    found: list[tuple[int, str | None]] = []
    with TRACER.start_as_current_span("request") as span, ThreadPoolExecutor(2) as pool:
        active.stage.set("web")
        thread = threading.Thread(target=lambda: found.append(here()))
        thread.start()
        thread.join()
        found += pool.map(lambda _: here(), range(3))
        found.append(pool.submit(here).result())
        active.stage.set(None)
    assert found == [(span.get_span_context().span_id, "web")] * 5


async def in_executor() -> tuple[tuple[int, str | None], int]:
    with TRACER.start_as_current_span("request") as span:
        found = await asyncio.get_running_loop().run_in_executor(None, here)
        return found, span.get_span_context().span_id


def test_the_event_loop_s_executor_continues_the_request() -> None:
    (span_id, _), expected = asyncio.run(in_executor())
    assert span_id == expected


def test_a_pool_s_thread_that_one_request_started_serves_the_next_as_its_own() -> None:
    with ThreadPoolExecutor(1) as pool:
        with TRACER.start_as_current_span("first"):
            pool.submit(here).result()
        assert pool.submit(here).result() == (0, None)
        with TRACER.start_as_current_span("second") as span:
            assert pool.submit(here).result()[0] == span.get_span_context().span_id


def test_an_app_s_own_variables_stay_as_they_are() -> None:
    with TRACER.start_as_current_span("request"), ThreadPoolExecutor(1) as pool:
        token = OWN.set("the request's")
        assert pool.submit(OWN.get).result() == "the thread's own"
        OWN.reset(token)


def test_what_raises_in_a_thread_raises_as_before() -> None:
    with TRACER.start_as_current_span("request"), ThreadPoolExecutor(1) as pool:
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 / 0).result()
        with pytest.raises(TypeError):
            pool.submit()  # type: ignore[call-arg]
        thread = threading.Thread(target=None)
        thread.start()
        thread.join()


def test_uninstrumenting_gives_back_what_was_there() -> None:
    ThreadsInstrumentor().uninstrument()
    assert not hasattr(threading.Thread.start, "__wrapped__")
    assert not hasattr(ThreadPoolExecutor.submit, "__wrapped__")
