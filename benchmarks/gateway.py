"""The gateway over OTLP/gRPC: spans/s and acknowledgement latency, against named baselines in the same run.

512 spans of about 1 kB a request, a quarter of them model calls with prompts, some with personal data, in traces of
four: a request, the model call that it makes, and two other calls. Every request brings new traces. The load comes from
another process, over six connections. `echo` is a bare grpc.aio server that answers without doing anything: the
ceiling. `spool` is the gateway with redaction switched off; `redact` redacts, too; `rows` also writes request_log rows
to SQLite: `0` with everything in one process, `1` and `2` with so many receivers beside one process that delivers;
`unsummed` is the same without rollups, to be compared with `rows` (they begin 15 seconds after the first row), and with
`page`, which also has the page beside the endpoints, and what stores the counts of redaction. The rows are of the
present; `late` is `page` with rows of one quarter of an hour that is past, which is summed up again and again;
`postgres` is the same with PostgreSQL, where that can be had; its own CPU time and memory are not measured apart.
`delivered` is how much of the load the sink has when the load is over, by second of it; `stored` the whole load over
the time until all of it is delivered. `memory` is the most that all processes of the gateway had together, shared pages
counted once (PSS); `CPU` their time for each span until all is delivered. A load that lasts also shows what was
acknowledged and stored in each half minute. Modes that are named more than once are measured in that order, without the
half load: so two of them are compared on a machine that is not quiet.
Run: python benchmarks/gateway.py [seconds for each [what ...]]
"""

import asyncio
import contextlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from benchmarks import course, moving_times
from otel_telemetry.base.destinations import Signal, Sink
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.rollup.thread import Rollups
from otel_telemetry.exporters.request_log.sink import RequestLogSink
from otel_telemetry.exporters.request_log.store.redactions import Redactions
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.receive.auth import Keys
from otel_telemetry.gateway.serve.group import WorkerContext
from otel_telemetry.gateway.serve.page import Insight, MakePage, Page
from otel_telemetry.gateway.serve.process import Gateway
from otel_telemetry.gateway.serve.supervisor import Supervisor
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.otlp.redactor import Clean, OtlpRedactor
from otel_telemetry.processors.otlp.slices import Slice
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.ui.access import Access
from otel_telemetry.ui.app import make_page
from otel_telemetry.ui.config import UiSettings
from otel_telemetry.ui.reading import Reading
from tests.backends import postgres

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
SPANS = 512
IN_TRACE = 4
TRACES = b"\xf5\xf6\xf7\xf8\xf9\xfa\xfb\xfc"  # how trace ids begin; no text contains it
SERVER, CLIENT = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT
IN_FLIGHT = 6
LATE_NS = 1_790_000_000_000_000_000
DRAIN_SECONDS = 120
MODES = ("echo", "spool", "redact", "rows 0", "rows 1", "rows 2", "postgres 1")
WITH_ROWS = ("rows", "unsummed", "page", "late", "postgres")
WITH_PAGE = ("page", "late")
PROMPT = (
    "Summarise the quarterly report for the board in five points. Keep the tone neutral, name the risks first, and say "
    "which figures are estimates. The audience knows the business but not the accounting. "
)


class NoRedaction:
    """What the gateway costs without redaction."""

    def redact(self, signal: Signal, body: bytes) -> Clean:
        """Pass everything on."""
        del signal
        return Clean(body, SPANS)

    def slices(self, signal: Signal, body: bytes) -> list[Slice]:
        """Cut nothing."""
        del signal
        return [Slice(body, 0, len(body), (0, 0, 0))]

    def count_items(self, body: bytes) -> int:
        """Count what every request here has."""
        del body
        return SPANS

    def add_to_resources(self, body: bytes, attributes: Mapping[str, bytes], charge: Callable[[int], object]) -> bytes:
        """Add nothing: none of its senders has headers for that."""
        del attributes, charge
        return body


class Discard:
    """A sink that takes everything."""

    name = "discard"

    def deliver(self, signal: Signal, bodies: Sequence[bytes]) -> None:
        """Forget them."""

    def close(self) -> None:
        """There is nothing to close."""


async def serve_echo() -> None:
    async def export(body: bytes, context: Any) -> bytes:
        del body, context
        return b""

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
    handler = grpc.unary_unary_rpc_method_handler(export)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Export": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


def leave(self: Rollups) -> None:
    """Sum nothing up."""
    del self


def serve(mode: str, folder: Path, url: str) -> None:
    if mode == "echo":
        asyncio.run(serve_echo())
        return
    what, _, workers = mode.partition(" ")
    config = GatewaySettings(
        grpc_port=free_port(), http_port=0, spool_dir=folder / "spool", shutdown_seconds=1, workers=int(workers or 0)
    )
    print(config.grpc_port, flush=True)
    if what == "unsummed":
        Rollups.written = leave  # type: ignore[method-assign]

    def make(own: GatewaySettings, worker: WorkerContext | None = None) -> Gateway:
        redactor = NoRedaction() if what == "spool" else OtlpRedactor(Redactor(RedactionSettings()))
        sinks: list[Sink] = []
        if own.role != "receive":
            sinks = [RequestLogSink(RequestLogSettings(url=url)) if what in WITH_ROWS else Discard()]
        if own.role == "deliver":
            return Gateway(own, None, sinks, worker=worker)
        page, counts = (page_over(url), Redactions(url)) if what in WITH_PAGE else (None, None)
        return Gateway(own, redactor, sinks, worker=worker, page=page, counts=counts)

    (Supervisor(config, make) if config.workers else make(config)).run()


def page_over(url: str) -> MakePage:
    """Return what makes the page beside the endpoints."""

    def make(keys: Keys, insight: Insight) -> Page:
        return make_page(Reading(url), RedactionSettings(), UiSettings(), Access(keys, b"secret"), insight)

    return make


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def make_request(seed: int, start_ns: int = LATE_NS) -> bytes:
    """Return one request of that time. Content differs by seed, in the same mix; its traces are new after `renewed`."""
    chance = random.Random(seed)  # noqa: S311 - a load, no secret
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "benchmark"
    spans = group.scope_spans.add().spans
    trace_id = root = b""
    for number in range(SPANS):
        span = spans.add(span_id=chance.randbytes(8), name=f"GET /items/{number}", kind=CLIENT)
        if number % IN_TRACE == 0:
            trace_id, root, span.kind = TRACES + chance.randbytes(8), span.span_id, SERVER
        else:
            span.parent_span_id = root
        span.trace_id = trace_id
        span.start_time_unix_nano = start_ns + number
        span.end_time_unix_nano = span.start_time_unix_nano + 2_000_000
        attributes = model_call(chance, number) if number % IN_TRACE == 1 else web_call(chance, number)
        for key, value in attributes.items():
            span.attributes.add(key=key).value.string_value = value
        if number % IN_TRACE == 1:
            span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = chance.randrange(100, 2_000)
            span.attributes.add(key="gen_ai.usage.output_tokens").value.int_value = chance.randrange(10, 500)
    return request.SerializeToString()


def renewed(body: bytes, start_ns: int | None = None) -> bytes:
    """Return the request with other trace ids, and its spans from `start_ns` on, where that is given."""
    first, *others = body.split(TRACES)
    fresh = os.urandom(len(TRACES) * len(others) // IN_TRACE)
    ids = (fresh[at : at + len(TRACES)] for at in range(0, len(fresh), len(TRACES)) for _ in range(IN_TRACE))
    found = first + b"".join(part for pair in zip(ids, others, strict=True) for part in pair)
    return found if start_ns is None else moving_times.moved(found, body, SPANS, start_ns)


def model_call(chance: random.Random, number: int) -> dict[str, str]:
    text = PROMPT * 3 + (f" Write to anna.{number}@example.com when done." if number % 16 == 1 else "")
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.id": f"chatcmpl-{chance.randbytes(8).hex()}",
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": text}]}]),
    }


def web_call(chance: random.Random, number: int) -> dict[str, str]:
    plain = {f"app.attribute.{n}": f"value {chance.randrange(10**9)} of item {number}" for n in range(18)}
    return plain | {"http.route": "/items/{id}", "url.path": f"/items/{number}", "server.address": "shop.internal"}


def load(port: int, seconds: float, pause: float, start_ns: int) -> None:
    """Send for some seconds and print spans/s, MB/s and the latencies in ms as JSON."""
    bodies = [make_request(seed, start_ns) for seed in range(8)]
    latencies: list[float] = []
    failures: list[str] = []
    end = time.perf_counter() + seconds

    def send(number: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
            export = channel.unary_unary(f"/{SERVICE}/Export", bytes, bytes)
            while time.perf_counter() < end:
                body = renewed(bodies[number % len(bodies)], None if start_ns == LATE_NS else time.time_ns())
                start = time.perf_counter()
                try:
                    export(body, timeout=120)  # a slow server has all of them at once
                except grpc.RpcError as error:
                    failures.append(str(error.code()))
                    continue
                number += 1
                latencies.append(time.perf_counter() - start)
                time.sleep(max(0.0, pause - latencies[-1]))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(IN_FLIGHT)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = len(latencies) * SPANS / (time.perf_counter() - start)
    cuts = statistics.quantiles(latencies, n=100)
    result = {
        "spans": rate,
        "sent": len(latencies) * SPANS,
        "mb": rate / SPANS * len(bodies[0]) / 1e6,
        "p50": cuts[49] * 1e3,
        "p99": cuts[98] * 1e3,
    }
    print(json.dumps(result | {"refused": len(failures)}))


def measure(mode: str, seconds: float, pause: float = 0.0) -> dict[str, float]:
    """Run a server and a load, each in a process of its own."""
    with tempfile.TemporaryDirectory(dir=".") as folder, contextlib.ExitStack() as stack:
        url = f"sqlite:///{folder}/rows.db"
        if mode.startswith("postgres"):
            url = stack.enter_context(postgres.running()).database()
        command = [sys.executable, __file__, "serve", mode, folder, url]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this very file
        try:
            port = int(server.stdout.readline()) if server.stdout else 0
            wait_for(port)
            with watched(server.pid) as memory, course.followed(Path(folder), memory) as stretches:
                start = time.perf_counter()
                result = under_load(port, seconds, pause, LATE_NS if mode.startswith("late") else time.time_ns())
                result["delivered"] = result["sent"] - course.counted(Path(folder))[1]
                while course.counted(Path(folder))[1] and time.perf_counter() < start + seconds + DRAIN_SECONDS:
                    time.sleep(0.02)
                drained = time.perf_counter() - start - seconds
            took = result["sent"] / result["spans"] + drained
            result |= {"stored": result["sent"] / took, "delivered": result["delivered"] / seconds}
            course.show(stretches)
            result |= {"memory": max(memory), "cpu": used_by(server.pid) / result["sent"] * 1e6}
        finally:
            server.terminate()
            server.wait()
            if server.stdout:
                server.stdout.close()
    return result


def under_load(port: int, seconds: float, pause: float = 0.0, start_ns: int = LATE_NS) -> dict[str, float]:
    """Load a server from a process of its own, and return what `load` says."""
    arguments = [sys.executable, __file__, "load", str(port), str(seconds), str(pause), str(start_ns)]
    done = subprocess.run(arguments, capture_output=True, check=True)  # noqa: S603 - this very file
    result: dict[str, float] = json.loads(done.stdout)
    return result


def wait_for(port: int) -> None:
    """Return once the port takes connections."""
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)


@contextlib.contextmanager
def watched(pid: int) -> Iterator[list[float]]:
    """Look at the memory of a process and all that it started, in MB, for as long as the block lasts."""
    memory, over = [0.0], threading.Event()
    watcher = threading.Thread(target=watch, args=(pid, memory, over))
    watcher.start()
    try:
        yield memory
    finally:
        over.set()
        watcher.join()


def watch(pid: int, seen: list[float], over: threading.Event) -> None:
    """Look at the memory of a process and all that it started, in MB, until it is over."""
    while not over.wait(0.5):
        with contextlib.suppress(OSError):
            seen.append(sum(pss(one) for one in family(pid)))


def family(pid: int) -> list[int]:
    """Return a process and all that it started, whichever of its threads did."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text(encoding="ascii").split()]
    return [pid, *(one for child in children for one in family(child))]


def used_by(pid: int) -> float:
    """Return the CPU seconds of a process, of all that it has running, and of what ended."""
    if not pid:
        return 0.0
    with contextlib.suppress(OSError):  # one ended meanwhile: then it is counted with its parent
        return sum(_ticks(one, 4 if one == pid else 2) for one in family(pid)) / os.sysconf("SC_CLK_TCK")
    return used_by(pid)


def _ticks(pid: int, fields: int) -> int:
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return sum(map(int, stat[11 : 11 + fields]))  # user, system; of children that ended, user, system
    return 0


def pss(pid: int) -> float:
    """Return the memory of a process in MB, with its share of what it shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def show(name: str, result: dict[str, float], ceiling: float) -> None:
    print(
        f"{name:>17} {result['spans']:>10.0f} {result['mb']:>7.0f} {result['spans'] / ceiling:>8.2f}"
        f" {result['p50']:>8.1f} {result['p99']:>8.1f} {result['refused']:>8}"
        f" {result['delivered']:>11.0f} {result['stored']:>9.0f} {result['memory']:>10.0f} {result['cpu']:>7.1f}"
    )


def main(seconds: float, modes: Sequence[str]) -> None:
    columns = f"{'what':>17} {'spans/s':>10} {'MB/s':>7} {'of first':>8} {'p50 ms':>8} {'p99 ms':>8} {'refused':>8}"
    print(columns + f" {'delivered/s':>11} {'stored/s':>9} {'memory MB':>10} {'CPU us':>7}")
    results: dict[str, dict[str, float]] = {}
    for mode in modes:
        results[mode] = measure(mode, seconds)
        show(mode, results[mode], results[modes[0]]["spans"])
    if len(results) < len(modes):
        return
    for mode in (one for one in modes if one.startswith(WITH_ROWS)):
        half = IN_FLIGHT * SPANS / (results[mode]["spans"] / 2)
        show(f"{mode}, half load", measure(mode, seconds, half), results[modes[0]]["spans"])


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", mode, folder, url]:
            serve(mode, Path(folder), url)
        case ["load", port, seconds, pause, start_ns]:
            load(int(port), float(seconds), float(pause), int(start_ns))
        case rest:
            main(float(rest[0]) if rest else 10.0, rest[1:] or MODES)
