"""Rows behind topics: torn, repeated and reordered spans and killed deliverers give the rows of a direct run, exactly.

KILLS=60 kills sixty times, and not three.
"""

import os
import random
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.sink import RequestLogSink
from otel_telemetry.gateway.kafka.transport import KafkaTransport
from tests.backends.kafka_broker import KafkaBroker
from tests.faults.kafka_gateway import KafkaGateway, check, new_topics
from tests.faults.load import Load, make_request
from tests.waiting import eventually

KILLS = int(os.environ.get("KILLS", "3"))
TRACES = 150
pytestmark = pytest.mark.timeout(300 + 30 * KILLS)


class Nothing:
    """Redacts nothing: what this test writes is written as a gateway writes it."""

    def redact(self, signal: Any, body: bytes) -> Any:
        raise AssertionError("nothing is redacted here")


def torn(body: bytes, cut: Callable[[int], int]) -> list[bytes]:
    """Return a request in two, spans of one trace apart."""
    whole = ExportTraceServiceRequest.FromString(body)
    spans = list(whole.resource_spans[0].scope_spans[0].spans)
    at = cut(len(spans))
    parts = []
    for some in (spans[:at], spans[at:]):
        part = ExportTraceServiceRequest.FromString(body)
        del part.resource_spans[0].scope_spans[0].spans[:]
        part.resource_spans[0].scope_spans[0].spans.extend(some)
        parts.append(part.SerializeToString())
    return parts


def tables(path: Path) -> dict[str, list[Any]]:
    """Return all rows of what a reader of rows sees."""
    with closing(sqlite3.connect(path)) as connection:
        return {
            name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr)  # noqa: S608
            for name in ("request_log", "llm_call")
        }


def test_rows_are_those_of_a_direct_run_to_the_last_digit_of_cost(kafka: KafkaBroker, tmp_path: Path) -> None:
    chance = random.Random(7)  # noqa: S311
    bodies = [make_request(chance.randbytes(16)) for _ in range(TRACES)]
    direct = tmp_path / "direct.db"
    sink = RequestLogSink(RequestLogSettings(url=f"sqlite:///{direct}"))
    sink.deliver("traces", bodies)
    sink.close()

    parts = [part for body in bodies for part in torn(body, lambda count: chance.randrange(1, count))]
    parts += chance.sample(parts, len(parts) // 3)
    chance.shuffle(parts)
    config = new_topics(kafka)
    transport = KafkaTransport(config, Nothing(), 1 << 20, 1 << 26)
    try:
        with KafkaGateway(tmp_path / "gateway", config, "--role", "deliver") as running:
            for number in range(KILLS + 1):
                share = parts[number * len(parts) // (KILLS + 1) : (number + 1) * len(parts) // (KILLS + 1)]
                for part in share:
                    transport.append("traces", part, 1).result(60)
                if number < KILLS:
                    eventually(lambda: running.total("otel_telemetry_delivered_total") > 0, "it delivers", 90)
                    running.kill()
                    running.restart()
            eventually(running.has_all, "the topics are read to their ends", 120)
    finally:
        transport.close()
    stored, wanted = tables(tmp_path / "gateway" / "rows.db"), tables(direct)
    assert len(wanted["request_log"]) == TRACES
    assert wanted["request_log"] == stored["request_log"]
    assert wanted["llm_call"] == stored["llm_call"]


def test_two_that_deliver_share_the_topics_and_one_that_dies_or_joins_doubles_no_row(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    config = new_topics(kafka)
    url = f"sqlite:///{tmp_path / 'rows.db'}"
    with (
        KafkaGateway(tmp_path / "receive", config, "--role", "receive", url=url) as receiving,
        KafkaGateway(tmp_path / "one", config, "--role", "deliver", url=url) as one,
    ):
        with Load(receiving) as load:
            load.wait_for(40)
            with KafkaGateway(tmp_path / "two", config, "--role", "deliver", url=url) as two:
                eventually(lambda: two.total("otel_telemetry_delivered_total") > 0, "the second one delivers", 90)
                one.kill()
                load.wait_for(40)
                one.restart()
                eventually(lambda: one.total("otel_telemetry_delivered_total") > 0, "the first one is back", 90)
                load.wait_for(20)
        check(one, load)


def wait_for_all(running: KafkaGateway) -> None:
    """Wait until two receive and one delivers; one that was just forked listens where the one does that forked it."""

    def complete() -> bool:
        listening = [pid for pid in running.processes().values() if pid in running.receivers()]
        return len(running.processes()) == 3 and len(listening) == 2

    try:
        eventually(complete, "two receive and one delivers", 120)
    except AssertionError as error:
        raise AssertionError(
            f"{error}: {running.processes()}, {running.receivers()} {running.logged[-3000:]}"
        ) from None


def kill(running: KafkaGateway, pid: int) -> None:
    """Kill a process, and wait until its parent has seen that: until then it seems to be there."""
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: pid not in running.processes().values(), "its parent sees that it was killed", 60)


def test_whoever_is_killed_at_random_every_row_is_there_once(own_kafka: KafkaBroker, tmp_path: Path) -> None:
    chance = random.Random(KILLS)  # noqa: S311
    with KafkaGateway(tmp_path / "gateway", new_topics(own_kafka), "--workers", "2") as running:
        with Load(running) as load:
            load.wait_for(40)
            for number in range(KILLS):
                wait_for_all(running)
                who = ("broker", "receiver", "deliverer")[number % 3 if KILLS < 4 else chance.randrange(3)]
                if who == "broker":
                    own_kafka.kill()
                    own_kafka.start()
                else:
                    receivers = running.receivers()
                    others = [pid for pid in running.processes().values() if pid not in receivers]
                    kill(running, chance.choice(receivers if who == "receiver" else others))
                load.wait_for(20, 120)
        # Who is killed young is started again after up to 30 s, while topics fill.
        check(running, load, seconds=90 + 10 * KILLS)
