"""What /metrics shows: the suite's own counters and the state of the spool, as Prometheus text.

`install` makes it the process's MeterProvider, which OpenTelemetry allows once. The spool's numbers are read when
somebody looks, not kept up to date in between.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Final

from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from otel_telemetry.errors import StoreUnavailable
from otel_telemetry.gateway.spool import Spool

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX: Final = "otel_telemetry_spool_"


class Exposition:
    """A MeterProvider (`provider`) that is read as Prometheus text, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        reader = PrometheusMetricReader(registry=self._registry, scope_info_enabled=False, disable_target_info=True)
        self.provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
        self._one_at_a_time = threading.Lock()  # the reader keeps what it collects in a list without a lock

    def install(self) -> None:
        """Make it the provider that the whole process counts on."""
        metrics.set_meter_provider(self.provider)

    def watch(self, spool: Spool) -> Callable[[], None]:
        """Show a spool too; return what ends that."""
        collector = _SpoolCollector(spool)
        self._registry.register(collector)
        return lambda: self._registry.unregister(collector)

    def text(self) -> bytes:
        """Return everything as Prometheus text."""
        with self._one_at_a_time:
            return generate_latest(self._registry)


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


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, help_text, value=value)
