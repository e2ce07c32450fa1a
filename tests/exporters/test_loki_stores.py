"""What real stores have of what the Loki exporter sent.

VictoriaLogs takes Loki's push API; the Collector's OTLP receiver stands where Loki has its own OTLP endpoint, and sends
on to VictoriaLogs, so that one query shows what arrived either way.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_telemetry.base.destinations import Receipt
from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.exporters.loki.config import LokiSettings
from otel_telemetry.exporters.loki.sink import make_sink
from tests.backends.observability import OtlpAsLoki, VictoriaLogs
from tests.backends.process import free_port
from tests.exporters.gateway_program import Gateway
from tests.waiting import eventually

HOUR = 3600.0
NOW = time.time_ns()
PROTOCOLS = ["push", "otlp"]

#: Takes a protocol of the exporter, returns what loki.endpoint is for it.
Endpoint = Callable[[str], str]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VictoriaLogs]:
    with VictoriaLogs(tmp_path_factory.mktemp("victorialogs")) as running:
        yield running


@pytest.fixture(scope="module")
def collector(store: VictoriaLogs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtlpAsLoki]:
    with OtlpAsLoki(tmp_path_factory.mktemp("collector"), store.otlp) as running:
        yield running


@pytest.fixture
def endpoint(store: VictoriaLogs, request: pytest.FixtureRequest) -> Endpoint:
    """Where a protocol goes to: only what is sent to OTLP needs the Collector."""
    return lambda protocol: store.push if protocol == "push" else request.getfixturevalue("collector").url


def logs(service: str, *records: tuple[float, str]) -> bytes:
    """Return a request with one record for each (seconds from now, text)."""
    now = time.time()
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    for key, text in (("service.name", service), ("deployment.environment.name", "test"), ("host.name", "h1")):
        group.resource.attributes.add(key=key).value.string_value = text
    for at, text in records:
        record = group.scope_logs.add().log_records.add(
            time_unix_nano=int((now + at) * 1e9), trace_id=b"\x01" * 16, span_id=b"\x02" * 8
        )
        record.severity_number = 17  # type: ignore[assignment] # an enum's number
        record.body.string_value = text
        record.attributes.add(key="http.route").value.string_value = "/a"
    return bytes(request.SerializeToString())


def deliver(endpoint: str, *bodies: bytes, **settings: Any) -> Receipt:
    sink = make_sink(LokiSettings(endpoint=endpoint, **settings))
    receipt = sink.deliver("logs", bodies)
    sink.close()
    return receipt or Receipt()


def stored(store: VictoriaLogs, service: str, count: int) -> list[dict[str, str]]:
    """Return the records of a service in the order of their texts, once so many of them are there."""
    quoted = json.dumps(service)
    query = f"service_name:={quoted} or service.name:={quoted}"
    found = eventually(lambda: len(records := store.records(query)) >= count and records)
    return sorted(found, key=lambda record: str(record["_msg"]))


def texts(records: list[dict[str, str]]) -> list[str]:
    return [record["_msg"] for record in records]


@pytest.mark.parametrize("service", ["shop", 'odd "name}', "back\\slash", "naïve 店"])
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_a_pushed_record_is_in_the_stream_of_its_three_labels_with_all_the_rest_beside_it(
    store: VictoriaLogs, service: str, compression: str
) -> None:
    named = f"{service} {compression}"
    receipt = deliver(store.push, logs(named, (0, "hello"), (-1, "before")), compression=compression)
    assert receipt.rejected == []
    before, hello = stored(store, named, 2)
    assert texts([before, hello]) == ["before", "hello"]
    labels = f'environment="test",level="error",service_name={json.dumps(named, ensure_ascii=False)}'
    assert hello["_stream"] == "{" + labels + "}"
    ids = {name: hello[name] for name in ("trace_id", "span_id", "http_route", "host_name")}
    assert ids == {"trace_id": "01" * 16, "span_id": "02" * 8, "http_route": "/a", "host_name": "h1"}


def test_over_otlp_records_arrive_as_they_are(store: VictoriaLogs, endpoint: Endpoint) -> None:
    receipt = deliver(endpoint("otlp"), logs("native", (0, "one"), (-1, "two")), protocol="otlp")
    assert receipt.rejected == ()
    one, two = stored(store, "native", 2)
    assert texts([one, two]) == ["one", "two"]
    assert (one["trace_id"], one["span_id"]) == ("01" * 16, "02" * 8)
    assert (one["deployment.environment.name"], one["http.route"]) == ("test", "/a")


def test_a_structured_body_is_pushed_as_its_json(store: VictoriaLogs) -> None:
    request = ExportLogsServiceRequest.FromString(logs("structured", (0, "")))
    body = request.resource_logs[0].scope_logs[0].log_records[0].body
    body.kvlist_value.values.add(key="order").value.int_value = 7
    body.kvlist_value.values.add(key="line\nof").value.string_value = 'a "tent"'
    deliver(store.push, request.SerializeToString())
    (record,) = stored(store, "structured", 1)
    assert json.loads(record["_msg"]) == {"order": 7, "line\nof": 'a "tent"'}


def test_two_pushed_lines_at_the_same_time_are_both_kept(store: VictoriaLogs) -> None:
    request = ExportLogsServiceRequest.FromString(logs("same-time", (0, "one"), (0, "two")))
    for scope in request.resource_logs[0].scope_logs:
        scope.log_records[0].time_unix_nano = NOW
    deliver(store.push, request.SerializeToString())
    assert texts(stored(store, "same-time", 2)) == ["one", "two"]


def test_more_metadata_than_loki_takes_is_pushed_all_the_same(store: VictoriaLogs) -> None:
    request = ExportLogsServiceRequest.FromString(logs("wide", (0, "text")))
    record = request.resource_logs[0].scope_logs[0].log_records[0]
    for number in range(300):
        record.attributes.add(key=f"key.{number}").value.string_value = "v" * 300
    assert deliver(store.push, request.SerializeToString()).rejected == []
    (found,) = stored(store, "wide", 1)
    left = json.loads(found["_msg"])["attributes"]
    assert all(f"key_{number}" in found or f"key.{number}" in left for number in range(300))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_records_without_a_time_have_the_same_one_however_often_they_are_sent(
    store: VictoriaLogs, endpoint: Endpoint, protocol: str
) -> None:
    service = f"timeless-{protocol}"
    request = ExportLogsServiceRequest.FromString(logs(service, (0, "one"), (0, "two"), (0, "two")))
    for scope in request.resource_logs[0].scope_logs:
        scope.log_records[0].time_unix_nano = 0
    sink = make_sink(LokiSettings(endpoint=endpoint(protocol), protocol=protocol))
    for _ in range(3):
        sink.deliver_received("logs", [request.SerializeToString()], [NOW])
    sink.close()
    found = [(record["_time"], record["_msg"]) for record in stored(store, service, 9)]
    assert len(set(found)) == 3
    assert [found.count(each) for each in set(found)] == [3, 3, 3]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_store_that_is_down_is_waited_for(protocol: str) -> None:
    with pytest.raises(StoreUnavailable):
        deliver(f"http://127.0.0.1:{free_port()}", logs("down", (0, "one")), protocol=protocol, timeout=2)


def test_a_gateway_pushes_redacted_lines_and_sets_aside_one_by_one_what_loki_would_not_keep(
    store: VictoriaLogs, tmp_path: Path
) -> None:
    gateway = Gateway(tmp_path, loki={"endpoint": store.push})
    try:
        body = logs("served", (0, "mail of jane@example.com"), (-30 * 24 * HOUR, "ancient"), (-1, "fine"))
        gateway.send(body, "logs")
        eventually(lambda: gateway.metric("dead_lettered_total", exporter="loki", reason="too_old") == 1)
        assert gateway.metric("delivered_total", exporter="loki", signal="logs") == 2
        assert texts(stored(store, "served", 2)) == ["fine", "mail of [REDACTED_EMAIL]"]
        with sqlite3.connect(tmp_path / "otel-spool" / "spool.db") as spool:
            ((items, reason, body),) = spool.execute("SELECT items, reason, body FROM dead_letter").fetchall()
        assert (items, reason.partition(":")[0]) == (1, "too_old")
        assert b"ancient" in body
        assert b"fine" not in body
    finally:
        gateway.stop()


def test_a_gateway_sends_redacted_records_over_otlp(store: VictoriaLogs, collector: OtlpAsLoki, tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, loki={"endpoint": collector.url, "protocol": "otlp"})
    try:
        gateway.send(logs("served-otlp", (0, "mail of jane@example.com"), (-1, "fine")), "logs")
        assert texts(stored(store, "served-otlp", 2)) == ["fine", "mail of [REDACTED_EMAIL]"]
        eventually(lambda: gateway.metric("delivered_total", exporter="loki", signal="logs") == 2)
    finally:
        gateway.stop()
