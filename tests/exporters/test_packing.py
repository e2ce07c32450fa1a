"""gzip of what is sent: whole again at the other end, cheap here, and over gRPC packed by us and not by its core."""

import gzip
import logging
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.exporters.http import compression
from otel_telemetry.exporters.otlp import packed
from otel_telemetry.exporters.otlp.config import ForwardSettings
from otel_telemetry.exporters.otlp.sink import ForwardSink
from tests.exporters.otlp_receiver import Receiver, grpc_receiver

CHANCE = random.Random(5)  # noqa: S311 - bodies of a test, no secret
BODIES = {
    "nothing": b"",
    "one byte": b"x",
    "text": b"a span of some length, and another " * 1000,
    "noise": CHANCE.randbytes(70_000),
    "several windows": b"".join(CHANCE.randbytes(40) + b"attribute" * 9 for _ in range(30_000)),
}


def request(size: int) -> bytes:
    made = ExportTraceServiceRequest()
    spans = made.resource_spans.add().scope_spans.add().spans
    for number in range(size):
        spans.add(trace_id=b"t" * 16, span_id=number.to_bytes(8, "big"), name=f"span {number}")
    return bytes(made.SerializeToString())


def deliver(port: int, *bodies: bytes) -> None:
    config = ForwardSettings(endpoint=f"http://127.0.0.1:{port}", protocol="grpc", compression="gzip")
    sink = ForwardSink("there", config, "there")
    try:
        sink.deliver("traces", bodies)
    finally:
        sink.close()


@contextmanager
def overheard(port: int) -> Iterator[tuple[int, bytearray]]:
    """Stand between a client and a port: yield the port for the client, and what it has sent so far."""
    sent = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client_side: list[socket.socket] = []

        def carry(source: socket.socket, to: socket.socket, note: bytearray | None) -> None:
            with suppress(OSError):
                while piece := source.recv(1 << 16):
                    if note is not None:
                        note += piece
                    to.sendall(piece)

        def stand() -> None:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", port))
            client_side.extend((client, server))
            threading.Thread(target=carry, args=(server, client, None), daemon=True).start()
            carry(client, server, sent)

        thread = threading.Thread(target=stand, daemon=True)
        thread.start()
        yield listener.getsockname()[1], sent
        for each in client_side:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        thread.join(10)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_what_is_packed_comes_out_as_it_was(body: bytes) -> None:
    assert gzip.decompress(compression.gzipped(body)) == body


def test_the_quick_packer_is_there_where_the_package_asks_for_it() -> None:
    assert compression.FAST


def test_without_the_quick_packer_zlib_does_it() -> None:
    script = (
        "import sys; sys.modules['isal'] = None\n"
        "import gzip\n"
        "from otel_telemetry.exporters.http import compression\n"
        "assert not compression.FAST\n"
        "assert gzip.decompress(compression.gzipped(b'telemetry' * 999)) == b'telemetry' * 999\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_grpc_that_is_installed_is_one_for_which_we_pack() -> None:
    assert packed.can_pack(), "prove the new grpcio with the next test, then name it in packed.py"


def test_over_grpc_the_very_bytes_that_we_packed_are_sent_marked_as_packed() -> None:
    body = request(200)
    ours = compression.gzipped(body)
    with grpc_receiver(Receiver()) as receiver, overheard(receiver.port) as (port, sent):
        deliver(port, body)
        assert b"\x01" + len(ours).to_bytes(4, "big") + ours in sent
        assert receiver.bodies == [body]


def test_with_a_grpc_that_nobody_has_proved_the_core_packs_and_the_same_arrives(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "otel_telemetry.forward")
    monkeypatch.setattr(packed, "_PROVED", frozenset[str]())
    body = request(200)
    ours = compression.gzipped(body)
    with grpc_receiver(Receiver()) as receiver, overheard(receiver.port) as (port, sent):
        deliver(port, body)
        assert "packs what is sent by itself" in caplog.text
        assert ours not in sent
        assert len(sent) < len(body)
        assert receiver.bodies == [body]


@pytest.mark.parametrize("size", [0, 1, 40_000])
def test_packed_requests_of_every_size_arrive_over_grpc(size: int) -> None:
    with grpc_receiver(Receiver()) as receiver:
        deliver(receiver.port, request(size))
        deliver(receiver.port, request(size), request(1))
        assert receiver.bodies == [request(size), request(size) + request(1)]


def test_a_body_of_nothing_arrives_over_grpc() -> None:
    with grpc_receiver(Receiver()) as receiver:
        deliver(receiver.port, b"")
        assert receiver.bodies == [b""]
