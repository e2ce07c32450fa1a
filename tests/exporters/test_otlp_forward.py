"""Forwarding, against real OTLP receivers on loopback that keep what they were sent."""

import datetime as dt
import email.utils
import gzip
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import ValidationError

from otel_telemetry.errors import ConfigurationError, DeliveryRefused, StoreUnavailable
from otel_telemetry.exporters.otlp.config import ForwardSettings
from otel_telemetry.exporters.otlp.sink import ForwardSink
from otel_telemetry.exporters.otlp.split import split
from tests.exporters.otlp_receiver import Got, Receiver, Say, grpc_receiver, http_receiver

PATHS = {
    "grpc": "/opentelemetry.proto.collector.{}/Export",
    "http": "/v1/{}",
}
SERVICE = {
    "traces": "trace.v1.TraceService",
    "logs": "logs.v1.LogsService",
    "metrics": "metrics.v1.MetricsService",
}


@pytest.fixture(params=["grpc", "http"])
def protocol(request: pytest.FixtureRequest) -> Any:
    return request.param


def serving(protocol: str, receiver: Receiver, port: int = 0) -> Any:
    return grpc_receiver(receiver, port) if protocol == "grpc" else http_receiver(receiver, port)


@pytest.fixture
def receiver(protocol: str) -> Iterator[Receiver]:
    with serving(protocol, Receiver()) as made:
        yield made


@pytest.fixture
def make(protocol: str) -> Iterator[Any]:
    """Return `make(receiver, **settings)`, a sink that sends there."""
    made: list[ForwardSink] = []

    def sink(receiver: Receiver, **settings: Any) -> ForwardSink:
        endpoint = f"http://127.0.0.1:{receiver.port}"
        config = ForwardSettings(**{"endpoint": endpoint, "protocol": protocol, **settings})
        made.append(ForwardSink("forward.there", config, "forward.there"))
        return made[-1]

    yield sink
    for each in made:
        each.close()


def traces(*names: str, resource: str = "chat") -> bytes:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add(schema_url="https://example.test/r")
    group.resource.attributes.add(key="service.name").value.string_value = resource
    scope = group.scope_spans.add(schema_url="https://example.test/s")
    scope.scope.name = "lib"
    for number, name in enumerate(names):
        scope.spans.add(trace_id=b"t" * 16, span_id=number.to_bytes(8, "big"), name=name)
    return bytes(request.SerializeToString())


def span_names(body: bytes) -> list[str]:
    request = ExportTraceServiceRequest.FromString(body)
    return [span.name for group in request.resource_spans for scope in group.scope_spans for span in scope.spans]


# --- what is sent ---------------------------------------------------------------------------------------------------
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
    receiver.answer = lambda got: Say(status=401, code=grpc.StatusCode.UNAUTHENTICATED, details="who are you?")
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


# --- what the answers mean ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_passing_fault_over_http_is_for_later(status: int) -> None:
    assert_later(Say(status=status, headers={"retry-after": "7"}), 7)


def assert_later(say: Say, seconds: float) -> None:
    with http_receiver(Receiver()) as receiver:
        receiver.answer = lambda got: say
        sink = ForwardSink("x", ForwardSettings(endpoint=f"http://127.0.0.1:{receiver.port}", protocol="http"), "x")
        with pytest.raises(StoreUnavailable) as caught:
            sink.deliver("traces", [b""])
        sink.close()
    assert caught.value.retry_after == pytest.approx(seconds, abs=2)


def test_retry_after_may_be_a_date() -> None:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=60)
    assert_later(Say(status=503, headers={"retry-after": email.utils.format_datetime(later, usegmt=True)}), 60)


@pytest.mark.parametrize("value", ["soon", "-3", "nan", "inf", "Wed, 99 Nonsense"])
def test_a_retry_after_that_makes_no_sense_counts_for_nothing(value: str) -> None:
    assert_later(Say(status=503, headers={"retry-after": value}), 0)


def test_success_is_2xx_only_and_a_redirect_is_not_followed() -> None:
    with http_receiver(Receiver()) as elsewhere, http_receiver(Receiver()) as receiver:
        receiver.answer = lambda got: Say(307, headers={"location": f"http://127.0.0.1:{elsewhere.port}/v1/traces"})
        sink = ForwardSink("x", ForwardSettings(endpoint=f"http://127.0.0.1:{receiver.port}", protocol="http"), "x")
        with pytest.raises(StoreUnavailable, match="redirect"):
            sink.deliver("traces", [traces("one")])
        sink.close()
    assert elsewhere.got == []


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_destination_that_does_not_know_us_is_waited_for(status: int) -> None:
    assert_later(Say(status=status), 0)


@pytest.mark.parametrize(
    ("say", "reason", "doubtful"),
    [
        (Say(400), "invalid", False),
        (Say(422), "invalid", False),
        (Say(413), "too_large", False),
        (Say(500), "destination_error", True),
        (Say(501), "destination_error", True),
    ],
)
def test_what_is_refused_over_http_is_named(say: Say, reason: str, doubtful: bool) -> None:
    with http_receiver(Receiver()) as receiver:
        body = Status(code=3, message="span 7\nis odd").SerializeToString()
        receiver.answer = lambda got: Say(say.status, body, {"content-type": "application/x-protobuf"})
        sink = ForwardSink("x", ForwardSettings(endpoint=f"http://127.0.0.1:{receiver.port}", protocol="http"), "x")
        with pytest.raises(DeliveryRefused, match="span 7 is odd") as caught:
            sink.deliver("traces", [b""])
        sink.close()
    assert (caught.value.reason, caught.value.doubtful) == (reason, doubtful)


def rpc_outcome(say: Say) -> StoreUnavailable | DeliveryRefused:
    with grpc_receiver(Receiver()) as receiver:
        receiver.answer = lambda got: say
        sink = ForwardSink("x", ForwardSettings(endpoint=f"http://127.0.0.1:{receiver.port}"), "x")
        with pytest.raises((StoreUnavailable, DeliveryRefused)) as caught:
            sink.deliver("traces", [b""])
        sink.close()
    assert isinstance(caught.value, StoreUnavailable | DeliveryRefused)
    return caught.value


LATER = ["UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED", "OUT_OF_RANGE", "DATA_LOSS"]


@pytest.mark.parametrize("code", [*LATER, "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"])
def test_a_status_that_passes_or_that_a_setting_cures_is_for_later(code: str) -> None:
    outcome = rpc_outcome(Say(code=grpc.StatusCode[code], details="not now"))
    assert isinstance(outcome, StoreUnavailable)
    assert outcome.retry_after == 0
    assert code in str(outcome)


@pytest.mark.parametrize(
    ("code", "reason", "doubtful"),
    [
        ("INVALID_ARGUMENT", "invalid", False),
        ("FAILED_PRECONDITION", "invalid", False),
        ("RESOURCE_EXHAUSTED", "too_large", False),
        ("INTERNAL", "destination_error", True),
        ("UNKNOWN", "destination_error", True),
    ],
)
def test_what_is_refused_over_grpc_is_named(code: str, reason: str, doubtful: bool) -> None:
    outcome = rpc_outcome(Say(code=grpc.StatusCode[code], details="no"))
    assert isinstance(outcome, DeliveryRefused)
    assert (outcome.reason, outcome.doubtful) == (reason, doubtful)


def details(info: RetryInfo) -> bytes:
    packed = AnyMessage()
    packed.Pack(info)
    return bytes(Status(code=14, details=[packed]).SerializeToString())


INFO = RetryInfo(retry_delay=Duration(seconds=2, nanos=500_000_000))


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
@pytest.mark.parametrize(
    "trailer", [("google.rpc.retryinfo-bin", INFO.SerializeToString()), ("grpc-status-details-bin", details(INFO))]
)
def test_the_time_to_wait_is_read_from_either_trailer(code: str, trailer: tuple[str, bytes]) -> None:
    outcome = rpc_outcome(Say(code=grpc.StatusCode[code], details="busy", trailers=(trailer,)))
    assert isinstance(outcome, StoreUnavailable)
    assert outcome.retry_after == 2.5


def test_trailers_that_are_no_protobuf_are_passed_over() -> None:
    outcome = rpc_outcome(
        Say(code=grpc.StatusCode.UNAVAILABLE, trailers=(("grpc-status-details-bin", b"\xff\xff\xff"),))
    )
    assert isinstance(outcome, StoreUnavailable)
    assert outcome.retry_after == 0


def test_a_destination_that_does_not_answer_is_given_up_in_time(protocol: str, make: Any, receiver: Receiver) -> None:
    def slow(got: Got) -> Say:
        time.sleep(1.5)
        return Say()

    receiver.answer = slow
    with pytest.raises(StoreUnavailable) as caught:
        make(receiver, timeout=0.2).deliver("traces", [b""])
    assert caught.value.timed_out


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000 + b"\r\n",
    ],
    ids=["nothing", "another protocol", "half a body", "no chunk", "no gzip", "too many headers"],
)
def test_an_answer_that_cannot_be_read_is_none(said: bytes, make: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(said)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(StoreUnavailable):
            make(Receiver(), protocol="http", endpoint=endpoint, timeout=5).deliver("traces", [b""])
        thread.join(10)


def test_nobody_there_is_for_later_and_says_so_without_addresses_of_objects(protocol: str, make: Any) -> None:
    with serving(protocol, Receiver()) as gone:
        pass
    with pytest.raises(StoreUnavailable) as caught:
        make(gone).deliver("traces", [b""])
    assert "0x" not in str(caught.value)
    assert "refused" in str(caught.value)


def test_partial_success_tells_how_many_and_why_and_is_a_success(protocol: str, receiver: Receiver, make: Any) -> None:
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = 3
    response.partial_success.error_message = "too\nold"
    receiver.answer = lambda got: Say(body=response.SerializeToString())
    receipt = make(receiver).deliver("logs", [b"", b""])
    (rejected,) = receipt.rejected
    assert (rejected.items, rejected.reason, rejected.detail, rejected.body) == (3, "partial_success", "too old", b"")
    assert len(receiver.got) == 1


def test_a_warning_without_rejected_items_is_kept(receiver: Receiver, make: Any) -> None:
    response = ExportLogsServiceResponse()
    response.partial_success.error_message = "deprecated"
    receiver.answer = lambda got: Say(body=response.SerializeToString())
    receipt = make(receiver).deliver("logs", [b""])
    assert (receipt.rejected, receipt.warning) == ((), "deprecated")


@pytest.mark.parametrize(
    ("body", "rejected"),
    [
        (b"", 0),
        (b"{}", 0),
        (b'{"partialSuccess": {"rejectedSpans": "4", "errorMessage": "no"}}', 4),
        (b'{"partialSuccess": {"rejectedDataPoints": 2}}', 2),
        (b"[]", 0),
        (b"<html>", 0),
    ],
)
def test_an_answer_in_json_is_understood_and_an_odd_one_is_still_a_success(body: bytes, rejected: int) -> None:
    with http_receiver(Receiver()) as receiver:
        receiver.answer = lambda got: Say(body=body, headers={"content-type": "application/json; charset=utf-8"})
        sink = ForwardSink("x", ForwardSettings(endpoint=f"http://127.0.0.1:{receiver.port}", protocol="http"), "x")
        receipt = sink.deliver("traces", [b""])
        sink.close()
    assert sum(each.items for each in receipt.rejected) == rejected


def test_an_answer_that_is_no_protobuf_is_still_a_success(receiver: Receiver, make: Any) -> None:
    receiver.answer = lambda got: Say(body=b"OK\xff")
    assert make(receiver).deliver("traces", [b""]).rejected == ()


def test_an_answer_without_end_is_cut(make: Any, protocol: str) -> None:
    with http_receiver(Receiver()) as receiver:
        receiver.answer = lambda got: Say(HTTPStatus.BAD_REQUEST, b"x" * (1 << 20))
        with pytest.raises(DeliveryRefused) as caught:
            make(receiver, protocol="http").deliver("traces", [b""])
    assert len(str(caught.value)) < 1000


# --- larger than the destination takes ------------------------------------------------------------------------------
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

    def answer(got: Got) -> Say:
        return Say(400, code=grpc.StatusCode.INVALID_ARGUMENT) if b"042x" in got.body else Say()

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


# --- TLS ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("given", [{"ca_file": "gone.pem"}, {"certificate_file": "a.pem", "key_file": "b.pem"}])
def test_certificates_that_cannot_be_read_are_named_at_the_start(given: Any, protocol: str) -> None:
    config = ForwardSettings(endpoint="https://127.0.0.1:1", protocol=protocol, **given)
    with pytest.raises(ConfigurationError, match=r"forward\.there: its certificates cannot be used"):
        ForwardSink("forward.there", config, "forward.there")


@pytest.mark.parametrize("given", [{}, {"certificate_file": "other.pem", "key_file": "other.key"}])
def test_a_destination_that_asks_for_a_certificate_gets_ours_or_nothing(
    given: Any, protocol: str, make: Any, tmp_path: Path
) -> None:
    ca, server, client, _ = (authority(tmp_path, name) for name in ("ca", "server", "client", "other"))
    given = {name: tmp_path / path for name, path in given.items()}
    receiver = Receiver()
    with secure(protocol, receiver, server, client):
        there = {"endpoint": f"https://localhost:{receiver.port}", "ca_file": server[0]}
        with pytest.raises(StoreUnavailable):
            make(receiver, **there, **given).deliver("traces", [traces("one")])
        assert receiver.got == []
        with pytest.raises(StoreUnavailable):  # it is not who it should be
            make(receiver, **{**there, "ca_file": ca[0]}).deliver("traces", [traces("one")])
        make(receiver, **there, certificate_file=client[0], key_file=client[1]).deliver("traces", [traces("one")])
        assert receiver.bodies == [traces("one")]


def authority(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate that is its own authority, for localhost; return its file and that of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return pem, key_file


def secure(protocol: str, receiver: Receiver, own: tuple[Path, Path], trusted: tuple[Path, Path]) -> Any:
    """Serve with TLS, to those only who show the trusted certificate."""
    if protocol == "grpc":
        pair = (own[1].read_bytes(), own[0].read_bytes())
        credentials = grpc.ssl_server_credentials([pair], trusted[0].read_bytes(), require_client_auth=True)
        return grpc_receiver(receiver, credentials=credentials)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*own)
    context.load_verify_locations(trusted[0])
    context.verify_mode = ssl.CERT_REQUIRED
    return http_receiver(receiver, tls=context)


# --- settings -------------------------------------------------------------------------------------------------------
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
    said = "".join(each["msg"] for each in caught.value.errors(include_input=False, include_url=False))
    assert "secret-word" not in said


def test_the_name_that_other_exporters_use_for_http_is_understood() -> None:
    config = ForwardSettings.model_validate({"endpoint": "http://x", "protocol": "http/protobuf"})
    assert config.protocol == "http"


def test_nothing_is_read_or_sent_before_the_first_delivery(tmp_path: Path, make: Any, receiver: Receiver) -> None:
    make(receiver)
    assert receiver.got == []
