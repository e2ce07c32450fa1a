"""The Collector of collector/ with its example file, a redactor beside it, and a server that keeps what it exports."""

import contextlib
import http.client
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.backends import builds
from tests.backends.process import Process, free_port
from tests.backends.redactor import Redactor

EXAMPLE = builds.COMPONENTS / "example.yaml"
PROTOBUF = {"content-type": "application/x-protobuf"}
MAIL = "jane.roe@example.com"


class Collector(Process):
    """The Collector that the manifest builds, sending to `target`."""

    def __init__(self, folder: Path, redactor: Redactor, target: str) -> None:
        ports = {name: free_port() for name in ("GRPC", "HTTP", "SELF", "HEALTH")}
        environment = {f"COLLECTOR_{name}_PORT": str(port) for name, port in ports.items()}
        environment |= {
            "COLLECTOR_QUEUE_DIR": str(folder / "queue"),
            "REDACTOR_ENDPOINT": f"unix://{redactor.socket}",
            "GATEWAY_ENDPOINT": target,
            "GATEWAY_API_KEY": "k1",
        }
        command: list[str | Path] = [builds.built(builds.REDACTING_COLLECTOR), "--config", EXAMPLE]
        super().__init__(command, folder, f"http://127.0.0.1:{ports['HEALTH']}/", {**os.environ, **environment})
        self.http = f"http://127.0.0.1:{ports['HTTP']}"
        self.grpc = f"http://127.0.0.1:{ports['GRPC']}"
        self.metrics = f"http://127.0.0.1:{ports['SELF']}/metrics"


@dataclass
class Exported:
    """What was exported, by path."""

    bodies: list[tuple[str, bytes]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)

    def span_ids(self) -> set[bytes]:
        """Return the ids of all spans."""
        requests = [ExportTraceServiceRequest.FromString(body) for path, body in list(self.bodies) if "traces" in path]
        scopes = [scope for one in requests for group in one.resource_spans for scope in group.scope_spans]
        return {span.span_id for scope in scopes for span in scope.spans}

    def everything(self) -> bytes:
        """Return all bytes that left the Collector."""
        return b"\0".join(body for _, body in list(self.bodies))


@contextlib.contextmanager
def keeping() -> Iterator[tuple[str, Exported]]:
    """Run an OTLP/HTTP server that keeps what it gets; yield its address."""
    exported = Exported()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            exported.bodies.append((self.path, body))
            exported.keys.add(self.headers.get("x-api-key", ""))
            self.send_response(http.client.OK)
            self.send_header("content-type", PROTOBUF["content-type"])
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", exported
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Load:
    """Threads that send spans with an address in them, over and over, and note which were acknowledged."""

    def __init__(self, url: str, senders: int = 4) -> None:
        self._url = f"{url}/v1/traces"
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(senders)]
        self.acknowledged: set[bytes] = set()
        self.refused = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        with httpx.Client(timeout=15) as client:
            while not self._over.is_set():
                ids = [os.urandom(8) for _ in range(50)]
                try:
                    answer = client.post(self._url, content=_spans(ids), headers=PROTOBUF)
                except httpx.TransportError:
                    continue  # nobody was told anything
                if answer.status_code == http.client.OK:
                    self.acknowledged.update(ids)
                else:
                    self.refused += 1
                    self._over.wait(0.05)


def _spans(ids: list[bytes]) -> bytes:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for one in ids:
        spans.add(trace_id=os.urandom(16), span_id=one, name=f"mail to {MAIL}").attributes.add(
            key="text"
        ).value.string_value = f"Write to {MAIL}, please."
    return bytes(request.SerializeToString())
