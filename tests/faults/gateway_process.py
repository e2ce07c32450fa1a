"""A gateway as users run it, and senders that know what it acknowledged: what the fault tests are made of.

Each request is one trace: a server span and some model calls, all of them with ids that say who sent them. So each
acknowledged request has to end as one row of request_log and its calls as rows of llm_call, and tokens that are counted
twice show in the sums.
"""

import itertools
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import grpc
import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
CALLS = 4
TOKENS = 10
TEXT = "Write to anna@example.com. " * 8
_CHANNEL = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
]
#: Of what the OTLP specification calls retryable, what a gateway that is full or going away may say.
_RETRYABLE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
MEMORY_LIMIT = 400 * 1024 * 1024


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def eventually(check: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, f"it never came true: {what}"
        time.sleep(0.05)
    return found


class GatewayProcess:
    """`otel-telemetry serve` on free ports, in a folder of its own. `metrics` and `health` ask it."""

    def __init__(self, folder: Path, *options: str, url: str = "", env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.url = url or f"sqlite:///{folder / 'rows.db'}"
        self.grpc, self.http = free_port(), free_port()
        self.spool = folder / "spool"
        self._options = options
        self._env = {**os.environ, "OTEL_TELEMETRY_GATEWAY__SHUTDOWN_SECONDS": "5", **(env or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.peak = 0

    def start(self, *, wait: bool = True) -> Self:
        command = [sys.executable, "-m", "otel_telemetry.cli", "serve", "--db", self.url, *self._options]
        command += ["--grpc-port", str(self.grpc), "--http-port", str(self.http), "--spool-dir", str(self.spool)]
        with (self.folder / "said").open("ab") as said:
            self.process = subprocess.Popen(command, cwd=self.folder, stderr=said, stdout=said, env=self._env)
        if wait:
            eventually(self.healthy, "the gateway is healthy")
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def restart(self) -> None:
        self.start()

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    # --- looking at it ----------------------------------------------------------------------------------------------
    def healthy(self) -> bool:
        assert self.process
        assert self.process.poll() is None, f"it ended: {self.said[-2000:]}"
        try:
            return httpx.get(f"http://127.0.0.1:{self.http}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def health(self) -> Any:
        return httpx.get(f"http://127.0.0.1:{self.http}/health", timeout=5).json()

    def metrics(self) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        """Return all samples, by name and labels."""
        found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        text = httpx.get(f"http://127.0.0.1:{self.http}/metrics", timeout=10).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return found

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of a metric over all series with these labels."""
        series = self.metrics().get(name, {})
        return sum(value for has, value in series.items() if labels.items() <= dict(has).items())

    def processes(self) -> dict[str, int]:
        """Return the pids of the group, by the order of their start: the receivers, then the one that delivers."""
        assert self.process
        pid = self.process.pid
        children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return {f"child-{number}": child for number, child in enumerate(sorted(children))}

    def deliverer(self) -> int:
        """Return the pid of the process that delivers: it has no TCP port."""
        (found,) = [pid for pid in self.processes().values() if not _listens(pid, {self.grpc, self.http})]
        return found

    def receivers(self) -> list[int]:
        return [pid for pid in self.processes().values() if _listens(pid, {self.grpc})]

    def memory(self) -> int:
        """Return the bytes of all processes, shared pages counted once; the most that was seen is kept in `peak`."""
        assert self.process
        pids = [self.process.pid, *self.processes().values()]
        self.peak = max(self.peak, sum(_pss(pid) for pid in pids))
        return self.peak

    def lag(self, exporter: str = "request_log") -> float:
        return self.total("otel_telemetry_spool_lag_items", exporter=exporter)

    def delivered(self, exporter: str = "request_log", seconds: float = 60.0) -> None:
        """Wait until the exporter has everything."""
        eventually(lambda: self.healthy() and self.lag(exporter) == 0, f"{exporter} has everything", seconds)

    def spool_command(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "otel_telemetry.cli", "spool", *arguments, "--spool-dir", str(self.spool)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


def _listens(pid: int, ports: set[int]) -> bool:
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(str(descriptor.readlink()))
        except FileNotFoundError:
            continue
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]
    for line in lines:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].split(":")[1], 16) in ports and f"socket:[{fields[9]}]" in sockets:
            return True
    return False


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


class Load:
    """Threads that send, half of them over gRPC, half over HTTP; each goes on after whatever happens.

    `acknowledged` are the trace ids that were answered with success; `refused` counts answers that ask for a retry.
    """

    def __init__(self, gateway: GatewayProcess, senders: int = 4, pause: float = 0.0, text: str = TEXT) -> None:
        self._gateway = gateway
        self._pause = pause
        self._text = text
        self.acknowledged: set[bytes] = set()
        self.refused = 0
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(1, senders + 1)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int, seconds: float = 60.0) -> None:
        """Wait until so many more requests are acknowledged."""
        wanted = len(self.acknowledged) + count
        eventually(lambda: len(self.acknowledged) >= wanted, f"{count} more requests are acknowledged", seconds)

    def _run(self, sender: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{self._gateway.grpc}", _CHANNEL) as channel, httpx.Client() as client:
            export = channel.unary_unary(EXPORT, bytes, bytes)
            send = partial(self._over_grpc, export) if sender % 2 else partial(self._over_http, client)
            for number in itertools.count():
                if self._stop.is_set():
                    return
                trace_id = os.urandom(8) + sender.to_bytes(4, "big") + number.to_bytes(4, "big")
                if send(make_request(trace_id, self._text)):
                    self.acknowledged.add(trace_id)
                elif self._stop.wait(0.05):
                    return
                if self._pause:
                    self._stop.wait(self._pause)

    def _over_grpc(self, export: Callable[..., bytes], body: bytes) -> bool:
        try:
            export(body, timeout=10)
        except grpc.RpcError as error:
            self._note(error.code() in _RETRYABLE, str(error.code()))
            return False
        return True

    def _over_http(self, client: httpx.Client, body: bytes) -> bool:
        url = f"http://127.0.0.1:{self._gateway.http}/v1/traces"
        try:
            answer = client.post(url, content=body, headers={"content-type": "application/x-protobuf"}, timeout=10)
        except httpx.HTTPError as error:
            self._note(True, type(error).__name__)
            return False
        self._note(answer.status_code in (200, 429, 503), str(answer.status_code), answer.status_code != 200)
        return answer.status_code == 200

    def _note(self, passing: bool, what: str, count: bool = True) -> None:
        if not passing:
            self.failed.append(what)
        elif count:
            self.refused += 1


def make_request(trace_id: bytes, text: str = TEXT) -> bytes:
    """Return one trace: a request and its model calls, with personal data in it."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "faults"
    spans = group.scope_spans.add().spans
    now = time.time_ns()
    root = spans.add(trace_id=trace_id, span_id=trace_id[8:], name="POST /ask", kind=Span.SPAN_KIND_SERVER)
    root.attributes.add(key="request_log.route").value.string_value = "faults"
    for number in range(CALLS):
        call = spans.add(trace_id=trace_id, span_id=call_id(trace_id, number), parent_span_id=root.span_id, name="chat")
        call.kind = Span.SPAN_KIND_CLIENT
        for key, value in _CALL.items():
            call.attributes.add(key=key).value.string_value = value
        call.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = TOKENS
        call.attributes.add(key="note").value.string_value = text
    for span in spans:
        span.start_time_unix_nano, span.end_time_unix_nano = now, now + 1_000_000
    return request.SerializeToString()


_CALL = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "gen_ai.provider.name": "openai"}


def call_id(trace_id: bytes, number: int) -> bytes:
    return trace_id[8:13] + (int.from_bytes(trace_id[13:], "big") * 8 + number + 1).to_bytes(4, "big")[1:]


@contextmanager
def rows(url: str) -> Iterator[Any]:
    """Yield `query(sql)` on the database of the rows."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            yield lambda sql: connection.execute(sql).fetchall()
        return
    import psycopg

    with psycopg.connect(url) as postgres:
        yield lambda sql: postgres.execute(sql).fetchall()


def check_rows(gateway: GatewayProcess, acknowledged: set[bytes]) -> int:
    """Hold the rows against what was acknowledged: all of it is there, none twice. Return the items in rows."""
    with rows(gateway.url) as query:
        requests = query("SELECT trace_id, llm_calls, prompt_tokens FROM request_log")
        calls = query("SELECT trace_id, span_id FROM llm_call")
    assert acknowledged, "nothing was acknowledged: the test shows nothing"
    missing = {trace_id.hex() for trace_id in acknowledged} - {row[0] for row in requests}
    assert not missing, f"{len(missing)} of {len(acknowledged)} acknowledged requests have no row"
    assert len(requests) == len({row[0] for row in requests}), "a request has two rows"
    assert len(calls) == len(set(calls)), "a model call has two rows"
    wrong = [row for row in requests if (row[1], row[2]) != (CALLS, CALLS * TOKENS)]
    assert not wrong, f"calls or tokens were lost or counted twice: {wrong[:3]}"
    return len(requests) + len(calls)


def check_truth(gateway: GatewayProcess, stored: int, exporter: str = "request_log") -> None:
    """Hold the metrics against the rows: acknowledged = stored + dead letters + waiting + dropped, nothing else."""
    appended = gateway.total("otel_telemetry_spool_items_total")
    waiting = gateway.lag(exporter)
    dead = gateway.total("otel_telemetry_spool_dead_letter_items", exporter=exporter)
    missed = gateway.total("otel_telemetry_spool_missed_items_total", exporter=exporter)
    assert appended == stored + dead + waiting + missed, (appended, stored, dead, waiting, missed)


def check(gateway: GatewayProcess, load: Load) -> None:
    """Wait until all is delivered, then hold everything against what was acknowledged."""
    gateway.memory()
    gateway.delivered()
    stored = check_rows(gateway, load.acknowledged)
    check_truth(gateway, stored)
    assert gateway.total("otel_telemetry_spool_dead_letter_items") == 0
    assert not load.failed, f"answers that no sender would retry: {set(load.failed)}"
    assert gateway.memory() < MEMORY_LIMIT
    assert "anna@example.com" not in json.dumps(gateway.spool_command("cat"))
