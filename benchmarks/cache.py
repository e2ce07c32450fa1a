"""What a hit costs through the response cache, and what seeing a lookup costs redis-py: each against the bare thing.

Budget (issue 6): a hit through ResponseCache within 1.5 x of a bare redis-py GET + json.loads. A decorated function
makes its key first, of redacted arguments; it is compared with a key that is made by hand. All in one run, against a
real redis-server on loopback. The table says medians of rounds that take turns.
"""

import functools
import hashlib
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from rich.console import Console
from rich.table import Table

from otel_telemetry.cache import CacheSettings, ResponseCache
from otel_telemetry.instrument.redis import RedisCacheInstrumentor
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor

CALLS, ROUNDS = 300, 15
ANSWER = {"answer": "The three main risks are supply, currency and staff. " * 20, "sources": ["a", "b"], "score": 0.93}
QUESTION = "What are the three main risks that the quarterly report names, and how large is each of them?"


def answer(question: str, top_k: int = 5, temperature: float = 0.2) -> dict[str, Any]:
    """Return what is cached."""
    del question, top_k, temperature
    return ANSWER


Timed = Callable[[], float]


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        del spans
        return SpanExportResult.SUCCESS


@contextmanager
def server() -> Iterator[str]:
    """Run a redis-server on a free port of loopback."""
    program = shutil.which("redis-server")
    if program is None:
        print("redis-server is not installed (Debian: apt-get install redis-server): nothing measured")
        sys.exit(0)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        arguments = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)  # noqa: S603 - found on PATH
        try:
            url = f"redis://127.0.0.1:{port}/0"
            while not _answers(url):
                time.sleep(0.02)
            yield url
        finally:
            process.kill()
            process.wait(10)


def _answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def timed(call: Callable[[], Any]) -> Timed:
    """Return a function that tells the microseconds of one call."""

    def run() -> float:
        started = time.perf_counter()
        for _ in range(CALLS):
            call()
        return (time.perf_counter() - started) / CALLS * 1e6

    return run


def medians(*runs: Timed) -> list[float]:
    """Let each run a round in turn, and return the median of each."""
    for run in runs:
        run()
    return [statistics.median(column) for column in zip(*([run() for run in runs] for _ in range(ROUNDS)), strict=True)]


def hits(url: str, table: Table) -> None:
    """Compare a hit with a bare GET + json.loads of the same value."""
    redactor = Redactor(RedactionSettings())
    client = redis.Redis.from_url(url)
    client.set("bare", json.dumps(ANSWER))
    made = {}
    for name, config in (("Redis", CacheSettings(url=url)), ("memory", CacheSettings())):
        cache = ResponseCache(config, redactor=redactor)
        ask = cache.cached(tool="ask")(answer)
        ask(QUESTION)
        key = cache.key("ask", {"question": QUESTION, "top_k": 5, "temperature": 0.2}) or ""
        made[name] = (timed(functools.partial(ask, QUESTION)), timed(functools.partial(cache.get, key)))

    def bare() -> Any:
        found = client.get("bare")
        return json.loads(found) if isinstance(found, bytes) else None

    def by_hand() -> Any:
        arguments = json.dumps({"question": QUESTION, "top_k": 5, "temperature": 0.2}, sort_keys=True)
        found = client.get(f"ask:{hashlib.sha256(arguments.encode()).hexdigest()}")
        return json.loads(found) if isinstance(found, bytes) else None

    keyed = json.dumps({"question": QUESTION, "top_k": 5, "temperature": 0.2}, sort_keys=True)
    client.set(f"ask:{hashlib.sha256(keyed.encode()).hexdigest()}", json.dumps(ANSWER))
    base, hand, cached, got, in_memory, _ = medians(timed(bare), timed(by_hand), *made["Redis"], *made["memory"])
    for name, value, against, budget in (
        ("redis-py GET + json.loads", base, base, ""),
        ("cache.get(key), hit in Redis", got, base, "1.5"),
        ("GET + json.loads, key: SHA-256 of JSON", hand, hand, ""),
        ("@cached, hit in Redis", cached, hand, ""),
        ("@cached, hit in memory", in_memory, hand, ""),
    ):
        table.add_row(name, f"{value:.1f}", f"{value / against:.2f}", budget)


def lookups(url: str, table: Table) -> None:
    """Compare an instrumented GET with a plain one, and with one that only OpenTelemetry sees."""
    client = redis.Redis.from_url(url)
    client.set("user:1", "x" * 200)
    get = timed(lambda: client.get("user:1"))
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(_Nowhere(), max_queue_size=100_000))
    meters = MeterProvider(metric_readers=[InMemoryMetricReader()], shutdown_on_exit=False)
    ours, theirs = RedisCacheInstrumentor(), RedisInstrumentor()

    def under(*instrumentors: Any) -> Timed:
        def run() -> float:
            for one in instrumentors:
                one.instrument(tracer_provider=tracers, meter_provider=meters)
            try:
                return get()
            finally:
                for one in reversed(instrumentors):
                    one.uninstrument()

        return run

    plain, metrics_only, spans, both = medians(get, under(ours), under(theirs), under(ours, theirs))
    for name, value in (
        ("GET, plain", plain),
        ("GET, ours alone (metrics)", metrics_only),
        ("GET, OpenTelemetry's spans", spans),
        ("GET, both", both),
    ):
        table.add_row(name, f"{value:.1f}", f"{value / plain:.2f}", "")
    tracers.shutdown()
    meters.shutdown()


def main() -> None:
    table = Table("call", "us", "ratio", "budget", title="the cache, one thread, a real Redis on loopback")
    with server() as url:
        hits(url, table)
        table.add_section()
        lookups(url, table)
    Console().print(table)


if __name__ == "__main__":
    main()
