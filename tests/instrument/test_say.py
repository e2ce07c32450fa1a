"""feedback() and event(): what an app says leaves as log records of the request that it is about, and never raises."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider

import otel_telemetry
from otel_telemetry.app import events
from otel_telemetry.base import metrics

request_module = sys.modules["otel_telemetry.request"]


@pytest.fixture(name="recorded")
def recorded_fixture(monkeypatch) -> Iterator[Any]:
    """Returns what was recorded so far, as (event name, attributes without prefix)."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    monkeypatch.setattr(events, "get_logger", provider.get_logger)
    tracers = TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(request_module, "_tracer", lambda: tracers.get_tracer("test"))

    def recorded() -> list[tuple[str | None, dict[str, Any]]]:
        logs = [each.log_record for each in exporter.get_finished_logs()]
        return [
            (log.event_name, {key.removeprefix("request_log."): value for key, value in (log.attributes or {}).items()})
            for log in logs
        ]

    recorded.logs = exporter.get_finished_logs  # type: ignore[attr-defined]
    yield recorded
    provider.shutdown()


@pytest.fixture(name="faults")
def faults_fixture(monkeypatch):
    logged: list[str] = []
    monkeypatch.setattr(metrics.instrumentation_errors, "add", lambda n, a: logged.append(a["component"]))
    return logged


def test_feedback_within_a_request_is_about_that_request(recorded):
    with otel_telemetry.request(route="direct", session_id="s") as r:
        own = r.feedback("up", note="thanks", sources=["a", {"b": (1, 2)}])
        span = trace.get_current_span().get_span_context()
    ((name, values),) = recorded()
    trace_id = trace.format_trace_id(span.trace_id)
    assert name == "request_log.feedback"
    assert values == {
        "verdict": "up",
        "request_id": f"{trace_id}-{trace.format_span_id(span.span_id)}",
        "trace_id": trace_id,
        "session_id": "s",
        "note": "thanks",
        "sources": values["sources"],
        "event_id": own,
    }
    sources = values["sources"]
    assert (json.loads(sources) if isinstance(sources, str) else sources) in (
        ["a", {"b": [1, 2]}],
        ("a", {"b": (1, 2)}),
    )


def test_the_app_s_own_id_of_a_request_names_it(recorded):
    with otel_telemetry.request(id="r-1") as r:
        r.feedback("down")
        otel_telemetry.feedback("up")
    assert [values["request_id"] for _, values in recorded()] == ["r-1", "r-1"]


def test_feedback_that_comes_later_is_about_the_request_that_it_names_and_not_about_where_it_came(recorded):
    with otel_telemetry.request(route="feedback endpoint"):
        otel_telemetry.feedback("up", request_id="r-1")
    otel_telemetry.feedback("up", trace_id="a" * 32)
    (_, first), (_, second) = recorded()
    assert (first["request_id"], "trace_id" in first) == ("r-1", False)
    assert (second["trace_id"], "request_id" in second) == ("a" * 32, False)
    assert [log.log_record.trace_id for log in recorded.logs()] == [0, 0]


def test_an_event_of_a_workflow_has_its_time_its_ids_and_its_data(recorded):
    when = datetime(2026, 11, 20, 10, 11, 12, tzinfo=UTC)
    otel_telemetry.event("step:start", run_id="r", step_id="s", data={"type": "llm", "at": when, "n": {1}}, time=when)
    otel_telemetry.event("step:end", run_id="r", step_id="s", time="2026-11-20T10:11:13Z", output=object)
    otel_telemetry.event("run:update", id="r", time=1_790_000_000.5)
    first, second, third = recorded.logs()
    assert first.log_record.timestamp == round(when.timestamp() * 1e9)
    assert first.log_record.attributes["request_log.data"]["at"] == "2026-11-20T10:11:12+00:00"
    assert second.log_record.timestamp - first.log_record.timestamp == 1_000_000_000
    assert second.log_record.attributes["request_log.output"] == "<class 'object'>"
    assert third.log_record.timestamp == 1_790_000_000_500_000_000


def test_a_custom_event_within_a_request_says_of_which_and_a_run_s_does_not(recorded):
    with otel_telemetry.request(id="r-1", user_id="u") as r:
        r.event("lookup", run_id="run")
        otel_telemetry.event("lookup")
        r.event("run:start", id="run")
    (_, first), (_, second), (_, third) = recorded()
    assert (first["request_id"], first["user_id"], first["run_id"]) == ("r-1", "u", "run")
    assert second["request_id"] == "r-1"
    assert "request_id" not in third


async def test_tasks_say_it_of_their_own_request(recorded):
    async def one(name: str) -> None:
        async with otel_telemetry.request(id=name) as r:
            await asyncio.sleep(0)
            r.feedback("up")

    await asyncio.gather(*(one(f"r-{n}") for n in range(5)))
    assert sorted(values["request_id"] for _, values in recorded()) == [f"r-{n}" for n in range(5)]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: otel_telemetry.feedback("sideways"),
        lambda: otel_telemetry.feedback(None),  # type: ignore[arg-type]  # that is the point
        lambda: otel_telemetry.feedback(["up"]),  # type: ignore[arg-type]  # likewise
        lambda: otel_telemetry.event("x", time="yesterday"),
        lambda: otel_telemetry.event("x", time=-1),
        lambda: otel_telemetry.event("x", time=float("nan")),
    ],
)
def test_an_argument_that_cannot_be_used_never_raises_into_the_app(recorded, faults, wrong):
    assert wrong() is None
    assert len(faults) == 1
    assert recorded() == []


def test_a_value_that_cannot_even_be_shown_never_raises_into_the_app(recorded, faults):
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no")

    with otel_telemetry.request() as r:
        assert r.event("x", data={"a": Hostile()}) is None
        assert r.feedback("up", nonsense=1) is None
    assert len(faults) == 2


def test_a_value_that_holds_itself_ends_somewhere(recorded):
    endless: dict[str, Any] = {}
    endless["self"] = endless
    assert otel_telemetry.event("x", data=endless) is not None


def test_switched_off_nothing_is_said(recorded, monkeypatch):
    monkeypatch.setattr(events, "_enabled", True)  # restored afterwards, with the switch of request()
    monkeypatch.setattr(request_module, "_enabled", True)
    request_module.set_enabled(False)
    assert otel_telemetry.feedback("up") is None
    assert otel_telemetry.event("x") is None
    with otel_telemetry.request() as r:
        assert r.feedback("up") is None
        assert r.event("x") is None
    assert recorded() == []


def test_without_a_provider_nothing_is_said_and_no_id_is_given():
    code = "import otel_telemetry as o; print(o.feedback('up'), o.event('x'))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout == "None None\n"


def test_ids_are_in_the_order_in_which_they_were_made(recorded):
    made = [str(otel_telemetry.event("x")) for _ in range(2_000)]
    assert made == sorted(made)
    assert len(set(made)) == 2_000
