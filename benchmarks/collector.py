"""The gateway beside the OpenTelemetry Collector with its redaction processor: speed, CPU time, and what gets through.

The load is that of benchmarks/gateway.py: OTLP/gRPC, six connections, 512 spans of about 1 kB a request, a quarter of
them model calls, some with an e-mail address. Five servers take turns on the same two cores, each started anew:

  gateway     `otel-telemetry serve` as users run it: all rules, every field, acknowledged when on disk, rows in SQLite
  collector   the Collector, redactionprocessor with the same patterns, then nothing: what it could do at best
  durable     the same, but acknowledged when on disk (file_storage with fsync), then sent to an OTLP server
  bare        like `collector`, with no pattern at all: what is left where redaction costs nothing
  component   the Collector with the processor of collector/ instead of its own, then nothing; CPU s counts
              `otel-telemetry redactor` beside it, memory does not

The patterns are our rules as RE2 takes them (benchmarks/collector_rules.py; --rules prints them), each one a
`blocked_values`: in one alternation they take Go several times as long. Our validators and names have no counterpart in
the processor, so no value is planted that only those find. It takes attributes of resources, scopes, spans and events;
the second table shows what that leaves (--no-leaks skips it).

  spans/s     acknowledged while under load            stored/s   the same until all of it was delivered, too
  CPU s       CPU seconds of all processes of the server for 100,000 spans, delivery included: read this one on a busy
              machine. The load and the OTLP server behind `durable` are not counted, but have the same two cores.
  memory      the most that its processes had together, MB (PSS)

The Collector is built at the first run, outside of the repository, with Go 1.25; without Go this benchmark says so.

Examples:
  PYTHONPATH=. python benchmarks/collector.py                         all of it, in about two minutes
  PYTHONPATH=. python benchmarks/collector.py --seconds 20 --rounds 5 for a figure to quote
  PYTHONPATH=. python benchmarks/collector.py --rules                 what the Collector is given, and what is left out

"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import grpc

from benchmarks import collector_leaks as leaks
from benchmarks import forward
from benchmarks import gateway as shapes
from benchmarks.collector_rules import Translation, translated
from otel_telemetry.gateway.spool.reader import SpoolReader
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact.insight import active_rules
from tests.backends import builds
from tests.backends.observability import fetch
from tests.backends.process import Process, free_port
from tests.backends.redactor import Redactor

CORES: Final = 2
_DRAIN_SECONDS: Final = 60.0
_WARM_UP: Final = 6


class Gateway(Process):
    """`otel-telemetry serve` with its defaults."""

    def __init__(self, folder: Path) -> None:
        self.port, http = free_port(), free_port()
        self._spool = folder / "spool"
        command: list[str | Path] = [Path(sys.executable).with_name("otel-telemetry"), "serve"]
        command += ["--grpc-port", str(self.port), "--http-port", str(http)]
        command += ["--spool-dir", self._spool, "--db", f"sqlite:///{folder / 'rows.db'}"]
        secret = {"OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET": "ab" * 32}
        super().__init__(command, folder, f"http://127.0.0.1:{http}/health", {**os.environ, **secret})

    def pids(self) -> list[int]:
        """Return all processes that do its work."""
        return shapes.family(self.pid)

    def undelivered(self) -> int:
        """Return how many spans are acknowledged, but in no row yet."""
        with SpoolReader(self._spool) as spool:
            return max(lag.items or 0 for lag in spool.status().lag.values())

    def output(self) -> list[bytes]:
        """Return every stored body, as it would be handed on."""
        with SpoolReader(self._spool) as spool:
            return [batch.body for batch in spool.batches()]


class Collector(Process):
    """The Collector that redacts and forgets, or (with an OTLP server to send to) keeps on disk and sends."""

    def __init__(self, folder: Path, program: Path, patterns: Sequence[str], to: int = 0) -> None:
        self.port, self._own = free_port(), free_port()
        self._sends = bool(to)
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "config.json"  # YAML, too
        config.write_text(json.dumps(self._config(self._processors(folder, patterns), folder / "queue", to)))
        super().__init__([program, "--config", config], folder, f"http://127.0.0.1:{self._own}/metrics")

    def start(self) -> None:
        """Return once its receiver answers: its metrics are there before."""
        super().start()
        shapes.wait_for(self.port)

    def close(self) -> None:
        """End it at once: in order it would first redact what it has in hand, which may take longer than the load."""
        self.kill()

    def pids(self) -> list[int]:
        """Return all processes that do its work."""
        return shapes.family(self.pid)

    @staticmethod
    def _processors(folder: Path, patterns: Sequence[str]) -> dict[str, dict[str, object]]:
        del folder
        escaped = [pattern.replace("$", "$$") for pattern in patterns]  # its files may refer to variables
        return {"redaction": {"allow_all_keys": True, "redact_all_types": True, "blocked_values": escaped}}

    def _config(self, processors: dict[str, dict[str, object]], queue: Path, to: int) -> dict[str, object]:
        sending = {
            "endpoint": f"127.0.0.1:{to}",
            "tls": {"insecure": True},
            "compression": "none",
            "sending_queue": {"storage": "file_storage", "sizer": "items", "queue_size": 10_000_000},
        }
        receiver = {"endpoint": f"127.0.0.1:{self.port}", "max_recv_msg_size_mib": 64}
        reader = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": self._own}}}}
        exporter = "otlp_grpc" if to else "nop"
        return {
            "receivers": {"otlp": {"protocols": {"grpc": receiver}}},
            "processors": processors,
            "exporters": {exporter: sending if to else {}},
            "extensions": {"file_storage": {"directory": str(queue), "create_directory": True, "fsync": True}},
            "service": {
                "extensions": ["file_storage"] if to else [],
                "pipelines": {
                    "traces": {"receivers": ["otlp"], "processors": list(processors), "exporters": [exporter]}
                },
                "telemetry": {"metrics": {"readers": [reader]}, "logs": {"level": "warn"}},
            },
        }

    def undelivered(self) -> int:
        """Return how many spans are acknowledged, but not sent yet."""
        return int(self._count("receiver_accepted_spans") - self._count("exporter_sent_spans")) if self._sends else 0

    def _count(self, name: str) -> float:
        lines = fetch(f"http://127.0.0.1:{self._own}/metrics").decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"otelcol_{name}"))


class Component(Collector):
    """The Collector with our processor, and the redactor that it asks."""

    def __init__(self, folder: Path, program: Path) -> None:
        self._redactor = Redactor(folder)
        super().__init__(folder, program, [])

    @staticmethod
    def _processors(folder: Path, patterns: Sequence[str]) -> dict[str, dict[str, object]]:
        del patterns
        return {"otel_telemetry": {"endpoint": f"unix://{folder / 'r.sock'}"}}

    def start(self) -> None:
        """Start both."""
        self._redactor.start()
        super().start()

    def pids(self) -> list[int]:
        """Return the processes of both."""
        return [*super().pids(), *shapes.family(self._redactor.pid)]

    def close(self) -> None:
        """End both."""
        super().close()
        self._redactor.close()


Server = Gateway | Collector
Make = Callable[[Path], Server]


@contextlib.contextmanager
def started(make: Make) -> Iterator[Server]:
    """Run a server in a folder of its own on this disk (/tmp may be memory, where nothing has to be synced)."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        server = make(Path(folder).resolve())
        server.start()
        try:
            yield server
        finally:
            server.close()


def measure(make: Make, seconds: float) -> dict[str, float]:
    """Start a server, load it, wait until it has delivered, and return what that took."""
    with started(make) as server:
        forward.send(server.port, _WARM_UP)
        wait_until_delivered(server)
        before = cpu_seconds(server)
        with shapes.watched(server.pid) as memory:
            result = shapes.under_load(server.port, seconds)
            over = time.perf_counter()
            wait_until_delivered(server)
            drained = time.perf_counter() - over
        used = cpu_seconds(server) - before
        stored = result["sent"] / (result["sent"] / result["spans"] + drained)
        return result | {"stored": stored, "cpu": used / result["sent"] * 1e5, "memory": max(memory)}


def wait_until_delivered(server: Server) -> None:
    """Wait until everything that was acknowledged is delivered."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    while left := server.undelivered():
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{left} spans are not delivered after {_DRAIN_SECONDS:.0f} s:\n{server.logged()[-2000:]}"
            )
        time.sleep(0.05)


def cpu_seconds(server: Server) -> float:
    """Return the CPU time of all processes of a server."""
    return sum(forward.cpu_seconds(pid) for pid in server.pids())


@contextlib.contextmanager
def keeping() -> Iterator[tuple[int, list[bytes]]]:
    """Run an OTLP server that keeps what it gets; yield its port and the bodies."""
    bodies: list[bytes] = []

    def export(body: bytes, context: grpc.ServicerContext) -> bytes:
        del context
        bodies.append(body)
        return b""

    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", 64 << 20)])
    handler = grpc.method_handlers_generic_handler(
        shapes.SERVICE, {"Export": grpc.unary_unary_rpc_method_handler(export)}
    )
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port, bodies
    finally:
        server.stop(grace=None).wait()


def passed(server: Server, requests: Sequence[bytes], output: Sequence[bytes]) -> list[bytes]:
    """Send requests one by one, and return what came out; `output` is where a Collector's output arrives."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        export = channel.unary_unary(f"/{shapes.SERVICE}/Export", bytes, bytes)
        for body in requests:
            export(body, timeout=60)
    wait_until_delivered(server)
    return server.output() if isinstance(server, Gateway) else list(output)


def compare_leaks(program: Path, found: Translation) -> None:
    """Print what of the planted values came out of each side, and what harmless text was changed."""
    rules = active_rules(RedactionSettings())
    planted = list(leaks.planted([rule for rule in rules if rule.id in found.patterns]))
    others = {"look-alikes": leaks.look_alikes(rules), "shop.internal": shapes.make_request(0)}
    requests = [*(one.body for one in planted), *others.values()]
    with started(Gateway) as server:
        ours = passed(server, requests, [])
        rows = b"".join(file.read_bytes() for file in server.folder.glob("rows.db*"))
    with keeping() as (to, output), started(collector(program, found, to)) as server:
        theirs = passed(server, requests, output)
    print(f"\nplanted values that came out {'planted':>35} {'gateway':>9} {'collector':>9}")
    total, of_ours = leaks.left(planted, ours, rows)
    of_theirs = leaks.left(planted, theirs)[1]
    for where in sorted(total):
        print(f"  {where:<52} {total[where]:>9} {of_ours[where]:>9} {of_theirs[where]:>9}")
    print(f"  {'all':<52} {total.total():>9} {of_ours.total():>9} {of_theirs.total():>9}")
    print(f"\ntexts that were changed {'sent':>40} {'gateway':>9} {'collector':>9}")
    names = ("harmless, but like what a rule looks for", "attributes of one request of the load (32 personal)")
    for name, (tag, body) in zip(names, others.items(), strict=True):
        sent = leaks.strings([body])
        changed = [leaks.changed(sent, leaks.strings(bodies, tag)) for bodies in (ours, theirs)]
        print(f"  {name:<52} {len(sent):>9} {changed[0]:>9} {changed[1]:>9}")


def collector(program: Path, found: Translation, to: int = 0) -> Make:
    """Return what makes a Collector: one that forgets, or one that keeps and sends to a port."""
    return lambda folder: Collector(folder, program, list(found.patterns.values()), to)


def compare_speed(program: Path, found: Translation, seconds: float, rounds: int) -> None:
    """Measure the servers in turns, and print the medians."""
    results: dict[str, list[dict[str, float]]] = defaultdict(list)
    with forward.running("take", "grpc") as (_, to):
        makes: dict[str, Make] = {
            "gateway": Gateway,
            "collector": collector(program, found),
            "durable": collector(program, found, to),
            "bare": collector(program, Translation()),
            "component": lambda folder: Component(folder, program),
        }
        for _ in range(rounds):
            for name, make in makes.items():
                results[name].append(measure(make, seconds))
    columns = ("spans", "stored", "cpu", "p50", "p99", "refused", "memory")
    medians = {name: {c: statistics.median(one[c] for one in own) for c in columns} for name, own in results.items()}
    heads = ("spans/s", "stored/s", "CPU s", "p50 ms", "p99 ms", "refused", "memory")
    print(f"{'':>12}" + "".join(f"{head:>10}" for head in heads) + f"{'range of CPU s':>18}")
    for name, own in medians.items():
        cells = "".join(f"{own[column]:>10.{2 if column == 'cpu' else 0}f}" for column in columns)
        cpu = [one["cpu"] for one in results[name]]
        print(f"{name:>12}{cells}{f'{min(cpu):.2f} to {max(cpu):.2f}':>18}")
    ours = medians["gateway"]
    for name, own in list(medians.items())[1:]:
        print(ratio("gateway", ours, name, own))
    print(ratio("component", medians["component"], "collector", medians["collector"]))


def ratio(one: str, ours: dict[str, float], other: str, theirs: dict[str, float]) -> str:
    """Say how many times as much one server does as another."""
    return (
        f"{one} / {other}: {ours['spans'] / theirs['spans']:.2g} x the spans/s acknowledged,"
        f" {ours['stored'] / theirs['stored']:.2g} x stored,"
        f" {theirs['cpu'] / ours['cpu']:.2g} x the spans per CPU second"
    )


def patterns() -> Translation:
    """Return our rules for the Collector, proved on the clean part of the load."""
    texts = set(leaks.strings([shapes.make_request(0)]))
    return translated(active_rules(RedactionSettings()), {text for text in texts if "@example.com" not in text})


def print_rules(found: Translation) -> None:
    """Print every pattern that the Collector is given, and every rule that it is not."""
    for name, pattern in found.patterns.items():
        print(f"{name:<40} {pattern}")
    for reason, names in found.dropped.items():
        print(f"\nleft out, {reason}: {', '.join(names)}")


def main(arguments: Sequence[str]) -> int:
    """Compare what was asked for."""
    given = parse(arguments)
    found = patterns()
    if given.rules:
        print_rules(found)
        return 0
    try:
        program = builds.build(builds.BENCH_COLLECTOR)
    except builds.BuildFailed as reason:
        print(f"skipped: {reason}")
        return 0
    if hasattr(os, "sched_setaffinity"):  # what is started from here inherits it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    print(f"{found.summary()}\nload of this machine: {os.getloadavg()[0]:.1f}; {given.rounds} x {given.seconds:.0f} s")
    compare_speed(program, found, given.seconds, given.rounds)
    if given.leaks:
        compare_leaks(program, found)
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each server is loaded each time (3)")
    parser.add_argument("--rounds", type=int, default=2, help="how often each server has its turn; medians count (2)")
    parser.add_argument("--no-leaks", dest="leaks", action="store_false", help="leave out what gets through")
    parser.add_argument("--rules", action="store_true", help="print the patterns that the Collector is given, and end")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
