"""What topics of Kafka cost a receiver, against the spool on the disk, in one run.

Requests of 512 spans (as in benchmarks/gateway.py) are appended, so many at once, until all are acknowledged: to the
spool on the disk, and to 12 partitions of one broker on this machine; with redaction before it, as a receiver does, and
without. In turns, several rounds; figures are the medians. CPU time is that of this process, in us for each span, and
the broker's beside it: on a machine of its own it would not be in the way. `python benchmarks/scale_kafka.py [ROUNDS]`;
needs Java and the jars (`python -m tests.backends.builds kafka`).
"""

import os
import secrets
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

from benchmarks.gateway import SPANS, make_request
from otel_telemetry.gateway.kafka import topics
from otel_telemetry.gateway.kafka.config import KafkaSettings
from otel_telemetry.gateway.kafka.transport import KafkaTransport
from otel_telemetry.gateway.spool.transport import Transport
from otel_telemetry.gateway.spool.writer import Spool
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.redactor import Redactor
from tests.backends import kafka_broker

REQUESTS = 60
IN_FLIGHT = 6
ROUNDS = 5
Prepare = Callable[[bytes], bytes]


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(transport: Transport, bodies: Sequence[bytes], prepare: Prepare, broker: int) -> tuple[float, float, float]:
    """Append all; return us of our CPU and of the broker's for each span, and spans a second."""
    pending: deque[Future[int]] = deque()
    own, theirs, began = time.process_time(), cpu_of(broker), time.perf_counter()
    for body in bodies:
        pending.append(transport.append("traces", prepare(body), SPANS))
        if len(pending) == IN_FLIGHT:
            pending.popleft().result(60)
    for one in pending:
        one.result(60)
    spans = SPANS * len(bodies)
    seconds = time.perf_counter() - began
    return (time.process_time() - own) / spans * 1e6, (cpu_of(broker) - theirs) / spans * 1e6, spans / seconds


def main(rounds: int) -> None:
    redactor = OtlpRedactor(Redactor(RedactionSettings()))
    bodies = [make_request(seed) for seed in range(REQUESTS)]
    ways: dict[str, Prepare] = {
        "append": lambda body: body,
        "redact and append": lambda body: redactor.redact("traces", body).body,
    }
    with kafka_broker.running() as broker, tempfile.TemporaryDirectory() as folder:
        config = KafkaSettings(brokers=broker.brokers, topic_prefix=f"t{secrets.token_hex(4)}_")
        topics.create(config, 1, 24)
        opened: dict[str, Transport] = {
            "disk": Spool(Path(folder), 8 << 30, 24),
            "kafka": KafkaTransport(config, redactor, 64 << 20, 1 << 30),
        }
        found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
        for number in range(rounds + 1):
            for name, transport in opened.items():
                for way, prepare in ways.items():
                    result = run(transport, bodies, prepare, broker.pid)
                    if number:  # the first is to warm up
                        found.setdefault((way, name), []).append(result)
        for transport in opened.values():
            transport.close()
    for way in ways:
        disk, kafka = ([statistics.median(values) for values in zip(*found[way, name], strict=True)] for name in opened)
        print(f"{way}:")
        print(f"  disk   {disk[0]:6.2f} us of CPU a span, {disk[2]:10,.0f} spans/s")
        print(
            f"  kafka  {kafka[0]:6.2f} us of CPU a span, {kafka[2]:10,.0f} spans/s; the broker's own {kafka[1]:.2f} us"
        )
        print(f"  kafka / disk: {kafka[0] / disk[0]:.2f} x the CPU, {kafka[2] / disk[2]:.2f} x the rate")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
