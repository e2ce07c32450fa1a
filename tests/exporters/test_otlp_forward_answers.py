"""Forwarding: what each answer of a destination means, and that none of them loses anything."""

import contextlib
import datetime as dt
import email.utils
import socket
import threading
import time
from http import HTTPStatus
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from otel_telemetry.base.errors import DeliveryRefused, StoreUnavailable
from otel_telemetry.exporters.otlp.config import ForwardSettings
from otel_telemetry.exporters.otlp.sink import ForwardSink
from tests.exporters.forwarded import serving, traces
from tests.exporters.otlp_receiver import Answer, Received, Receiver, grpc_receiver, http_receiver


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_passing_fault_over_http_is_for_later(status: int) -> None:
    assert_later(Answer(status=status, headers={"retry-after": "7"}), 7)


def assert_later(answer: Answer, seconds: float) -> None:
    with http_receiver(Receiver()) as receiver:
        receiver.answer = lambda got: answer
        sink = ForwardSink("x", ForwardSettings(endpoint=f"http://127.0.0.1:{receiver.port}", protocol="http"), "x")
        with pytest.raises(StoreUnavailable) as caught:
            sink.deliver("traces", [b""])
        sink.close()
    assert caught.value.retry_after == pytest.approx(seconds, abs=2)


def test_retry_after_may_be_a_date() -> None:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=60)
    assert_later(Answer(status=503, headers={"retry-after": email.utils.format_datetime(later, usegmt=True)}), 60)


@pytest.mark.parametrize("value", ["soon", "-3", "nan", "inf", "Wed, 99 Nonsense"])
def test_a_retry_after_that_makes_no_sense_counts_for_nothing(value: str) -> None:
    assert_later(Answer(status=503, headers={"retry-after": value}), 0)


def test_success_is_2xx_only_and_a_redirect_is_not_followed() -> None:
    with http_receiver(Receiver()) as elsewhere, http_receiver(Receiver()) as receiver:
        receiver.answer = lambda got: Answer(307, headers={"location": f"http://127.0.0.1:{elsewhere.port}/v1/traces"})
        sink = ForwardSink("x", ForwardSettings(endpoint=f"http://127.0.0.1:{receiver.port}", protocol="http"), "x")
        with pytest.raises(StoreUnavailable, match="redirect"):
            sink.deliver("traces", [traces("one")])
        sink.close()
    assert elsewhere.got == []


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_destination_that_does_not_know_us_is_waited_for(status: int) -> None:
    assert_later(Answer(status=status), 0)


@pytest.mark.parametrize(
    ("answer", "reason", "doubtful"),
    [
        (Answer(400), "invalid", False),
        (Answer(422), "invalid", False),
        (Answer(413), "too_large", False),
        (Answer(500), "destination_error", True),
        (Answer(501), "destination_error", True),
    ],
)
def test_what_is_refused_over_http_is_named(answer: Answer, reason: str, doubtful: bool) -> None:
    with http_receiver(Receiver()) as receiver:
        body = Status(code=3, message="span 7\nis odd").SerializeToString()
        receiver.answer = lambda got: Answer(answer.status, body, {"content-type": "application/x-protobuf"})
        sink = ForwardSink("x", ForwardSettings(endpoint=f"http://127.0.0.1:{receiver.port}", protocol="http"), "x")
        with pytest.raises(DeliveryRefused, match="span 7 is odd") as caught:
            sink.deliver("traces", [b""])
        sink.close()
    assert (caught.value.reason, caught.value.doubtful) == (reason, doubtful)


def rpc_outcome(answer: Answer) -> StoreUnavailable | DeliveryRefused:
    with grpc_receiver(Receiver()) as receiver:
        receiver.answer = lambda got: answer
        sink = ForwardSink("x", ForwardSettings(endpoint=f"http://127.0.0.1:{receiver.port}"), "x")
        with pytest.raises((StoreUnavailable, DeliveryRefused)) as caught:
            sink.deliver("traces", [b""])
        sink.close()
    assert isinstance(caught.value, StoreUnavailable | DeliveryRefused)
    return caught.value


LATER = ["UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED", "OUT_OF_RANGE", "DATA_LOSS"]


@pytest.mark.parametrize("code", [*LATER, "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"])
def test_a_status_that_passes_or_that_a_setting_cures_is_for_later(code: str) -> None:
    outcome = rpc_outcome(Answer(code=grpc.StatusCode[code], details="not now"))
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
    outcome = rpc_outcome(Answer(code=grpc.StatusCode[code], details="no"))
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
    outcome = rpc_outcome(Answer(code=grpc.StatusCode[code], details="busy", trailers=(trailer,)))
    assert isinstance(outcome, StoreUnavailable)
    assert outcome.retry_after == 2.5


def test_trailers_that_are_no_protobuf_are_passed_over() -> None:
    outcome = rpc_outcome(
        Answer(code=grpc.StatusCode.UNAVAILABLE, trailers=(("grpc-status-details-bin", b"\xff\xff\xff"),))
    )
    assert isinstance(outcome, StoreUnavailable)
    assert outcome.retry_after == 0


def test_a_destination_that_does_not_answer_is_given_up_in_time(protocol: str, make: Any, receiver: Receiver) -> None:
    def slow(got: Received) -> Answer:
        time.sleep(1.5)
        return Answer()

    receiver.answer = slow
    with pytest.raises(StoreUnavailable) as caught:
        make(receiver, timeout=0.2).deliver("traces", [b""])
    assert caught.value.timed_out


@pytest.mark.parametrize(
    "body",
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
def test_an_answer_that_cannot_be_read_is_none(body: bytes, make: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(body)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(StoreUnavailable):
            make(Receiver(), protocol="http", endpoint=endpoint, timeout=5).deliver("traces", [b""])
        thread.join(10)


@pytest.mark.parametrize(
    ("first", "piece"),
    [(b"", b"x"), (b"HTTP/1.1 200 OK\r\nx-a: ", b"a"), (b"", b"HTTP/1.1 100 Continue\r\n\r\n")],
    ids=["status", "header", "continue"],
)
def test_an_answer_that_drips_is_given_up_in_time(first: bytes, piece: bytes, make: Any) -> None:
    """Each piece would begin a socket's timeout anew; the next request has a connection of its own, and its time."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            while not over.is_set():
                connection, _ = server.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(1 << 16)
                    connection.sendall(first)
                    while not over.wait(0.05):
                        connection.sendall(piece)

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        address = server.getsockname()
        sink = make(Receiver(), protocol="http", endpoint=f"http://127.0.0.1:{address[1]}", timeout=0.4)
        for _ in range(2):
            with pytest.raises(StoreUnavailable) as caught:
                sink.deliver("traces", [b""])
            assert caught.value.timed_out
        over.set()
        socket.create_connection(address).close()
        thread.join(10)


def test_after_an_answer_without_end_the_next_request_is_sent(make: Any) -> None:
    """Its connection is closed, and the pool has no other: it must get that one back."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(1 << 16)
                    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * (1 << 20))

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        sink = make(Receiver(), protocol="http", endpoint=f"http://127.0.0.1:{server.getsockname()[1]}", timeout=5)
        for _ in range(2):
            assert sink.deliver("traces", [b""]).unclear
        thread.join(10)


def test_where_no_thread_is_to_be_had_requests_are_sent_all_the_same(make: Any, monkeypatch: Any) -> None:
    def refuse(timer: threading.Timer) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Timer, "start", refuse)
    with http_receiver(Receiver()) as receiver:
        make(receiver, protocol="http", endpoint=f"http://127.0.0.1:{receiver.port}").deliver("traces", [b""])
        assert len(receiver.got) == 1


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
    receiver.answer = lambda got: Answer(body=response.SerializeToString())
    receipt = make(receiver).deliver("logs", [b"", b""])
    (rejected,) = receipt.rejected
    assert (rejected.items, rejected.reason, rejected.detail, rejected.body) == (3, "partial_success", "too old", b"")
    assert len(receiver.got) == 1


def test_a_warning_without_rejected_items_is_kept(receiver: Receiver, make: Any) -> None:
    response = ExportLogsServiceResponse()
    response.partial_success.error_message = "deprecated"
    receiver.answer = lambda got: Answer(body=response.SerializeToString())
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
        receiver.answer = lambda got: Answer(body=body, headers={"content-type": "application/json; charset=utf-8"})
        sink = ForwardSink("x", ForwardSettings(endpoint=f"http://127.0.0.1:{receiver.port}", protocol="http"), "x")
        receipt = sink.deliver("traces", [b""])
        sink.close()
    assert sum(each.items for each in receipt.rejected) == rejected


def test_an_answer_that_is_no_protobuf_is_still_a_success(receiver: Receiver, make: Any) -> None:
    receiver.answer = lambda got: Answer(body=b"OK\xff")
    assert make(receiver).deliver("traces", [b""]).rejected == ()


def test_an_answer_without_end_is_cut(make: Any, protocol: str) -> None:
    with http_receiver(Receiver()) as receiver:
        receiver.answer = lambda got: Answer(HTTPStatus.BAD_REQUEST, b"x" * (1 << 20))
        with pytest.raises(DeliveryRefused) as caught:
            make(receiver, protocol="http").deliver("traces", [b""])
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n" * 3]
)
def test_an_answer_before_the_final_one_belongs_to_the_same_request(interim: bytes) -> None:
    with interim_then([200, 400, 200], interim) as port:
        sink = ForwardSink("x", ForwardSettings(endpoint=f"http://127.0.0.1:{port}", protocol="http"), "x")
        sink.deliver("traces", [traces("one")])
        with pytest.raises(DeliveryRefused):
            sink.deliver("traces", [traces("two")])
        sink.deliver("traces", [traces("three")])
        sink.close()


def test_answers_before_the_final_one_come_to_an_end() -> None:
    with interim_then([200], b"HTTP/1.1 103 Early Hints\r\n\r\n" * 200) as port:
        sink = ForwardSink("x", ForwardSettings(endpoint=f"http://127.0.0.1:{port}", protocol="http"), "x")
        with pytest.raises(StoreUnavailable, match="interim"):
            sink.deliver("traces", [traces("one")])
        sink.close()


@contextlib.contextmanager
def interim_then(statuses: list[int], interim: bytes) -> Any:
    """Serve one connection after the other: before each of these statuses, the interim answers."""
    waiting = list(statuses)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while waiting:
                    connection, _ = server.accept()
                    answer_all(connection)

        def answer_all(connection: socket.socket) -> None:
            with connection, connection.makefile("rb") as stream:
                while waiting and stream.readline():
                    headers = dict(line.lower().rstrip().split(b": ", 1) for line in iter(stream.readline, b"\r\n"))
                    stream.read(int(headers[b"content-length"]))
                    connection.sendall(interim + b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % waiting.pop(0))

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        waiting.clear()
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("body", [b"[" * 60_000, b'{"partialSuccess":{"rejectedSpans":1e999}}', b'{"a":' * 30_000])
def test_json_that_is_no_answer_is_taken_as_unclear_and_sent_once(body: bytes) -> None:
    with http_receiver(Receiver()) as receiver:
        receiver.answer = lambda got: Answer(200, body, {"content-type": "application/json"})
        sink = ForwardSink("x", ForwardSettings(endpoint=f"http://127.0.0.1:{receiver.port}", protocol="http"), "x")
        assert sink.deliver("traces", [traces("one")]).unclear
        sink.close()
        assert len(receiver.got) == 1


def test_an_answer_over_grpc_that_is_too_large_to_read_is_unclear_and_the_data_sent_once() -> None:
    with grpc_receiver(Receiver()) as receiver:
        receiver.answer = lambda got: Answer(body=b"x" * (5 << 20))
        sink = ForwardSink("x", ForwardSettings(endpoint=f"http://127.0.0.1:{receiver.port}", protocol="grpc"), "x")
        assert sink.deliver("traces", [traces("one")]).unclear
        sink.close()
        assert len(receiver.got) == 1


def test_an_exchange_over_grpc_that_broke_off_is_tried_again() -> None:
    trailers = tuple((f"x-{number}", b"y" * 2_000) for number in range(20))  # more than gRPC reads
    with grpc_receiver(Receiver()) as receiver:
        receiver.answer = lambda got: Answer(code=grpc.StatusCode.INVALID_ARGUMENT, trailers=trailers)
        sink = ForwardSink("x", ForwardSettings(endpoint=f"http://127.0.0.1:{receiver.port}", protocol="grpc"), "x")
        with pytest.raises(DeliveryRefused) as caught:
            sink.deliver("traces", [traces("one")])
        sink.close()
    assert (caught.value.reason, caught.value.doubtful) == ("destination_error", True)
