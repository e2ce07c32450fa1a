"""What leaves a reader of SDK metrics holds nothing that was planted, wherever it was planted."""

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader, MetricsData
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry, generate_latest

from otel_telemetry.processors import metric
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.verify.planting_sdk import metrics_take_lists

PLANTED = "jane.roe@example.com"
OTHER = "john.doe@example.org"


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor(RedactionSettings())


def make(*readers: MetricReader, redactor: Redactor, **options: Any) -> MeterProvider:
    resource = Resource({"service.name": "shop", "owner": PLANTED})
    provider = MeterProvider(readers, resource, shutdown_on_exit=False, **options)
    metric.protect(provider, metric.MetricRedaction(redactor))
    return provider


def read(reader: InMemoryMetricReader) -> MetricsData:
    data = reader.get_metrics_data()
    assert data is not None
    return data


def bytes_of(data: MetricsData) -> bytes:
    """Return what OTLP would send, and what else can be seen of the objects."""
    return encode_metrics(data).SerializeToString() + repr(data).encode()


def points(reader: InMemoryMetricReader) -> list[Any]:
    return [
        p
        for group in read(reader).resource_metrics
        for s in group.scope_metrics
        for m in s.metrics
        for p in m.data.data_points
    ]


def test_no_planted_value_leaves_through_any_reader_of_any_instrument(redactor: Redactor) -> None:
    reader = InMemoryMetricReader()
    views = [
        View(instrument_name="narrow", attribute_keys={"kept"}),  # what it leaves out goes into the exemplars
        View(instrument_name="exponential", aggregation=ExponentialBucketHistogramAggregation()),
    ]
    provider = make(reader, redactor=redactor, views=views, exemplar_filter=AlwaysOnExemplarFilter())
    later = InMemoryMetricReader()
    provider.add_metric_reader(later)
    metric.protect(provider, metric.MetricRedaction(redactor))  # twice does no harm
    meter = provider.get_meter(PLANTED, attributes={"scope": PLANTED})
    planted: dict[str, Any] = {"kept": PLANTED, f"key {PLANTED}": 1}
    if metrics_take_lists():
        planted["list"] = [PLANTED]
    with trace.use_span(TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("s")):
        meter.create_counter("counter", unit=PLANTED, description=f"mails to {PLANTED}").add(1, planted)
        meter.create_up_down_counter("updown").add(1, planted)
        meter.create_gauge("gauge").set(1, planted)
        meter.create_histogram("histogram").record(1, planted)
        meter.create_histogram("exponential").record(1, planted)
        meter.create_counter("narrow").add(1, {"kept": "yes", "left.out": PLANTED})
        meter.create_observable_gauge("seen", [lambda _: [metric_observation(planted)]])
    for each in (reader, later):
        data = bytes_of(read(each))
        assert PLANTED.encode() not in data
        for name in (b"counter", b"updown", b"gauge", b"histogram", b"exponential", b"narrow", b"seen", b"left.out"):
            assert name in data


def test_a_reader_that_was_added_before_the_provider_was_protected_is_clean_too(redactor: Redactor) -> None:
    provider = MeterProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    added = InMemoryMetricReader()
    provider.add_metric_reader(added)
    metric.protect(provider, metric.MetricRedaction(redactor))
    provider.get_meter("t").create_counter("c").add(1, {"who": PLANTED})
    assert [point.attributes for point in points(added)] == [{"who": "[REDACTED_EMAIL]"}]


def metric_observation(attributes: dict[str, Any]) -> Any:
    from opentelemetry.metrics import Observation

    return Observation(1, attributes)


def test_the_page_that_prometheus_scrapes_is_clean_too(redactor: Redactor) -> None:
    registry = CollectorRegistry()
    provider = make(PrometheusMetricReader(registry=registry), redactor=redactor)
    counter = provider.get_meter("t").create_counter("mails")
    counter.add(1, {"to": PLANTED})
    counter.add(2, {"to": OTHER})
    page = generate_latest(registry).decode()
    assert PLANTED not in page
    lines = [line for line in page.splitlines() if line.startswith("mails_total{")]
    assert len(lines) == 1
    assert 'to="[REDACTED_EMAIL]"' in lines[0]
    assert lines[0].endswith(" 3.0")


def test_sums_and_histograms_of_people_who_cannot_be_told_apart_any_more_add_up(redactor: Redactor) -> None:
    reader = InMemoryMetricReader()
    meter = make(reader, redactor=redactor).get_meter("t")
    for person, amounts in ((PLANTED, (1, 7)), (OTHER, (30,))):
        for amount in amounts:
            meter.create_histogram("h", explicit_bucket_boundaries_advisory=[5, 10]).record(amount, {"who": person})
    (point,) = points(reader)
    assert (point.count, point.sum, point.min, point.max) == (3, 38, 1, 30)
    assert point.bucket_counts == [1, 1, 1]
    assert point.attributes == {"who": "[REDACTED_EMAIL]"}


def test_exponential_histograms_of_different_scales_add_up(redactor: Redactor) -> None:
    reader, plain = InMemoryMetricReader(), InMemoryMetricReader()
    amounts = {PLANTED: [1.0, 1.1, 1.2, 0.0], OTHER: [0.001, 5.0, 90_000.0]}
    views = [View(instrument_name="*", aggregation=ExponentialBucketHistogramAggregation(max_size=8))]
    ours = make(reader, redactor=redactor, views=views).get_meter("t").create_histogram("h")
    theirs = MeterProvider([plain], views=views, shutdown_on_exit=False).get_meter("t").create_histogram("h")
    for person, recorded in amounts.items():
        for amount in recorded:
            ours.record(amount, {"who": person})
            theirs.record(amount)
    (point,), (wanted,) = points(reader), points(plain)
    assert point.scale == wanted.scale
    assert (point.count, point.zero_count, point.sum) == (wanted.count, wanted.zero_count, wanted.sum)
    assert by_index(point.positive) == by_index(wanted.positive)


def by_index(buckets: Any) -> dict[int, int]:
    return {index: count for index, count in enumerate(buckets.bucket_counts, start=buckets.offset) if count}


def test_of_gauges_that_became_one_the_newest_reading_stays(redactor: Redactor) -> None:
    reader = InMemoryMetricReader()
    gauge = make(reader, redactor=redactor).get_meter("t").create_gauge("g")
    gauge.set(5, {"who": PLANTED})
    gauge.set(7, {"who": OTHER})
    assert [point.value for point in points(reader)] == [7]


def test_what_is_clean_leaves_as_the_very_objects_that_were_collected(redactor: Redactor) -> None:
    collected: list[Any] = []
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], Resource({"service.name": "shop"}), shutdown_on_exit=False)
    consumer: Any = provider._measurement_consumer
    collect = consumer.collect

    def noted(*args: Any, **kwargs: Any) -> Any:
        collected.append(collect(*args, **kwargs))
        return collected[-1]

    consumer.collect = noted
    metric.protect(provider, metric.MetricRedaction(redactor))
    provider.get_meter("t").create_counter("c").add(1, {"route": "/ask", "n": 3})
    left = read(reader).resource_metrics[0].scope_metrics[0].metrics[0]
    assert left is collected[0].resource_metrics[0].scope_metrics[0].metrics[0]


class _Broken(Redactor):
    def dirty(self, texts: Any) -> Any:
        if any(PLANTED in text for text in texts):
            raise RuntimeError
        return super().dirty(texts)


def test_a_metric_that_cannot_be_redacted_is_left_out_and_the_others_go_on() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], Resource({"service.name": "shop"}), shutdown_on_exit=False)
    metric.protect(provider, metric.MetricRedaction(_Broken(RedactionSettings())))
    meter = provider.get_meter("t")
    meter.create_counter("bad").add(1, {"who": PLANTED})
    meter.create_counter("good").add(1, {"who": "anybody"})
    data = read(reader)
    assert [m.name for m in data.resource_metrics[0].scope_metrics[0].metrics] == ["good"]


class _BrokenResource(Redactor):
    def item(self, key: str, value: Any, findings: Any = None) -> Any:
        if value == PLANTED:
            raise RuntimeError
        return super().item(key, value, findings)


def test_where_the_resource_cannot_be_redacted_nothing_leaves() -> None:
    reader = InMemoryMetricReader()
    provider = make(reader, redactor=_BrokenResource(RedactionSettings()))
    provider.get_meter("t").create_counter("c").add(1)
    assert reader.get_metrics_data() is None
