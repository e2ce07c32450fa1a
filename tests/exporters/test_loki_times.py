"""A log record without any time has one all the same, and the same one however often it is sent."""

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_telemetry.exporters.loki.config import LokiSettings
from otel_telemetry.exporters.loki.sink import LokiLike, make_sink
from tests.exporters.gateway_program import Gateway
from tests.exporters.otlp_receiver import Answer, Received, Receiver, http_receiver
from tests.waiting import eventually

PROTOCOLS = ["push", "otlp"]
NOW = time.time_ns()


def logs(*texts: str, at: int = 0) -> bytes:
    """Return a request with a record for each text, in two scopes, all with that time, or without any."""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.add(key="service.name").value.string_value = "chat"
    for number, text in enumerate(texts):
        if number < 2:
            group.scope_logs.add()
        group.scope_logs[-1].log_records.add(time_unix_nano=at).body.string_value = text
    return bytes(request.SerializeToString())


def lines_of(got: Received) -> list[tuple[int, str]]:
    """Return what a request brings, as (time, text): of Loki's own kind, or of OTLP's."""
    if got.path.endswith("/push"):
        streams = json.loads(got.body)["streams"]
        return sorted((int(value[0]), value[1]) for stream in streams for value in stream["values"])
    request = ExportLogsServiceRequest.FromString(got.body)
    records = [record for g in request.resource_logs for s in g.scope_logs for record in s.log_records]
    return sorted((one.time_unix_nano or one.observed_time_unix_nano, one.body.string_value) for one in records)


def sink(url: str, protocol: str) -> LokiLike:
    return make_sink(LokiSettings(endpoint=url, protocol=protocol, compression="none"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_records_without_a_time_get_that_of_their_request_each_another_and_always_the_same(
    loki: Receiver, protocol: str
) -> None:
    made = sink(f"http://127.0.0.1:{loki.port}", protocol)
    bodies = [logs("one", "two", "three"), logs("four", "five", at=NOW)]
    for _ in range(2):
        made.deliver_received("logs", bodies, [NOW - 1000, NOW - 500])
    made.deliver_received("logs", bodies[:1], [NOW - 1000])  # a half, after a refusal
    made.close()
    first, second, half = map(lines_of, loki.got)
    assert first == second
    assert first[:3] == half == [(NOW - 1000, "one"), (NOW - 999, "two"), (NOW - 998, "three")]
    assert first[3:] == [(NOW, "five"), (NOW, "four")]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_records_that_have_a_time_keep_it_and_their_request_its_bytes(loki: Receiver, protocol: str) -> None:
    body = logs("one", "two", at=NOW)
    made = sink(f"http://127.0.0.1:{loki.port}", protocol)
    made.deliver_received("logs", [body], [NOW - 1000])
    made.close()
    (got,) = loki.got
    assert lines_of(got) == [(NOW, "one"), (NOW, "two")]
    if protocol == "otlp":
        assert got.body == body


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_gateway_sends_the_same_times_again_after_a_refusal_and_after_a_restart(
    tmp_path: Path, protocol: str
) -> None:
    with http_receiver(Receiver()) as away:
        away.answer = lambda got: Answer(503)
        there = {"endpoint": f"http://127.0.0.1:{away.port}", "protocol": protocol}
        gateway = Gateway(tmp_path, loki=there)
        gateway.send(logs("one", "two", "two"), "logs")
        assert away.wait_for(2)
        gateway.process.kill()
        gateway.process.wait()
        before = len(away.got)
        gateway.start()
        assert away.wait_for(before + 1)
        away.answer = lambda got: Answer(204)
        eventually(lambda: gateway.metric("delivered_total", exporter="loki", signal="logs") == 3)
        gateway.stop()
    sent = [lines_of(got) for got in away.got]
    assert len(sent) >= 4
    assert all(each == sent[0] for each in sent)
    assert [text for _, text in sent[0]] == ["one", "two", "two"]
    assert len({when for when, _ in sent[0]}) == 3
    with closing(sqlite3.connect(tmp_path / "otel-spool" / "spool.db")) as spool:
        ((received,),) = spool.execute("SELECT received_ns FROM batch").fetchall()
    assert sent[0][0][0] == received


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_who_does_not_know_when_a_request_came_in_has_it_come_in_now(loki: Receiver, protocol: str) -> None:
    made = sink(f"http://127.0.0.1:{loki.port}", protocol)
    before = time.time_ns()
    made.deliver("logs", [logs("one")])
    made.close()
    ((when, _),) = lines_of(loki.got[0])
    assert before <= when <= time.time_ns()
