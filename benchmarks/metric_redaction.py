"""What redaction adds to a collection of SDK metrics: against the same collection, encoded as OTLP, without it.

It runs on the reader's thread, once an interval (a minute, by default), never where the app records.
"""

import statistics
import time

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from rich.console import Console
from rich.table import Table

from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.metric import MetricRedaction, protect
from otel_telemetry.processors.redact.redactor import Redactor

INSTRUMENTS, SERIES, ROUNDS = 10, 200, 9


def reader(redaction: MetricRedaction | None, who: str) -> InMemoryMetricReader:
    """Return a reader of 2,000 histogram points with four attributes each."""
    made = InMemoryMetricReader()
    provider = MeterProvider([made], Resource({"service.name": "bench"}), shutdown_on_exit=False)
    if redaction is not None:
        protect(provider, redaction)
    meter = provider.get_meter("bench")
    for instrument in range(INSTRUMENTS):
        histogram = meter.create_histogram(f"bench.{instrument}")
        for series in range(SERIES):
            fixed = {"http.route": f"/orders/{series}", "gen_ai.request.model": "gpt-4o-mini", "error.type": "none"}
            histogram.record(series, {**fixed, "who": who.format(series)})
    return made


def collected_and_encoded(source: InMemoryMetricReader) -> float:
    """Return the seconds that one collection takes, with what an OTLP exporter does to it."""
    started = time.perf_counter()
    data = source.get_metrics_data()
    if data is not None:
        encode_metrics(data).SerializeToString()
    return time.perf_counter() - started


def main() -> None:
    redaction = MetricRedaction(Redactor(RedactionSettings()))
    readers = {
        "without": reader(None, "tenant {}"),
        "redacted, clean": reader(redaction, "tenant {}"),
        "redacted, an address in every point": reader(redaction, "jane.{}@example.com"),
    }
    rounds = [{name: collected_and_encoded(source) for name, source in readers.items()} for _ in range(ROUNDS)]
    seconds = {name: statistics.median(each[name] for each in rounds) for name in readers}
    table = Table("2,000 points", "ms a collection", "ratio", title="redaction of SDK metrics")
    for name, value in seconds.items():
        table.add_row(name, f"{value * 1e3:.1f}", f"{value / seconds['without']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
