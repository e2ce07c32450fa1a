"""A real OTLP receiver for tests, over gRPC and HTTP on free loopback ports, that answers as a test wants it."""

import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

SERVICES = {
    "opentelemetry.proto.collector.trace.v1.TraceService": "traces",
    "opentelemetry.proto.collector.logs.v1.LogsService": "logs",
    "opentelemetry.proto.collector.metrics.v1.MetricsService": "metrics",
}


@dataclass
class Received:
    """A request as it arrived, `body` decompressed."""

    path: str
    body: bytes
    headers: dict[str, str]
    raw: bytes = b""
    connection: Any = None


@dataclass
class Answer:
    """What to answer over HTTP, or over gRPC (`code`, `trailers`)."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    trailers: tuple[tuple[str, bytes], ...] = ()


class Receiver:
    """Keeps what it got; `answer(got)` returns the answer, success by default."""

    def __init__(self) -> None:
        self.got: list[Received] = []
        self.answer: Callable[[Received], Answer] = lambda got: Answer()
        self.arrived = threading.Condition()
        self.port = 0

    def take(self, got: Received) -> Answer:
        with self.arrived:
            self.got.append(got)
            self.arrived.notify_all()
        return self.answer(got)

    @property
    def bodies(self) -> list[bytes]:
        return [got.body for got in self.got]

    def wait_for(self, count: int, timeout: float = 10) -> bool:
        with self.arrived:
            return self.arrived.wait_for(lambda: len(self.got) >= count, timeout)


@contextmanager
def http_receiver(receiver: Receiver, port: int = 0, tls: Any = None) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"] or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = gzip.decompress(raw) if headers.get("content-encoding") == "gzip" else raw
            say = receiver.take(Received(self.path, body, headers, raw, self.client_address))
            self.send_response(say.status)
            for name, value in say.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(say.body)))
            self.end_headers()
            self.wfile.write(say.body)

        def log_message(self, *args: object) -> None:
            pass

    open_sockets: set[Any] = set()

    class Server(ThreadingHTTPServer):
        block_on_close = False

        def process_request(self, request: Any, client_address: Any) -> None:
            open_sockets.add(request)
            super().process_request(request, client_address)

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    server = Server(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        for each in open_sockets:  # a process that ends takes its connections along
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class _Handler(grpc.GenericRpcHandler):  # type: ignore[type-arg] # generic in its stubs only
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method
        if method.split("/")[1] not in SERVICES:
            return None

        def export(body: bytes, context: Any) -> bytes:
            metadata = dict(context.invocation_metadata())
            say = self._receiver.take(Received(method, body, metadata, connection=context.peer()))
            if say.code is not grpc.StatusCode.OK:
                context.set_trailing_metadata(say.trailers)
                context.abort(say.code, say.details)
            return say.body

        return grpc.unary_unary_rpc_method_handler(export)


@contextmanager
def grpc_receiver(receiver: Receiver, port: int = 0, credentials: Any = None) -> Iterator[Receiver]:
    server = grpc.server(
        ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 4 << 20), ("grpc.so_reuseport", 0)]
    )
    server.add_generic_rpc_handlers((_Handler(receiver),))
    address = f"127.0.0.1:{port}"
    receiver.port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    try:
        yield receiver
    finally:
        server.stop(None).wait()
