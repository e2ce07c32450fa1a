"""The redactor: a request goes in over its socket, the same request without personal data comes back, or an error."""

import gzip
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.receive import unix_socket
from otel_telemetry.gateway.serve.redactor import RedactorProcess
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from tests.waiting import eventually

PROTOBUF = {"content-type": "application/x-protobuf"}
MAIL = "jane@example.com"


@pytest.fixture(name="redacting")
def redacting_fixture(tmp_path: Path, redactor: OtlpRedactor) -> Any:
    """Return `redacting(**settings)`: a redactor that runs here, and a client on its socket or port."""

    @asynccontextmanager
    async def run(engine: Any = None, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
        config = GatewaySettings(
            **{"role": "redact", "workers": 0, "http_port": 0, "socket": str(tmp_path / "own" / "r.sock"), **settings}
        )
        process = RedactorProcess(config, engine or redactor)
        await process.start()
        try:
            at_socket = config.socket != "-"
            transport = httpx.AsyncHTTPTransport(uds=config.socket) if at_socket else None
            base = "http://localhost" if at_socket else f"http://127.0.0.1:{process.http_port}"
            async with httpx.AsyncClient(transport=transport, base_url=base) as client:
                yield client
        finally:
            await process.stop(5)

    return run


def logs() -> bytes:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    record.body.string_value = f"mail to {MAIL}"
    return bytes(request.SerializeToString())


def gauge() -> bytes:
    request = ExportMetricsServiceRequest()
    points = request.resource_metrics.add().scope_metrics.add().metrics.add(name="mails").gauge.data_points
    for number in range(3):
        points.add(as_int=number).attributes.add(key="to").value.string_value = MAIL
    return bytes(request.SerializeToString())


async def test_each_signal_comes_back_without_personal_data(redacting: Any, make_request: Callable[..., bytes]) -> None:
    sent = {"traces": (make_request("ask", "tell", note=MAIL), 2), "logs": (logs(), 1), "metrics": (gauge(), 3)}
    async with redacting() as client:
        for name, (body, items) in sent.items():
            answer = await client.post(f"/v1/redact/{name}", content=body, headers=PROTOBUF)
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "application/x-protobuf"
            assert answer.headers["x-otel-telemetry-items"] == str(items)
            assert answer.headers["x-otel-telemetry-rejected"] == "0"
            assert MAIL.encode() in body
            assert MAIL.encode() not in answer.content
            assert b"[REDACTED_EMAIL]" in answer.content
        metrics = (await client.get("/metrics")).text
        health = (await client.get("/health")).json()
    assert "process_cpu_seconds_total" in metrics
    assert health["parts"] == {"redaction": {"status": "ok"}}


async def test_a_large_request_comes_back_whole(redacting: Any, make_request: Callable[..., bytes]) -> None:
    names = [f"call {number} of {MAIL}" for number in range(3000)]
    body = make_request(*names, text="x" * 900)
    assert len(body) > 2 << 20
    async with redacting() as client:
        answer = await client.post("/v1/redact/traces", content=body, headers=PROTOBUF, timeout=60)
        packed = await client.post(
            "/v1/redact/traces",
            content=gzip.compress(body, 1),
            headers=PROTOBUF | {"content-encoding": "gzip"},
            timeout=60,
        )
    assert answer.headers["x-otel-telemetry-items"] == "3000"
    assert MAIL.encode() not in answer.content
    found = ExportTraceServiceRequest.FromString(answer.content)
    spans = [span for group in found.resource_spans for scope in group.scope_spans for span in scope.spans]
    assert [span.name for span in spans] == [f"call {number} of [REDACTED_EMAIL]" for number in range(3000)]
    assert packed.content == answer.content


async def test_what_cannot_be_taken_is_told_and_the_rest_is_kept(
    redacting: Any, make_request: Callable[..., bytes]
) -> None:
    body = make_request("good", "without an id", ids=(b"\x01" * 8, b""))
    async with redacting() as client:
        answer = await client.post("/v1/redact/traces", content=body, headers=PROTOBUF)
    assert answer.headers["x-otel-telemetry-items"] == "1"
    assert answer.headers["x-otel-telemetry-rejected"] == "1"
    assert "spans[1].span_id" in answer.headers["x-otel-telemetry-problem"]
    assert b"without an id" not in answer.content


class Broken:
    """A redactor that fails on what it is asked for."""

    def redact(self, signal: str, body: bytes) -> Any:
        raise ValueError(body)


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("traces", b"no protobuf at all", PROTOBUF, 400),
        ("traces", b"{}", {"content-type": "application/json"}, 415),
        ("traces", b"", PROTOBUF | {"content-encoding": "zstd"}, 415),
        ("traces", gzip.compress(bytes(1 << 20), mtime=0), PROTOBUF | {"content-encoding": "gzip"}, 413),
        ("traces", bytes(1 << 20), PROTOBUF, 413),
        ("profiles", b"", PROTOBUF, 404),
    ],
)
async def test_what_can_never_succeed_is_refused_for_good(
    redacting: Any, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    async with redacting(max_body_bytes=1 << 16) as client:
        answer = await client.post(f"/v1/redact/{path}", content=body, headers=headers)
    assert answer.status_code == status
    assert "retry-after" not in answer.headers


async def test_nothing_comes_back_where_redaction_fails(redacting: Any, make_request: Callable[..., bytes]) -> None:
    async with redacting(engine=Broken()) as client:
        answer = await client.post("/v1/redact/traces", content=make_request(MAIL), headers=PROTOBUF)
        health = await client.get("/health")
    assert answer.status_code == 500
    assert MAIL.encode() not in answer.content
    assert health.status_code == 503


async def test_more_than_there_is_room_for_is_asked_to_come_again(redacting: Any, make_request: Any) -> None:
    body = make_request("x" * (600 << 10))
    async with redacting(max_pending_bytes=1 << 20) as client:
        halves = iter([body[:1000], body[1000:]])

        async def slowly() -> AsyncIterator[bytes]:
            yield next(halves)
            again = await client.post("/v1/redact/traces", content=body, headers=PROTOBUF)
            assert again.status_code == 429
            assert int(again.headers["retry-after"]) >= 1
            yield next(halves)

        first = await client.post("/v1/redact/traces", content=slowly(), headers=PROTOBUF)
    assert first.status_code == 200


async def test_a_port_asks_for_the_key_that_is_set(redacting: Any, make_request: Callable[..., bytes]) -> None:
    async with redacting(socket="-", api_keys=("ingest:k1", "read:k2")) as client:
        body = make_request("ask")
        answers = [
            (await client.post("/v1/redact/traces", content=body, headers=PROTOBUF | given)).status_code
            for given in ({}, {"x-api-key": "k2"}, {"x-api-key": "k1"})
        ]
    assert answers == [401, 403, 200]


def test_a_port_beyond_loopback_needs_a_key(redactor: OtlpRedactor) -> None:
    with pytest.raises(ConfigurationError, match="api_keys"):
        RedactorProcess(GatewaySettings(role="redact", socket="-", host="0.0.0.0", http_port=0), redactor)


# --- the socket -----------------------------------------------------------------------------------------------------
@contextmanager
def listening(name: str) -> Iterator[socket.socket]:
    made, remove = unix_socket.listen(name)
    with made:
        yield made
    remove()


def test_the_socket_is_for_its_user_alone_and_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "own" / "r.sock"
    with listening(str(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


def test_a_socket_that_nobody_answers_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "r.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with listening(str(path)):
        with pytest.raises(ConfigurationError, match="somebody listens"), listening(str(path)):
            pass
        assert path.is_socket()
    file = tmp_path / "notes"
    file.write_text("mine")
    with pytest.raises(ConfigurationError, match="no socket"), listening(str(file)):
        pass
    assert file.read_text() == "mine"
    with pytest.raises(ConfigurationError, match="shorter"), listening(str(tmp_path / ("x" * 120))):
        pass


# --- the command ----------------------------------------------------------------------------------------------------


class Command:
    """`otel-telemetry redactor` with two processes; each request has a connection of its own."""

    def __init__(self, folder: Path) -> None:
        self._socket, self._log = folder / "r.sock", folder / "log"
        command = [sys.executable, "-m", "otel_telemetry.cli", "redactor", "--socket", "r.sock", "--workers", "2"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=folder, stderr=log)

    def __enter__(self) -> Self:
        eventually(lambda: "redacting on" in self._log.read_text())
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        transport = httpx.HTTPTransport(uds=str(self._socket))
        with httpx.Client(transport=transport, base_url="http://localhost", timeout=20) as client:
            return client.request(method, path, **given).raise_for_status()

    def restarts(self) -> int:
        processes = self.ask("GET", "/health").json()["parts"]["processes"].values()
        assert len(processes) == 2
        return sum(one["restarts"] for one in processes if one["status"] == "ok")

    def kill_one(self) -> None:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)


def test_the_command_goes_on_where_a_process_is_killed_and_starts_after_a_kill(
    tmp_path: Path, make_request: Callable[..., bytes]
) -> None:
    body = make_request(MAIL)
    with Command(tmp_path) as one:
        one.kill_one()
        eventually(lambda: one.restarts() == 1)
        assert MAIL.encode() not in one.ask("POST", "/v1/redact/traces", content=body, headers=PROTOBUF).content
    assert (tmp_path / "r.sock").exists()
    with Command(tmp_path) as another:
        assert MAIL.encode() not in another.ask("POST", "/v1/redact/traces", content=body, headers=PROTOBUF).content
        another.process.terminate()
        assert another.process.wait(20) == 0
    assert not (tmp_path / "r.sock").exists()


def test_the_command_takes_a_socket_or_a_port(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "otel_telemetry.cli", "redactor", "--socket", "r.sock", "--http-port", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--socket" in done.stderr
