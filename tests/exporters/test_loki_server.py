"""Against the real Loki: what it stores, what it shows, and what it says of lines that it does not keep."""

import json
import sqlite3
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_telemetry.errors import StoreUnavailable
from otel_telemetry.exporters.loki.config import LokiSettings
from otel_telemetry.exporters.loki.sink import make_sink
from otel_telemetry.sinks import Receipt, Sink
from tests.backends.observability import Loki
from tests.exporters.gateway_program import Gateway, eventually

HOUR = 3600.0


@pytest.fixture(scope="module")
def loki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loki]:
    server = Loki(tmp_path_factory.mktemp("loki"))
    server._command = [*server._command, "-distributor.max-line-size-truncate=false"]  # ours may cut long lines
    with server:
        yield server


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


def unlimited(loki: Loki, **settings: Any) -> Sink:
    """Return a sink that leaves it to Loki what is too old, too new or too long."""
    return make_sink(
        LokiSettings(endpoint=loki.url, max_age_hours=0, max_ahead_seconds=0, max_line_bytes=0, **settings)
    )


def deliver(sink: Sink, *bodies: bytes) -> Receipt:
    receipt = sink.deliver("logs", bodies)
    sink.close()
    return receipt or Receipt()


def stored(loki: Loki, query: str) -> list[tuple[dict[str, str], list[str]]]:
    """Return the streams, each with its texts; metadata stands among the labels there."""
    found = json.loads(loki.query(query))["data"]["result"]
    return [(each["stream"], sorted(text for _, text in each["values"])) for each in found]


def test_a_record_is_found_by_its_labels_and_shows_its_trace(loki: Loki) -> None:
    receipt = deliver(make_sink(LokiSettings(endpoint=loki.url)), logs("found", (0, "hello"), (-1, "before")))
    assert receipt.rejected == []
    query = '{service_name="found", environment="test", level="error"} | trace_id="' + "01" * 16 + '"'
    ((stream, texts),) = eventually(lambda: stored(loki, query))
    assert texts == ["before", "hello"]
    assert stream["span_id"] == "02" * 8
    assert (stream["http_route"], stream["host_name"]) == ("/a", "h1")


def test_labels_are_those_three_and_no_others(loki: Loki) -> None:
    deliver(make_sink(LokiSettings(endpoint=loki.url)), logs("labelled", (0, "one")))

    def names() -> Any:
        with urllib.request.urlopen(f"{loki.url}/loki/api/v1/labels?since=1h", timeout=10) as answer:
            return json.load(answer).get("data")

    assert {"environment", "level", "service_name"} >= set(eventually(names)) - {"deployment_environment_name"}


@pytest.mark.parametrize("protocol", ["push", "otlp"])
def test_lines_that_loki_does_not_keep_are_named_by_it_and_the_others_are_stored(loki: Loki, protocol: str) -> None:
    service = f"picky-{protocol}"
    body = logs(service, (0, "good"), (-30 * 24 * HOUR, "ancient"), (2 * HOUR, "future"), (0, "x" * 300_000))
    receipt = deliver(unlimited(loki, protocol=protocol), body, logs(service, (0, "fine")))
    assert sorted((each.reason, each.items, each.index) for each in receipt.rejected) == [
        ("too_long", 1, 0),
        ("too_new", 1, 0),
        ("too_old", 1, 0),
    ]
    query = f'{{service_name="{service}"}}'
    eventually(lambda: [texts for _, texts in stored(loki, query)] == [["fine", "good"]])


@pytest.mark.parametrize("service", ["behind", 'odd "name}', "back\\slash"])
def test_a_line_too_far_behind_its_stream_is_named_by_loki(loki: Loki, service: str) -> None:
    deliver(unlimited(loki), logs(service, (0, "newest")))
    receipt = deliver(unlimited(loki), logs(service, (-3 * HOUR, "behind"), (-60, "fine")))
    (rejected,) = receipt.rejected
    assert (rejected.reason, rejected.items) == ("too_far_behind", 1)
    found = ExportLogsServiceRequest.FromString(rejected.body)
    assert [r.body.string_value for g in found.resource_logs for s in g.scope_logs for r in s.log_records] == ["behind"]
    query = "{service_name=" + json.dumps(service) + "}"
    assert [texts for _, texts in eventually(lambda: stored(loki, query))] == [["fine", "newest"]]


def test_the_same_batch_twice_is_shown_once(loki: Loki) -> None:
    body = logs("twice", (0, "one"), (0, "two"))
    deliver(make_sink(LokiSettings(endpoint=loki.url)), body)
    deliver(make_sink(LokiSettings(endpoint=loki.url)), body)
    assert [texts for _, texts in eventually(lambda: stored(loki, '{service_name="twice"}'))] == [["one", "two"]]


def test_two_lines_at_the_same_time_are_both_kept(loki: Loki) -> None:
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    now = time.time_ns()
    for text in ("one", "two"):
        records.add(time_unix_nano=now, event_name="same").body.string_value = text
    deliver(make_sink(LokiSettings(endpoint=loki.url)), request.SerializeToString())
    query = '{service_name="unknown_service"} | event_name="same"'
    assert [texts for _, texts in eventually(lambda: stored(loki, query))] == [["one", "two"]]


def test_more_metadata_than_loki_takes_is_stored_all_the_same(loki: Loki) -> None:
    request = ExportLogsServiceRequest.FromString(logs("wide", (0, "text")))
    record = request.resource_logs[0].scope_logs[0].log_records[0]
    for number in range(300):
        record.attributes.add(key=f"key.{number}").value.string_value = "v" * 300
    assert deliver(unlimited(loki), request.SerializeToString()).rejected == []
    ((stream, (text,)),) = eventually(lambda: stored(loki, '{service_name="wide"}'))
    told = json.loads(text)["attributes"]
    assert all(f"key_{number}" in stream or f"key.{number}" in told for number in range(300))


def test_lokis_otlp_endpoint_stores_records_too(loki: Loki) -> None:
    receipt = deliver(make_sink(LokiSettings(endpoint=loki.url, protocol="otlp")), logs("native", (0, "one")))
    assert receipt.rejected == ()
    ((stream, texts),) = eventually(lambda: stored(loki, '{service_name="native"}'))
    assert texts == ["one"]
    assert stream["trace_id"] == "01" * 16


def test_a_loki_that_is_down_is_waited_for(loki: Loki) -> None:
    sink = make_sink(LokiSettings(endpoint="http://127.0.0.1:9", timeout=2))
    with pytest.raises(StoreUnavailable):
        sink.deliver("logs", [logs("down", (0, "one"))])
    sink.close()


def test_a_gateway_stores_what_loki_keeps_and_sets_the_rest_aside_line_by_line(loki: Loki, tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, loki={"endpoint": loki.url})
    try:
        body = logs("served", (0, "mail of jane@example.com"), (-30 * 24 * HOUR, "ancient"), (-1, "fine"))
        gateway.send(body, "logs")
        eventually(lambda: gateway.metric("dead_lettered_total", exporter="loki", reason="too_old") == 1)
        assert gateway.metric("delivered_total", exporter="loki", signal="logs") == 2
        query = '{service_name="served"}'
        eventually(lambda: [texts for _, texts in stored(loki, query)] == [["fine", "mail of [REDACTED_EMAIL]"]])
        with sqlite3.connect(tmp_path / "otel-spool" / "spool.db") as spool:
            ((items, reason, kept),) = spool.execute("SELECT items, reason, body FROM dead_letter").fetchall()
        assert (items, reason.partition(":")[0]) == (1, "too_old")
        assert b"ancient" in kept
        assert b"fine" not in kept
    finally:
        gateway.stop()
