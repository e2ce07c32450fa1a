"""Hard times for the loop: the gateway or a backend is away, spans and lines are huge. Still everything arrives."""

import functools
import json
import re
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.e2e import otlp_trace, sending, stack
from tests.e2e.scenario import scenario

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def looped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Stack]:
    """A stack with the Collector in front."""
    folder = tmp_path_factory.mktemp("stack")
    with stack.running("collector-first", folder, f"sqlite:///{folder / 'gateway' / 'rows.db'}", "memory") as running:
        yield running


def send(looped: stack.Stack, folder: Any) -> dict[str, str]:
    return sending.send(scenario("python"), folder, looped.endpoints).ids


def spans(looped: stack.Stack, trace_id: str) -> list[str]:
    def whole(answer: bytes) -> list[str] | None:
        found = [span.span_id for span in otlp_trace.spans(answer)]
        return found if len(set(found)) == 4 else None

    return looped.ask(lambda: looped.jaeger.trace(trace_id), whole)


def rows(looped: stack.Stack, trace_id: str) -> int:
    engine = sqlalchemy.create_engine(looped.database)
    with engine.connect() as connection:
        asked = sqlalchemy.text("SELECT count(*) FROM request_log WHERE trace_id = :id")
        count = connection.scalar(asked, {"id": trace_id})
    engine.dispose()
    return int(count)


def forwarded(looped: stack.Stack) -> float:
    """Return how many items the gateway has handed over to the Collector since it started."""
    counter = re.compile(
        rb'^otel_telemetry_delivered_total\{[^}]*exporter="forward\.collector"[^}]*\} (\S+)$', re.MULTILINE
    )
    return sum(map(float, counter.findall(looped.gateway.get("/metrics"))))


def everything_forwarded(looped: stack.Stack, since: float) -> None:
    """Wait until the gateway has handed over what one sender sent: 5 spans, 2 log records, 4 points."""
    looped.ask(lambda: str(forwarded(looped) - since).encode(), lambda answer: float(answer) >= 11 or None)


def test_what_is_sent_while_the_gateway_is_away_waits_in_the_collector(looped, tmp_path):
    looped.gateway.kill()
    ids = send(looped, tmp_path)  # the app is told that all is well, and ends
    assert looped.jaeger.trace(ids["trace"]) is None
    looped.gateway.start()
    assert len(spans(looped, ids["trace"])) == 4
    assert rows_arrive(looped, ids["trace"])
    everything_forwarded(looped, since=0)


def test_what_is_sent_while_the_collector_s_backends_are_away_outlives_a_crash_of_the_collector(looped, tmp_path):
    looped.jaeger.kill()
    looped.logs.kill()
    before = forwarded(looped)
    ids = send(looped, tmp_path)
    everything_forwarded(looped, since=before)  # the Collector has it on its disk
    looped.collector.kill()
    looped.jaeger.start()
    looped.logs.start()
    looped.collector.start()
    assert len(spans(looped, ids["trace"])) == 4

    def both(answer: bytes) -> int | None:
        return found if (found := len(answer.splitlines())) >= 2 else None

    assert looped.ask(lambda: looped.logs.query(f'trace_id:="{ids["trace"]}"'), both) == 2


def rows_arrive(looped: stack.Stack, trace_id: str) -> bool:
    return looped.ask(lambda: str(rows(looped, trace_id)).encode(), lambda answer: answer == b"1" or None)


def post(looped: stack.Stack, signal: str, request: Any) -> int:
    asked = urllib.request.Request(
        f"{looped.endpoints['http']}/v1/{signal}",
        data=request.SerializeToString(),
        headers={"content-type": "application/x-protobuf"},
    )
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_when_its_memory_is_full_the_collector_tells_apps_to_retry_and_all_that_it_took_arrives(looped):
    looped.gateway.kill()
    text = "All work and no play. " * (4_000_000 // 22)
    taken: list[bytes] = []
    status = 200
    while status == 200 and len(taken) < 100:
        trace_id = secrets.token_bytes(16)
        request = ExportTraceServiceRequest()
        span = request.resource_spans.add().scope_spans.add().spans.add(trace_id=trace_id, span_id=b"fullness")
        span.attributes.add(key="prompt").value.string_value = text
        status = post(looped, "traces", request)
        taken += [trace_id] if status == 200 else []
    assert status == 503  # OTLP: retry
    assert 20 <= len(taken) < 30  # 100 MB
    looped.gateway.start()
    for trace_id in taken:
        assert looped.ask(
            functools.partial(looped.jaeger.trace, trace_id.hex()), lambda answer: len(answer) > len(text)
        )


def test_a_span_larger_than_what_grpc_servers_take_by_default_goes_the_whole_way_and_is_redacted(looped):
    trace_id = secrets.token_bytes(16)
    request = ExportTraceServiceRequest()
    span = (
        request.resource_spans.add().scope_spans.add().spans.add(trace_id=trace_id, span_id=b"largespa", name="large")
    )
    text = "All work and no play. " * (9_000_000 // 22)
    span.attributes.add(key="prompt").value.string_value = f"{text} Ask jo.large@example.com."
    span.start_time_unix_nano = span.end_time_unix_nano = time.time_ns()
    assert post(looped, "traces", request) == 200

    def arrived(answer: bytes) -> str | None:
        (found,) = otlp_trace.spans(answer)
        return str(found.attributes["prompt"])

    prompt = looped.ask(lambda: looped.jaeger.trace(trace_id.hex()), arrived)
    assert prompt == f"{text} Ask [REDACTED_EMAIL]."


def test_a_log_line_that_is_very_long_arrives_and_takes_no_other_along(looped):
    request = ExportLogsServiceRequest()
    of_service = request.resource_logs.add()
    of_service.resource.attributes.add(key="service.name").value.string_value = "long-lines"
    records = of_service.scope_logs.add().log_records
    for number, body in enumerate(("short", "x" * 1_000_000, "the last")):
        records.add(time_unix_nano=time.time_ns() + number).body.string_value = body
    assert post(looped, "logs", request) == 200

    def all_three(answer: bytes) -> list[str] | None:
        lines = [json.loads(line)["_msg"] for line in answer.splitlines()]
        return lines if len(lines) >= 3 else None

    lines = looped.ask(lambda: looped.logs.query('service.name:="long-lines"'), all_three)
    assert sorted(map(len, lines)) == [5, 8, 1_000_000]
