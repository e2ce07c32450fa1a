"""Two processes that write rows to one PostgreSQL, against one process: in the same run, one after the other.

    python benchmarks/scale.py [bodies] [rounds]

Bodies are those of benchmarks/gateway.py: 512 spans of 1 kB each, in traces of four, a quarter of them model calls. One
writer gets all bodies; of two, each gets half of them, as two gateways would. Wall time ends with the last. CPU time of
writers and of the server is shown apart: where fewer cores are free than processes are busy, wall time tells of the
machine, CPU time of the program. `alone` is what the writers take when they have to wait for each other, as one lock
for the whole database made them.
"""

import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import forward, gateway
from benchmarks.request_log import CHUNK, new_bodies
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import postgres as locks
from otel_telemetry.exporters.request_log.sink import RequestLogSink
from tests.backends import postgres

Server = postgres.PostgresServer


def write(url: str, bodies: list[bytes], orders: Connection, *, alone: bool) -> None:
    """Write bodies once the parent says so; send the seconds of CPU that it took."""
    if alone:
        locks.sharing = lambda engine: engine
    sink = RequestLogSink(RequestLogSettings(url=url, writers=1))
    sink.deliver("traces", new_bodies(1))
    orders.send(None)
    orders.recv()
    busy = time.process_time()
    for at in range(0, len(bodies), CHUNK // 2):
        sink.deliver("traces", bodies[at : at + CHUNK // 2])
    orders.send(time.process_time() - busy)
    sink.close()


def measure(server: Server, bodies: list[bytes], writers: int, *, alone: bool) -> tuple[float, float, float]:
    """Return seconds of wall time, of the writers' CPU and of the server's."""
    url, context = server.database(), multiprocessing.get_context("spawn")
    RequestLogSink(RequestLogSettings(url=url, writers=1)).close()
    ends, processes = [], []
    for number in range(writers):
        ours, theirs = context.Pipe()
        process = context.Process(target=write, args=(url, bodies[number::writers], theirs), kwargs={"alone": alone})
        process.start()
        ends.append(ours)
        processes.append(process)
    for end in ends:
        end.recv()
    before, start = server_seconds(server), time.perf_counter()
    for end in ends:
        end.send(None)
    busy = sum(end.recv() for end in ends)
    seconds, served = time.perf_counter() - start, server_seconds(server) - before
    for process in processes:
        process.join()
    return seconds, busy, served


def server_seconds(server: Server) -> float:
    """Return the CPU time of the server's processes that are there; measured while its clients are connected."""
    process: Any = server._process  # noqa: SLF001
    return sum(forward.cpu_seconds(pid) for pid in gateway.family(process.pid))


KINDS: dict[str, tuple[int, bool]] = {"one writer": (1, False), "two writers": (2, False), "two, alone": (2, True)}


def main() -> None:
    count, rounds = (int(each) for each in (sys.argv[1:] + ["96", "3"][len(sys.argv) - 1 :])[:2])
    found: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in KINDS}
    with postgres.running() as server:
        for _ in range(rounds):
            for kind, (writers, alone) in KINDS.items():
                found[kind].append(measure(server, new_bodies(count), writers, alone=alone))
    spans = count * gateway.SPANS
    table = Table(
        *("PostgreSQL", "spans/s", "against one, median of rounds", "µs a span, writers", "µs a span, server")
    )
    for kind, times in found.items():
        ratio = middle([one[0] / own[0] for one, own in zip(found["one writer"], times, strict=True)])
        wall, busy, served = (middle([each[column] for each in times]) for column in range(3))
        table.add_row(
            *(kind, f"{spans / wall:,.0f}", f"{ratio:.2f} x"),
            *(f"{busy / spans * 1e6:.1f}", f"{served / spans * 1e6:.1f}"),
        )
    Console().print(table)


def middle(values: list[Any]) -> Any:
    return sorted(values)[len(values) // 2]


if __name__ == "__main__":
    main()
