import asyncio
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import ValidationError

from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.serve.process import Gateway
from otel_telemetry.gateway.spool.reader import SpoolReader
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from tests.backends.process import free_port
from tests.waiting import eventually

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
SCRIPT = Path(__file__).with_name("serve_for_tests.py")
SENDERS = 4
HAS_IPV6 = socket.has_ipv6 and Path("/proc/net/if_inet6").exists()


@contextmanager
def process(spool_dir: Path, out: Any) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, int]]]:
    """Run a gateway in a process of its own; yield (process, ports)."""
    command = [sys.executable, str(SCRIPT), str(spool_dir), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=spool_dir.parent) as running:
        try:
            assert running.stdout
            yield running, json.loads(running.stdout.readline())
        finally:
            running.kill()


class Load:
    """Threads that send numbered spans, some over gRPC and some over HTTP, and note which were acknowledged."""

    def __init__(self, ports: dict[str, int], make_request: Any, attributes: dict[str, str] | None = None) -> None:
        self._attributes = attributes or {}
        self.acknowledged: set[bytes] = set()
        self._ports = ports
        self._make_request = make_request
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(SENDERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int) -> Any:
        end = time.monotonic() + 30
        while len(self.acknowledged) < count:
            assert time.monotonic() < end, "the gateway does not acknowledge"
            time.sleep(0.005)

    def _send(self, sender: int) -> Any:
        target = f"127.0.0.1:{self._ports['grpc']}"
        headers = {"content-type": "application/x-protobuf"}
        url = f"http://127.0.0.1:{self._ports['http']}/v1/traces"
        with grpc.insecure_channel(target) as channel, httpx.Client() as client:
            export = channel.unary_unary(TRACES, bytes, bytes)
            for number in range(1_000_000):
                if self._stop.is_set():
                    return
                ids = [((sender << 32) + number * 20 + n + 1).to_bytes(8, "big") for n in range(20)]
                body = self._make_request(
                    *["load"] * 20, ids=ids, note="mail bob@example.com " * 20, **self._attributes
                )
                try:
                    if sender % 2:
                        export(body, timeout=10)
                    else:
                        client.post(url, content=body, headers=headers, timeout=10).raise_for_status()
                except (grpc.RpcError, httpx.HTTPError):
                    return
                self.acknowledged.update(ids)


def span_ids(bodies: Iterable[bytes]) -> set[bytes]:
    return {
        span.span_id
        for body in bodies
        for group in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    }


def spooled(spool_dir: Path) -> list[bytes]:
    with SpoolReader(spool_dir) as reader:
        return [batch.body for batch in reader.batches()]


def test_kill_9_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path, make_request: Any) -> None:
    spool_dir, out = tmp_path / "spool", tmp_path / "out"
    out.mkdir()
    acknowledged: set[bytes] = set()
    bodies: list[bytes] = []
    for round_ in range(3):
        with process(spool_dir, out) as (running, ports), Load(ports, make_request) as load:
            load.wait_for(1500 * (round_ + 1))
            running.kill()
            running.wait(10)
        acknowledged |= load.acknowledged
        bodies = spooled(spool_dir)
        assert acknowledged <= span_ids(bodies)
    assert not any(b"bob@example.com" in body for body in bodies)
    with process(spool_dir, out) as (running, _):
        end = time.monotonic() + 30
        while not acknowledged <= span_ids(path.read_bytes() for path in out.iterdir()):
            assert time.monotonic() < end, "not everything was delivered after the restart"
            time.sleep(0.1)
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0


@contextmanager
def serve(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, int]]]:
    """Run the command that users run; yield (process, ports) once it is healthy."""
    ports = {"grpc": free_port(), "http": free_port()}
    command = [sys.executable, "-m", "otel_telemetry.cli", "serve"]
    command += ["--grpc-port", str(ports["grpc"]), "--http-port", str(ports["http"])]
    command += ["--db", f"sqlite:///{folder / 'rows.db'}", "--spool-dir", str(folder / "spool")]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) as running:
        try:
            eventually(lambda: is_healthy(ports["http"]), "it is healthy")
            yield running, ports
        finally:
            running.kill()


def is_healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
    except httpx.HTTPError:
        return False


def stored_calls(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "rows.db")) as connection:
        return [row[0] for row in connection.execute("SELECT span_id FROM llm_call")]


def test_serve_killed_under_load_has_a_row_for_every_acknowledged_model_call_after_a_restart(
    tmp_path: Path, make_request: Any
) -> None:
    call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "gen_ai.provider.name": "openai"}
    with serve(tmp_path) as (running, ports), Load(ports, make_request, call) as load:
        load.wait_for(1000)
        running.kill()
        running.wait(10)
    acknowledged = {span_id.hex() for span_id in load.acknowledged}
    with serve(tmp_path) as (running, _):
        eventually(lambda: acknowledged <= set(stored_calls(tmp_path)), "every acknowledged call has a row")
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
    stored = stored_calls(tmp_path)
    assert len(stored) == len(set(stored))


def test_sigterm_under_load_answers_what_is_under_way_delivers_it_and_exits_0(
    tmp_path: Path, make_request: Any
) -> None:
    spool_dir, out = tmp_path / "spool", tmp_path / "out"
    out.mkdir()
    with process(spool_dir, out) as (running, ports), Load(ports, make_request) as load:
        load.wait_for(2000)
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
    assert load.acknowledged <= span_ids(spooled(spool_dir))
    assert load.acknowledged <= span_ids(path.read_bytes() for path in out.iterdir())


def test_sigterm_with_a_sink_that_is_away_keeps_everything_in_the_spool(tmp_path: Path, make_request: Any) -> None:
    spool_dir = tmp_path / "spool"
    with process(spool_dir, "away") as (running, ports), Load(ports, make_request) as load:
        load.wait_for(500)
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
    assert load.acknowledged <= span_ids(spooled(spool_dir))
    with SpoolReader(spool_dir) as reader:
        assert (reader.status().lag["files"].items or 0) >= len(load.acknowledged)


def test_metrics_of_a_gateway_process_count_what_it_took_and_refused(tmp_path: Path, make_request: Any) -> None:
    spool_dir = tmp_path / "spool"
    with process(spool_dir, "away") as (_, ports):
        url = f"http://127.0.0.1:{ports['http']}"
        headers = {"content-type": "application/x-protobuf"}
        assert httpx.post(f"{url}/v1/traces", content=make_request("a", "b"), headers=headers).status_code == 200
        assert httpx.post(f"{url}/v1/logs", content=b"\x0a\xff", headers=headers).status_code == 400
        lines = httpx.get(f"{url}/metrics").text.splitlines()
    assert 'otel_telemetry_accepted_total{signal="traces"} 2.0' in lines
    assert 'otel_telemetry_refused_total{reason="malformed",signal="logs"} 1.0' in lines
    assert 'otel_telemetry_spool_lag_items{exporter="files"} 2.0' in lines


def test_a_second_signal_does_not_wait_for_a_sink_that_hangs(tmp_path: Path, make_request: Any) -> None:
    spool_dir = tmp_path / "spool"
    with process(spool_dir, "hang") as (running, ports), Load(ports, make_request) as load:
        load.wait_for(100)
        running.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert running.poll() is None, "it waits for the sink at first"
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 0
    assert load.acknowledged <= span_ids(spooled(spool_dir))


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("key", ["grpc_port", "http_port"])
async def test_a_port_in_use_stops_start_up_and_says_how_to_find_its_owner(
    tmp_path: Path, redactor: OtlpRedactor, sink: Any, key: str
) -> None:
    with taken_port() as port:
        ports = {"grpc_port": 0, "http_port": 0, key: port}
        config = GatewaySettings.model_validate({"spool_dir": tmp_path / "spool", **ports})
        gateway = Gateway(config, redactor, [sink])
        with pytest.raises(ConfigurationError) as refused:
            await gateway.start()
    assert refused.value.key == f"gateway.{key}"
    assert f"port {port} is in use" in refused.value.problem
    assert f"ss -ltnp 'sport = :{port}'" in refused.value.hint
    assert f"gateway.{key}" in refused.value.hint
    assert not (tmp_path / "spool").exists()


async def test_two_gateways_do_not_share_a_grpc_port_by_accident(
    running: Any, tmp_path: Path, redactor: OtlpRedactor
) -> None:
    config = GatewaySettings(grpc_port=running.gateway.grpc_port, http_port=0, spool_dir=tmp_path / "other")
    with pytest.raises(ConfigurationError, match="is in use"):
        await Gateway(config, redactor, []).start()


async def test_a_start_that_fails_leaves_nothing_running(tmp_path: Path, redactor: OtlpRedactor, sink: Any) -> None:
    (tmp_path / "file").write_text("in the way")
    before = threading.active_count()
    gateway = Gateway(GatewaySettings(grpc_port=0, http_port=0, spool_dir=tmp_path / "file"), redactor, [sink])
    with pytest.raises(ConfigurationError, match=r"gateway\.spool_dir"):
        await gateway.start()
    assert threading.active_count() == before


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_a_host_that_others_can_reach_needs_keys(host: str, redactor: OtlpRedactor) -> None:
    with pytest.raises(ConfigurationError, match="can be reached from other machines") as refused:
        Gateway(GatewaySettings(host=host), redactor, [])
    assert refused.value.key == "gateway.api_keys"


async def test_with_keys_any_host_will_do(serving: Any) -> None:
    async with serving(host="0.0.0.0", api_keys=("key",)) as running, httpx.AsyncClient() as client:
        assert (await client.get(f"{running.http}/health")).status_code == 200


async def test_localhost_and_ipv6_loopback_work_without_keys(serving: Any) -> None:
    async with serving(host="localhost") as running, httpx.AsyncClient() as client:
        assert (await client.get(f"http://localhost:{running.gateway.http_port}/health")).status_code == 200
    if HAS_IPV6:
        async with serving(host="::1") as running, httpx.AsyncClient() as client:
            assert (await client.get(f"http://[::1]:{running.gateway.http_port}/health")).status_code == 200


async def test_an_address_of_another_machine_names_the_setting(tmp_path: Path, redactor: OtlpRedactor) -> None:
    config = GatewaySettings(host="192.0.2.1", api_keys=("key",), spool_dir=tmp_path, grpc_port=0, http_port=0)
    with pytest.raises(ConfigurationError) as refused:
        await Gateway(config, redactor, []).start()
    assert refused.value.key == "gateway.host"


def test_a_spool_smaller_than_one_request_is_refused(redactor: OtlpRedactor) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Gateway(GatewaySettings(spool_max_bytes=1 << 20), redactor, [])
    assert refused.value.key == "gateway.spool_max_bytes"


@pytest.mark.parametrize("seconds", [0, float("inf"), float("nan")])
def test_a_stop_that_waits_for_ever_or_not_at_all_is_refused(seconds: float) -> None:
    with pytest.raises(ValidationError, match="shutdown_seconds"):
        GatewaySettings(shutdown_seconds=seconds)


async def test_stopping_with_an_idle_connection_on_each_port_does_not_wait_for_it(serving: Any) -> None:
    async with serving(shutdown_seconds=30) as running, httpx.AsyncClient() as client:
        assert (await client.get(f"{running.http}/health")).status_code == 200
        async with grpc.aio.insecure_channel(running.grpc) as channel:
            assert await channel.unary_unary(TRACES, bytes, bytes)(b"") == b""
            await asyncio.wait_for(running.gateway.stop(), 15)


async def test_stopping_finishes_the_requests_under_way_and_takes_no_new_ones(
    serving: Any, redactor: OtlpRedactor, make_request: Any, sink: Any
) -> None:
    entered = threading.Event()

    class Slow:
        def redact(self, signal_: Signal, body: bytes) -> Any:
            entered.set()
            time.sleep(0.3)
            return redactor.redact(signal_, body)

    async with serving(engine=Slow()) as running, httpx.AsyncClient() as client:
        headers = {"content-type": "application/x-protobuf"}
        url = f"{running.http}/v1/traces"
        sending = asyncio.create_task(client.post(url, content=make_request("one"), headers=headers))
        while not entered.is_set():  # noqa: ASYNC110 - it is set in a thread
            await asyncio.sleep(0.01)
        await running.gateway.stop()
        assert (await sending).status_code == 200
        with pytest.raises(httpx.ConnectError):
            await client.post(url, content=make_request("two"), headers=headers)
    assert sink.bodies == [make_request("one")]


async def test_a_signal_that_goes_nowhere_is_said_at_the_start_and_in_health(
    serving: Any, sink: Any, caplog: Any
) -> None:
    sink.signals, sink.max_bytes = frozenset({"traces", "logs"}), 1 << 20
    async with serving() as running, httpx.AsyncClient(base_url=running.http) as client:
        parts = (await client.get("/health")).json()
    assert parts["parts"]["signals_without_destination"] == ["metrics"]
    assert parts["status"] == "ok"
    assert "metrics are accepted and kept in the spool" in caplog.text


async def test_nothing_is_said_where_every_signal_has_a_destination(serving: Any, caplog: Any) -> None:
    async with serving() as running, httpx.AsyncClient(base_url=running.http) as client:
        assert "signals_without_destination" not in (await client.get("/health")).json()["parts"]
    assert "go nowhere" not in caplog.text
