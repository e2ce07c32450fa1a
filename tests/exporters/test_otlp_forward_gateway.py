"""Forwarding as a user runs it: `otel-telemetry serve`, with real receivers as destinations."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry import assemble_gateway, settings
from otel_telemetry.base.errors import ConfigurationError
from tests.backends.process import free_port
from tests.exporters.gateway_program import Gateway
from tests.exporters.otlp_receiver import Answer, Receiver, grpc_receiver, http_receiver
from tests.waiting import eventually


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    started: list[Gateway] = []

    def run(**forward: Any) -> Gateway:
        started.append(Gateway(tmp_path, forward=forward))
        return started[-1]

    yield run
    for gateway in started:
        gateway.process.kill()
        gateway.process.wait()


def span(name: str) -> bytes:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=b"s" * 8, name=name)
    return bytes(request.SerializeToString())


def names(receiver: Receiver) -> list[str]:
    return re.findall(r"span-\d+", b"".join(receiver.bodies).decode(errors="replace"))


def test_every_destination_gets_what_came_in_without_personal_data(start: Any) -> None:
    with grpc_receiver(Receiver()) as one, http_receiver(Receiver()) as two:
        gateway = start(
            one={"endpoint": f"http://127.0.0.1:{one.port}"},
            two={"endpoint": f"http://127.0.0.1:{two.port}", "protocol": "http", "compression": "gzip"},
        )
        gateway.send(span("span-1 of jane@example.com"))
        assert one.wait_for(1)
        assert two.wait_for(1)
        assert one.bodies == two.bodies
        assert b"span-1 of [REDACTED_EMAIL]" in one.bodies[0]
        for name in ("forward.one", "forward.two"):
            eventually(partial(gateway.metric, "delivered_total", exporter=name, signal="traces"))
            assert gateway.metric("circuit", exporter=name) == 0


def test_what_came_while_a_destination_was_away_arrives_once_it_is_back_and_others_do_not_wait(start: Any) -> None:
    with http_receiver(Receiver()) as there:
        away = free_port()
        gateway = start(
            away={"endpoint": f"http://127.0.0.1:{away}"},
            there={"endpoint": f"http://127.0.0.1:{there.port}", "protocol": "http"},
        )
        gateway.send(span("span-1"))
        assert there.wait_for(1)
        part = eventually(lambda: (p := gateway.exporter("forward.away"))["status"] == "waiting" and p)
        assert part["lag"]["items"] == 1
        assert "UNAVAILABLE" in part["problem"]
        gateway.send(span("span-2"))
        assert there.wait_for(2)
        gateway.stop()
        with grpc_receiver(Receiver(), away) as back:
            gateway.start()
            eventually(lambda: names(back) == ["span-1", "span-2"])
        assert names(there) == ["span-1", "span-2"]


def test_what_a_destination_did_not_keep_is_counted_and_shown(start: Any) -> None:
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = 1
    response.partial_success.error_message = "no room"
    with grpc_receiver(Receiver()) as there:
        there.answer = lambda got: Answer(body=response.SerializeToString())
        gateway = start(there={"endpoint": f"http://127.0.0.1:{there.port}"})
        gateway.send(span("span-1"))
        eventually(lambda: gateway.metric("rejected_total", exporter="forward.there", reason="partial_success") == 1)
        part = gateway.exporter("forward.there")
        assert (part["rejected"], part["warning"]) == ({"partial_success": 1}, "no room")


@pytest.mark.parametrize(
    ("endpoint", "protocol"),
    [("http://localhost:4317", "grpc"), ("http://127.0.0.1:4318", "http"), ("http://[::1]", "grpc")],
)
def test_a_gateway_does_not_forward_to_itself(endpoint: str, protocol: str, tmp_path: Path) -> None:
    given = settings.load(
        forward={"me": {"endpoint": endpoint, "protocol": protocol}},
        request_log={"url": f"sqlite:///{tmp_path / 'rows.db'}"},
    )
    with pytest.raises(ConfigurationError, match=r"forward\.me\.endpoint: that is where this gateway listens"):
        assemble_gateway.gateway_of(given)


def test_destinations_are_set_one_by_one_or_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TELEMETRY_FORWARD", '{"tempo": {"endpoint": "http://tempo:4317"}}')
    monkeypatch.setenv("OTEL_TELEMETRY_FORWARD__COLLECTOR__ENDPOINT", "http://collector:4317")
    monkeypatch.setenv("OTEL_TELEMETRY_FORWARD__COLLECTOR__HEADERS", '{"x-api-key": "k"}')
    monkeypatch.setenv("OTEL_TELEMETRY_FORWARD__COLLECTOR__SIGNALS", '["traces"]')
    forward = settings.load().forward
    assert sorted(forward) == ["collector", "tempo"]
    assert forward["collector"].header_values() == {"x-api-key": "k"}
    assert forward["collector"].signals == ("traces",)


def test_a_mistyped_setting_of_a_destination_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TELEMETRY_FORWARD__COLLECTOR__ENDPONT", "http://collector:4317")
    with pytest.raises(ConfigurationError, match=r"did you mean"):
        settings.load()
