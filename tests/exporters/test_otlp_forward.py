"""Forwarding, against real OTLP receivers on loopback that keep what they were sent: what is sent."""

import gzip
import logging
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import ValidationError

from otel_telemetry.base.errors import DeliveryRefused, StoreUnavailable
from otel_telemetry.exporters.otlp.config import ForwardSettings
from otel_telemetry.exporters.otlp.split import split
from tests.exporters.forwarded import serving, span_names, traces
from tests.exporters.otlp_receiver import Answer, Received, Receiver, grpc_receiver, http_receiver

PATHS = {
    "grpc": "/opentelemetry.proto.collector.{}/Export",
    "http": "/v1/{}",
}
SERVICE = {
    "traces": "trace.v1.TraceService",
    "logs": "logs.v1.LogsService",
    "metrics": "metrics.v1.MetricsService",
}


@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
def test_the_very_bytes_arrive_where_their_signal_belongs(
    signal: Any, protocol: str, receiver: Receiver, make: Any
) -> None:
    receipt = make(receiver).deliver(signal, [traces("one")])
    (got,) = receiver.got
    assert got.body == traces("one")
    assert got.path == PATHS[protocol].format(SERVICE[signal] if protocol == "grpc" else signal)
    assert (receipt.rejected, receipt.warning) == ((), "")


def test_bodies_that_come_together_arrive_as_one_request(receiver: Receiver, make: Any) -> None:
    make(receiver).deliver("traces", [traces("one"), traces("two", "three")])
    (body,) = receiver.bodies
    assert span_names(body) == ["one", "two", "three"]
    assert body == traces("one") + traces("two", "three")


def test_gzip_is_used_where_it_is_asked_for(protocol: str, receiver: Receiver, make: Any) -> None:
    make(receiver, compression="gzip").deliver("traces", [traces("x" * 5000)])
    (got,) = receiver.got
    assert got.body == traces("x" * 5000)
    if protocol == "http":  # grpc unpacks before we can look
        assert got.headers["content-encoding"] == "gzip"
        assert gzip.decompress(got.raw) == got.body


def test_headers_go_along_and_show_nowhere(receiver: Receiver, make: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.answer = lambda got: Answer(status=401, code=grpc.StatusCode.UNAUTHENTICATED, details="who are you?")
    sink = make(receiver, headers={"X-Api-Key": "hunter2-key"})
    with pytest.raises(StoreUnavailable) as caught:
        sink.deliver("traces", [traces("one")])
    assert receiver.got[0].headers["x-api-key"] == "hunter2-key"
    config = ForwardSettings(endpoint="http://x:1", headers={"x-api-key": "hunter2-key"})
    for shown in (caplog.text, repr(config), str(caught.value), config.model_dump_json()):
        assert "hunter2" not in shown


def test_the_path_of_an_endpoint_stays_in_front(make: Any, protocol: str) -> None:
    with http_receiver(Receiver()) as receiver:
        make(receiver, endpoint=f"http://127.0.0.1:{receiver.port}/otlp/", protocol="http").deliver("logs", [b""])
    assert receiver.got[0].path == "/otlp/v1/logs"


def test_one_connection_serves_all_requests(receiver: Receiver, make: Any) -> None:
    sink = make(receiver)
    for _ in range(5):
        sink.deliver("traces", [traces("one")])
    assert len({got.connection for got in receiver.got}) == 1


def test_a_destination_that_was_restarted_is_found_again_at_once(protocol: str, make: Any) -> None:
    with serving(protocol, Receiver()) as first:
        sink = make(first)
        sink.deliver("traces", [traces("one")])
    with pytest.raises(StoreUnavailable):
        sink.deliver("traces", [traces("two")])
    with serving(protocol, Receiver(), first.port) as second:
        sink.deliver("traces", [traces("three")])
        assert second.bodies == [traces("three")]


def test_a_proxy_that_the_environment_names_is_used_but_for_hosts_that_it_excepts(
    monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    with http_receiver(Receiver()) as proxy, http_receiver(Receiver()) as near:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        make(near, protocol="http").deliver("logs", [b""])
        make(near, protocol="http", endpoint="http://collector.example:4318").deliver("logs", [b""])
    assert len(near.got) == 1
    assert [got.path for got in proxy.got] == ["http://collector.example:4318/v1/logs"]


# --- larger than the destination takes --------------------------------------------------------------------------------
def test_a_request_too_large_for_the_destination_arrives_in_pieces_of_its_size(receiver: Receiver, make: Any) -> None:
    names = [f"{number:03}" + "x" * 100 for number in range(200)]
    make(receiver, max_request_bytes=4096).deliver("traces", [traces(*names)])
    assert len(receiver.bodies) > 5
    assert all(len(body) <= 4096 for body in receiver.bodies)
    assert [name for body in receiver.bodies for name in span_names(body)] == names
    for body in receiver.bodies:
        (group,) = ExportTraceServiceRequest.FromString(body).resource_spans
        assert group.resource.attributes[0].value.string_value == "chat"
        assert (group.schema_url, group.scope_spans[0].schema_url) == (
            "https://example.test/r",
            "https://example.test/s",
        )
        assert group.scope_spans[0].scope.name == "lib"


def test_a_grpc_server_with_the_usual_limit_takes_what_comes_in_pieces_and_refuses_the_whole(make: Any) -> None:
    body = traces(*(f"{number:04}" + "x" * 1000 for number in range(5000)))
    with grpc_receiver(Receiver()) as receiver:
        whole = make(receiver, protocol="grpc", max_request_bytes=60 << 20)
        with pytest.raises(DeliveryRefused, match="larger than max") as caught:
            whole.deliver("traces", [body])
        assert caught.value.reason == "too_large"
        make(receiver, protocol="grpc").deliver("traces", [body])
    assert len(receiver.bodies) == 2
    assert [name for each in receiver.bodies for name in span_names(each)] == span_names(body)


def test_a_piece_that_is_refused_is_handed_back_and_the_others_are_delivered(receiver: Receiver, make: Any) -> None:
    names = [f"{number:03}" + "x" * 100 for number in range(100)]

    def answer(got: Received) -> Answer:
        return Answer(400, code=grpc.StatusCode.INVALID_ARGUMENT) if b"042x" in got.body else Answer()

    receiver.answer = answer
    receipt = make(receiver, max_request_bytes=2048).deliver("traces", [traces(*names)])
    (rejected,) = receipt.rejected
    assert (rejected.reason, rejected.items) == ("invalid", len(span_names(rejected.body)))
    assert names[42] in span_names(rejected.body)
    arrived = [name for got in receiver.got if b"042x" not in got.body for name in span_names(got.body)]
    assert sorted(arrived + span_names(rejected.body)) == names


def test_splitting_keeps_every_item_once_in_every_signal() -> None:
    logs = ExportLogsServiceRequest()
    metrics = ExportMetricsServiceRequest()
    for part in range(3):
        records = logs.resource_logs.add().scope_logs.add().log_records
        found = metrics.resource_metrics.add().scope_metrics.add().metrics
        for number in range(20):
            records.add(event_name=f"{part}-{number}")
            points = found.add(name=f"{part}-{number}").sum.data_points
            points.add(as_int=1)
            points.add(as_int=2)
    pieces = list(split("logs", logs.SerializeToString(), 300))
    assert sum(piece.items for piece in pieces) == 60
    merged = ExportLogsServiceRequest.FromString(b"".join(piece.body for piece in pieces))
    names = [r.event_name for group in merged.resource_logs for scope in group.scope_logs for r in scope.log_records]
    assert names == [f"{part}-{number}" for part in range(3) for number in range(20)]
    pieces = list(split("metrics", metrics.SerializeToString(), 300))
    assert sum(piece.items for piece in pieces) == 120
    again = ExportMetricsServiceRequest.FromString(b"".join(piece.body for piece in pieces))
    assert [m.name for g in again.resource_metrics for s in g.scope_metrics for m in s.metrics] == names


# --- settings ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "given",
    [
        {"endpoint": "127.0.0.1:4317"},
        {"endpoint": "ftp://127.0.0.1"},
        {"endpoint": "http://"},
        {"endpoint": "http://me:secret-word@127.0.0.1"},
        {"endpoint": "http://127.0.0.1?token=secret-word"},
        {"endpoint": "http://127.0.0.1:99999"},
        {"endpoint": "http://127.0.0.1:4318/v1/traces", "protocol": "http"},
        {"endpoint": "http://x", "protocol": "kafka"},
        {"endpoint": "http://x", "signals": []},
        {"endpoint": "http://x", "signals": ["profiles"]},
        {"endpoint": "http://x", "headers": {"a b": "c"}},
        {"endpoint": "http://x", "headers": {"a": "secret-word\r\nx: y"}},
        {"endpoint": "http://x", "certificate_file": "a.pem"},
        {"endpoint": "http://x", "colour": "red"},
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_without_showing_a_secret(given: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        ForwardSettings(**given)
    messages = "".join(each["msg"] for each in caught.value.errors(include_input=False, include_url=False))
    assert "secret-word" not in messages


def test_the_name_that_other_exporters_use_for_http_is_understood() -> None:
    config = ForwardSettings.model_validate({"endpoint": "http://x", "protocol": "http/protobuf"})
    assert config.protocol == "http"


def test_nothing_is_read_or_sent_before_the_first_delivery(tmp_path: Path, make: Any, receiver: Receiver) -> None:
    make(receiver)
    assert receiver.got == []
