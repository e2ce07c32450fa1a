"""What forwarding costs the gateway: CPU time per span of its process, against the same without, in one run.

The same number of requests (512 spans of about 1 kB, as benchmarks/gateway.py makes them) is sent over OTLP/gRPC to a
gateway that redacts and keeps them. `receive` delivers to a sink that forgets: the receive path. Each other shape
forwards all of it to a receiver in another process that answers without doing anything. CPU time is what the
gateway's process used, from the first request until all is delivered; rounds take turns, and the median counts.
Then the rate at which a backlog goes out, and the CPU time of that alone: a surer figure of what forwarding adds, where
the machine is busy with other things too.
Run: PYTHONPATH=. python benchmarks/forward.py [requests a round] [rounds]
"""

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc

from benchmarks import gateway as shapes
from otel_telemetry.base.destinations import Sink
from otel_telemetry.exporters.otlp.config import ForwardSettings
from otel_telemetry.exporters.otlp.sink import ForwardSink
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.serve.process import Gateway
from otel_telemetry.gateway.spool.reader import SpoolReader
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.redactor import Redactor

MODES = ("receive", "grpc none", "grpc gzip", "http none", "http gzip")
IN_FLIGHT = 3
TICKS = os.sysconf("SC_CLK_TCK")


class Taker(BaseHTTPRequestHandler):
    """Takes every request and says so."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Read what was sent, and say that it was taken."""
        left = int(self.headers["content-length"])
        while left:
            left -= len(self.rfile.read(min(left, 1 << 20)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def take(protocol: str) -> None:
    """Serve a receiver that answers without doing anything; print its port."""
    if protocol == "grpc":
        asyncio.run(shapes.serve_echo())
        return
    server = ThreadingHTTPServer(("127.0.0.1", 0), Taker)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def serve(mode: str, port: str, folder: str) -> None:
    """Run the gateway; print its port."""
    sink: Sink = shapes.Discard()
    if mode != "receive":
        protocol, compression = mode.split()
        given = {"endpoint": f"http://127.0.0.1:{port}", "protocol": protocol, "compression": compression}
        name = f"forward.{protocol}-{compression}"
        sink = ForwardSink(name, ForwardSettings.model_validate(given), name)
    redactor = OtlpRedactor(Redactor(RedactionSettings()))
    config = GatewaySettings(
        grpc_port=0, http_port=0, spool_dir=Path(folder), spool_max_bytes=8 << 30, shutdown_seconds=1
    )
    made = Gateway(config, redactor, [sink])

    def announce() -> None:
        while not made.http_port:
            time.sleep(0.01)
        print(made.grpc_port, flush=True)

    threading.Thread(target=announce, daemon=True).start()
    made.run()


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run this file with arguments; yield the process and the port that it prints."""
    command = [sys.executable, __file__, *arguments]
    devnull = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=devnull, text=True) as process:  # noqa: S603 - this file
        try:
            yield process, int(process.stdout.readline()) if process.stdout else 0
        finally:
            process.terminate()
            process.wait()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, its threads included, and those of its children that ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def measure(mode: str, requests: int) -> float:
    """Send the requests and return the gateway's CPU time per span, in microseconds."""
    with contextlib.ExitStack() as parts:
        folder = parts.enter_context(tempfile.TemporaryDirectory())
        port = parts.enter_context(running("take", mode.split(maxsplit=1)[0]))[1] if mode != "receive" else 0
        process, own = parts.enter_context(running("serve", mode, str(port), folder))
        send(own, 4)
        until_delivered(Path(folder))
        before = cpu_seconds(process.pid)
        send(own, requests)
        until_delivered(Path(folder))
        used = cpu_seconds(process.pid) - before
        return used / (requests * shapes.SPANS) * 1e6


def drain(mode: str, folder: str) -> tuple[float, float]:
    """Forward what is in the spool, with nothing coming in; return spans a second, and CPU time per span in us."""
    name = f"forward.{mode.replace(' ', '-')}"
    with contextlib.ExitStack() as parts:
        port = parts.enter_context(running("take", mode.split(maxsplit=1)[0]))[1]
        process, _ = parts.enter_context(running("serve", mode, str(port), folder))
        reader = parts.enter_context(SpoolReader(Path(folder)))
        left = total = reader.status().lag[name].items or 0
        began, spans, used = time.perf_counter(), left, cpu_seconds(process.pid)
        while left:
            if spans == total:  # it has not begun yet
                began, spans, used = time.perf_counter(), left, cpu_seconds(process.pid)
            time.sleep(0.005)
            left = reader.status().lag[name].items or 0
        return spans / (time.perf_counter() - began), (cpu_seconds(process.pid) - used) / spans * 1e6


def fill(folder: str, requests: int) -> None:
    """Put so many requests into a spool."""
    with running("serve", "receive", "0", folder) as (_, port):
        send(port, requests)


def send(port: int, requests: int) -> None:
    """Send so many requests, a few at a time; each must be acknowledged."""
    bodies = [shapes.make_request(seed) for seed in range(4)]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, ThreadPoolExecutor(IN_FLIGHT) as pool:
        export = channel.unary_unary(f"/{shapes.SERVICE}/Export", bytes, bytes)
        list(pool.map(lambda number: export(bodies[number % len(bodies)], timeout=60), range(requests)))


def until_delivered(folder: Path) -> None:
    """Wait until the sink has everything."""
    with SpoolReader(folder) as reader:
        while any(lag.batches for lag in reader.status().lag.values()):
            time.sleep(0.05)


def main(requests: int, rounds: int) -> None:
    """Measure every shape in turn, and print what each adds."""
    results: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(rounds):
        for mode, found in results.items():
            found.append(measure(mode, requests))
    base = statistics.median(results["receive"])
    print(f"{rounds} rounds of {requests} requests, {shapes.SPANS} spans each; CPU time of the gateway's process")
    for mode, found in results.items():
        here = statistics.median(found)
        added = f"{(here / base - 1) * 100:+6.1f} %" if mode != "receive" else ""
        print(f"  {mode:10} {here:6.2f} us a span ({min(found):.2f} to {max(found):.2f})  {added}")
    print(f"a backlog of {requests * rounds} requests, one destination at a time")
    with tempfile.TemporaryDirectory() as folder:
        fill(folder, requests * rounds)
        for mode in MODES[1:]:
            rate, cost = drain(mode, folder)
            print(
                f"  {mode:10} {rate:9,.0f} spans/s, {cost:5.2f} us CPU a span ({cost / base * 100:4.1f} % of receive)"
            )


def dispatch(arguments: Sequence[str]) -> None:
    """Run a part, or measure."""
    match arguments:
        case ["take", protocol]:
            take(protocol)
        case ["serve", mode, port, folder]:
            serve(mode, port, folder)
        case _:
            main(*(int(given) for given in (*arguments, *("150", "3")[len(arguments) :])))


if __name__ == "__main__":
    dispatch(sys.argv[1:])
