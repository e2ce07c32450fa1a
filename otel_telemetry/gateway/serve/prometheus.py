"""The contents of /metrics: the suite's own counters and the state of the spool, as Prometheus text.

`install` makes it the process's MeterProvider, which OpenTelemetry allows once. The spool's numbers are read at each
scrape, not updated in between.
"""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from opentelemetry import metrics as otel_api
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from otel_telemetry.base import metrics
from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.base.histogram import Example
from otel_telemetry.base.prometheus_text import PROCESS, merged, text_of
from otel_telemetry.gateway.serve.group import WorkerContext
from otel_telemetry.gateway.spool.reader import SpoolStatus
from otel_telemetry.gateway.spool.transport import Transport

_PREFIX: Final = "otel_telemetry_spool_"
_REDIS: Final = "otel_telemetry_redis_"
#: By their names in Redis' INFO.
_REDIS_GAUGES: Final = {
    "used_memory": ("memory_bytes", "Bytes that the Redis of the response cache uses."),
    "maxmemory": ("max_memory_bytes", "Bytes that it may use; 0: no limit."),
}
_REDIS_COUNTERS: Final = {
    "evicted_keys": "Keys that Redis dropped to make room, before their time.",
    "expired_keys": "Keys whose time was over.",
}
_NOTHING_MISSED: Final = dict.fromkeys(("dropped", "expired", "unreadable", "dead_letters_full"), 0)


class Exposition:
    """A MeterProvider (`provider`) that is read as Prometheus text, in a registry of its own.

    In a group its text is that of all processes: each series with a label `process`, so that one that is
    started again begins its own series anew and touches no other; the spool, which they share, once and without.
    """

    def __init__(self, worker: WorkerContext | None = None) -> None:
        self._worker = worker
        self._own = CollectorRegistry()
        self._shared = CollectorRegistry()
        reader = PrometheusMetricReader(registry=self._own, scope_info_enabled=False, disable_target_info=True)
        self.provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
        ProcessCollector(registry=self._own)
        self._one_at_a_time = threading.Lock()  # the reader keeps what it collects in a list without a lock

    def install(self) -> None:
        """Make it the provider that the whole process counts on."""
        otel_api.set_meter_provider(self.provider)
        self._own.register(_Histograms())
        for histogram in metrics.HISTOGRAMS:
            histogram.take_over()

    def watch(self, spool: Transport) -> Callable[[], None]:
        """Show a spool too; return what ends that."""
        collector = _SpoolCollector(spool)
        self._shared.register(collector)
        return lambda: self._shared.unregister(collector)

    def watch_cache(self, server_numbers: Callable[[], Mapping[str, float]]) -> Callable[[], None]:
        """Show the figures of the cache's server too; return a function that ends that."""
        collector = _CacheServer(server_numbers)
        self._shared.register(collector)
        return lambda: self._shared.unregister(collector)

    def text(self, *, openmetrics: bool = False) -> bytes:
        """Return everything as Prometheus text, or as OpenMetrics, with exemplars."""
        own = self._gather(self._worker) if self._worker else self._collected()
        return text_of(itertools.chain(own, self._shared.collect()), openmetrics=openmetrics)

    def own_text(self) -> bytes:
        """Return what this process counts, without the spool, as OpenMetrics."""
        return text_of(self._collected(), openmetrics=True)

    def _collected(self) -> list[Metric]:
        with self._one_at_a_time:
            return list(self._own.collect())

    def _gather(self, worker: WorkerContext) -> Iterator[Metric]:
        texts = {worker.name: self.own_text(), **worker.group.ask_others(worker.name, "metrics")}
        yield from merged({name: text for name, text in texts.items() if text is not None})
        up = GaugeMetricFamily("otel_telemetry_process_up", "Whether the process answers.", labels=(PROCESS,))
        restarts = CounterMetricFamily(
            "otel_telemetry_process_restarts", "Times that the process had to be started again.", labels=(PROCESS,)
        )
        for name, count in worker.group.restarts().items():
            up.add_metric((name,), int(texts.get(name) is not None))
            restarts.add_metric((name,), count)
        yield up
        yield restarts


class _Histograms(Collector):
    """The suite's histograms that count by themselves (otel_telemetry/base/histogram.py)."""

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        for histogram in metrics.HISTOGRAMS:
            name = f"{histogram.name.replace('.', '_')}_seconds"
            family = HistogramMetricFamily(name, histogram.description, labels=histogram.labels)
            bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
            for one in histogram.series():
                counts = itertools.accumulate(one.counts)
                buckets = list(map(_bucket, bounds, counts, one.examples))
                family.add_metric(one.words, buckets, one.total)
            yield family


def _bucket(bound: str, count: int, example: Example | None) -> tuple[str, float] | tuple[str, float, Exemplar]:
    if example is None:
        return bound, count
    trace_id, value, when = example
    return bound, count, Exemplar({"trace_id": trace_id}, value, when)


class _CacheServer(Collector):
    """Memory, evictions and expiries of Redis. One that does not answer shows none."""

    def __init__(self, server_numbers: Callable[[], Mapping[str, float]]) -> None:
        self._server_numbers = server_numbers

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        figures = self._server_numbers()
        for name, (shown, help_text) in _REDIS_GAUGES.items():
            if name in figures:
                yield GaugeMetricFamily(_REDIS + shown, help_text, value=figures[name])
        for name, help_text in _REDIS_COUNTERS.items():
            if name in figures:
                yield CounterMetricFamily(_REDIS + name, help_text, value=figures[name])


class _SpoolCollector(Collector):
    """The spool's numbers as gauges. A spool that cannot be read shows none."""

    def __init__(self, spool: Transport) -> None:
        self._spool = spool

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        try:
            now = self._spool.status()
        except StoreUnavailable:
            return
        if now.bytes is not None:  # topics of Kafka do not tell
            yield _gauge("bytes", "Bytes that the spool occupies.", now.bytes)
            yield _gauge("max_bytes", "Bytes at which the spool refuses more.", self._spool.max_bytes)
        yield _gauge("batches", "Batches in the spool, delivered ones kept for replay included.", now.batches)
        yield _gauge(
            "oldest_seconds", "Age of the oldest batch that some exporter has not got yet.", now.oldest_seconds
        )
        yield _gauge("dead_letters", "Batches kept aside because they can never be delivered.", now.dead_letters)
        yield _gauge(
            "dead_letter_max_bytes",
            "Bytes of dead letters from which an exporter's oldest are dropped; 0: none are.",
            self._spool.max_dead_bytes,
        )
        yield _gauge(
            "unacknowledged_losses",
            "Batches and dead letters that the disk did not keep, and nobody has taken note of.",
            now.loss.batches + now.loss.letters + now.loss.unknown if now.loss else 0,
        )
        if now.appended is not None:
            appended = CounterMetricFamily(f"{_PREFIX}items", "Items that were ever acknowledged, over all restarts.")
            appended.add_metric((), now.appended)
            yield appended
        yield from _by_exporter(now)
        for name, help_text in (
            ("batches", "Batches that the exporter has not got yet."),
            ("items", "Spans, log records and data points that the exporter has not got yet."),
            ("bytes", "Bytes that the exporter has not got yet."),
            ("seconds", "Age of the oldest batch that the exporter has not got yet."),
        ):
            family = GaugeMetricFamily(f"{_PREFIX}lag_{name}", help_text, labels=("exporter",))
            for sink, lag in now.lag.items():
                if (value := getattr(lag, name)) is not None:
                    family.add_metric((sink,), value)
            yield family


def _by_exporter(now: SpoolStatus) -> Iterator[Metric]:
    dead = GaugeMetricFamily(f"{_PREFIX}dead_letter_items", "Items in dead letters.", labels=("exporter",))
    size = GaugeMetricFamily(f"{_PREFIX}dead_letter_bytes", "Bytes in dead letters.", labels=("exporter",))
    missed = CounterMetricFamily(
        f"{_PREFIX}missed_items",
        "Items that the exporter will never get, over all restarts, by reason (dropped, expired, unreadable,"
        " dead_letters_full).",
        labels=("exporter", "reason"),
    )
    for sink in now.lag:
        dead.add_metric((sink,), now.dead_items.get(sink, 0))
        size.add_metric((sink,), now.dead_bytes.get(sink, 0))
    for sink in {**now.lag, **now.missed}:
        for reason, items in {**_NOTHING_MISSED, **now.missed.get(sink, {})}.items():
            missed.add_metric((sink, reason), items)
    yield dead
    yield size
    yield missed


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, help_text, value=value)
