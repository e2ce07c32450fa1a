"""Outages in the loop: the gateway or a backend is away while an app sends, and still everything arrives, once."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy

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


def test_what_is_sent_while_the_gateway_is_away_waits_in_the_collector(looped, tmp_path):
    looped.gateway.kill()
    ids = send(looped, tmp_path)  # the app is told that all is well, and ends
    assert looped.jaeger.trace(ids["trace"]) is None
    looped.gateway.start()
    assert len(spans(looped, ids["trace"])) == 4
    assert rows(looped, ids["trace"]) == 1


def test_what_is_sent_while_the_collector_s_backends_are_away_outlives_a_crash_of_the_collector(looped, tmp_path):
    looped.jaeger.kill()
    looped.loki.kill()
    ids = send(looped, tmp_path)

    def delivered(answer: bytes) -> bool | None:
        exporter = json.loads(answer)["parts"]["exporters"]["forward.collector"]
        return True if exporter["lag"]["batches"] == 0 and exporter["status"] == "ok" else None

    assert rows_arrive(looped, ids["trace"])
    assert looped.ask(lambda: looped.gateway.get("/health"), delivered)  # the Collector has it now, on its disk
    looped.collector.kill()
    looped.jaeger.start()
    looped.loki.start()
    looped.collector.start()
    assert len(spans(looped, ids["trace"])) == 4

    def both(answer: bytes) -> int | None:
        lines = [line for stream in json.loads(answer)["data"]["result"] for line in stream["values"]]
        return len(lines) if len(lines) >= 2 else None

    assert looped.ask(lambda: looped.loki.query(f'{{service_name=~".+"}} | trace_id="{ids["trace"]}"'), both) == 2


def rows_arrive(looped: stack.Stack, trace_id: str) -> bool:
    return looped.ask(lambda: str(rows(looped, trace_id)).encode(), lambda answer: answer == b"1" or None)
