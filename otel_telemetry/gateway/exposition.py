"""What /metrics shows: the suite's own counters and the state of the spool, as Prometheus text.

`install` makes it the process's MeterProvider, which OpenTelemetry allows once. The spool's numbers are read when
somebody looks, not kept up to date in between.
"""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from opentelemetry import metrics as otel_api
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from otel_telemetry import metrics
from otel_telemetry.errors import StoreUnavailable
from otel_telemetry.gateway.group import Seat
from otel_telemetry.gateway.spool import Spool
from otel_telemetry.gateway.spool_reader import SpoolStatus

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX: Final = "otel_telemetry_spool_"
_PROCESS: Final = "process"


class Exposition:
    """A MeterProvider (`provider`) that is read as Prometheus text, in a registry of its own.

    With a seat in a group its text is that of all processes: each series with a label `process`, so that one that is
    started again begins its own series anew and touches no other; the spool, which they share, once and without.
    """

    def __init__(self, seat: Seat | None = None) -> None:
        self._seat = seat
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

    def watch(self, spool: Spool) -> Callable[[], None]:
        """Show a spool too; return what ends that."""
        collector = _SpoolCollector(spool)
        self._shared.register(collector)
        return lambda: self._shared.unregister(collector)

    def text(self) -> bytes:
        """Return everything as Prometheus text."""
        if self._seat is None:
            return self.own_text() + generate_latest(self._shared)
        return generate_latest(_Gathered(self._gather(self._seat))) + generate_latest(self._shared)

    def own_text(self) -> bytes:
        """Return what this process counts, without the spool."""
        with self._one_at_a_time:
            return generate_latest(self._own)

    def _gather(self, seat: Seat) -> Iterator[Metric]:
        texts = {seat.name: self.own_text(), **seat.group.ask_others(seat.name, "metrics")}
        yield from merged({name: text for name, text in texts.items() if text is not None})
        up = GaugeMetricFamily("otel_telemetry_process_up", "Whether the process answers.", labels=(_PROCESS,))
        restarts = CounterMetricFamily(
            "otel_telemetry_process_restarts", "Times that the process had to be started again.", labels=(_PROCESS,)
        )
        for name, count in seat.group.restarts().items():
            up.add_metric((name,), int(texts.get(name) is not None))
            restarts.add_metric((name,), count)
        yield up
        yield restarts


def merged(texts: Mapping[str, bytes]) -> Iterable[Metric]:
    """Return the metrics of several expositions as one, each sample with its process as a label."""
    families: dict[str, Metric] = {}
    for process, text in texts.items():
        for family in text_string_to_metric_families(text.decode()):
            into = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            into.samples += [one._replace(labels={**one.labels, _PROCESS: process}) for one in family.samples]
    return families.values()


class _Gathered(CollectorRegistry):
    """Metrics that were already collected, in the form that generate_latest reads."""

    def __init__(self, collected: Iterable[Metric]) -> None:
        super().__init__()
        self._collected = collected

    def collect(self) -> Iterable[Metric]:
        return self._collected


class _Histograms(Collector):
    """The suite's histograms that count by themselves (otel_telemetry/histogram.py)."""

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        for histogram in metrics.HISTOGRAMS:
            name = f"{histogram.name.replace('.', '_')}_seconds"
            family = HistogramMetricFamily(name, histogram.description, labels=histogram.labels)
            bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
            for one in histogram.series():
                buckets = list(zip(bounds, itertools.accumulate(one.counts), strict=True))
                family.add_metric(one.words, buckets, one.total)
            yield family


class _SpoolCollector(Collector):
    """The spool's numbers as gauges. A spool that cannot be read shows none."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        try:
            now = self._spool.reader.status()
        except StoreUnavailable:
            return
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
                family.add_metric((sink,), getattr(lag, name))
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
    for sink, reasons in now.missed.items():
        for reason, items in reasons.items():
            missed.add_metric((sink, reason), items)
    yield dead
    yield size
    yield missed


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, help_text, value=value)
