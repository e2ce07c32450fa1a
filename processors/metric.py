"""Redaction of SDK metrics, for every reader of a MeterProvider, whether it pushes or is scraped.

All readers of a provider, later ones too, get what one measurement consumer has collected. So it is cleaned there:
attributes of points and exemplars, names, descriptions and units, resource and scope.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    Gauge,
    InMemoryMetricReader,
    Metric,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource

from otel_telemetry.base import conventions
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.processors.config import LEAK_CHECK_RATIO, RedactionSettings
from otel_telemetry.processors.redact import finding_counts
from otel_telemetry.processors.redact.leak_check import LeakCheck, Record
from otel_telemetry.processors.redact.redactor import Finding, Redactor
from otel_telemetry.processors.sdk.fail_closed import cleaning
from otel_telemetry.processors.sdk.metric_points import merged
from otel_telemetry.processors.sdk.origin import Origin, Origins
from otel_telemetry.processors.sdk.parts import clean_attributes, strings_of


class MetricRedaction:
    """Cleans what a MeterProvider has collected, off the app's threads.

    Points whose attributes are the same once redacted become one point, as if the app had recorded them that way. A
    metric whose redaction raises is left out and counted; nothing is raised.
    """

    def __init__(self, redactor: Redactor | None = None, *, leak_check_ratio: float = LEAK_CHECK_RATIO) -> None:
        self._origins = Origins(redactor or Redactor(RedactionSettings()))
        self._check = LeakCheck("metrics", leak_check_ratio)
        _prove(self)

    def clean(self, data: MetricsData | None) -> MetricsData | None:
        """Return the same without personal data; None where there is nothing that may leave."""
        if data is None:
            return None
        groups = [clean for group in data.resource_metrics if (clean := self._group(group)) is not None]
        return MetricsData(groups) if groups else None

    def _group(self, group: ResourceMetrics) -> ResourceMetrics | None:
        try:
            origin = self._origins.of(group.resource)
            url = origin.redactor.string(group.schema_url)
            scopes = [self._scope(scope, origin) for scope in group.scope_metrics]
        except Exception:  # noqa: BLE001  # fail closed: what these metrics share cannot be made safe
            finding_counts.withheld("metrics", sum(_size(m) for scope in group.scope_metrics for m in scope.metrics))
            return None
        return ResourceMetrics(origin.resource, scopes, url)

    def _scope(self, group: ScopeMetrics, origin: Origin) -> ScopeMetrics:
        scope = self._origins.scope(group.scope, origin) or group.scope
        cleaned = (self._metric(metric, origin) for metric in group.metrics)
        kept = [metric for metric in cleaned if metric is not None]
        return ScopeMetrics(scope, kept, origin.redactor.string(group.schema_url))

    def _metric(self, metric: Metric, origin: Origin) -> Metric | None:
        try:
            clean = _rewritten(metric, origin) if origin.redactor.dirty(_strings(metric)) else metric
        except Exception:  # noqa: BLE001  # fail closed: whatever went wrong, this metric must not leave
            finding_counts.withheld("metrics", _size(metric))
            return None
        if origin.service != finding_counts.SELF_TEST and self._check.due():
            self._check.record(origin.redactor, _leaving(clean))
        return clean


def protect(provider: MeterProvider, redaction: MetricRedaction) -> None:
    """Clean everything that any reader of a provider is given, present and future."""
    consumer: Any = provider._measurement_consumer
    clean_collect = cleaning(consumer.collect, redaction)
    consumer.collect = clean_collect
    for reader in list(consumer._reader_storages):
        reader._set_collect_callback(clean_collect)


def _strings(metric: Metric) -> list[str]:
    """Return all strings of a metric."""
    texts = [metric.name, metric.description or "", metric.unit or ""]
    for attributes in _attribute_sets(metric):
        strings_of(attributes, texts)
    return texts


def _attribute_sets(metric: Metric) -> list[Any]:
    sets: list[Any] = []
    for point in metric.data.data_points:
        sets.append(point.attributes or {})
        sets.extend(exemplar.filtered_attributes or {} for exemplar in point.exemplars)
    return sets


def _leaving(metric: Metric) -> Record:
    """Return everything of a metric that an exporter can read."""
    return Record((metric.name, metric.description, metric.unit), _attribute_sets(metric))


def _rewritten(metric: Metric, origin: Origin) -> Metric:
    findings: list[Finding] = []
    redactor = origin.redactor
    data: Any = metric.data
    points = [_clean_point(redactor, point, findings) for point in data.data_points]
    clean = Metric(
        redactor.string(metric.name, findings=findings),
        redactor.string(metric.description or "", findings=findings),
        redactor.string(metric.unit or "", findings=findings),
        replace(data, data_points=merged(points, newest=isinstance(data, Gauge))),
    )
    finding_counts.count(findings, origin.service)
    return clean


def _clean_point(redactor: Redactor, point: Any, findings: list[Finding]) -> Any:
    return replace(
        point,
        attributes=clean_attributes(redactor, point.attributes or {}, findings),
        exemplars=_clean_exemplars(redactor, point.exemplars, findings),
    )


def _clean_exemplars(redactor: Redactor, exemplars: Sequence[Any], findings: list[Finding]) -> list[Any]:
    return [
        replace(each, filtered_attributes=clean_attributes(redactor, each.filtered_attributes or {}, findings))
        for each in exemplars
    ]


def _size(metric: Metric) -> int:
    """Return how many items OTLP counts here: data points."""
    return len(metric.data.data_points)


def _prove(redaction: MetricRedaction) -> None:
    """Record under a planted address with the installed SDK, and read it; raise if it shows."""
    planted = finding_counts.planted_for(redaction._origins.redactor)
    if planted is None:
        return  # the policy keeps everything that could be looked for
    reader, later = InMemoryMetricReader(), InMemoryMetricReader()
    resource = Resource({conventions.SERVICE_NAME: finding_counts.SELF_TEST})
    provider = MeterProvider([reader], resource, shutdown_on_exit=False)
    protect(provider, redaction)
    provider.add_metric_reader(later)
    provider.get_meter(finding_counts.SELF_TEST).create_counter("c").add(1, {"a": planted})
    for each in (reader, later):
        seen = each.get_metrics_data()
        if seen is None or planted in seen.to_json():
            raise ConfigurationError(
                "redaction",
                "the installed opentelemetry-sdk does not let metrics be redacted before they are exported",
                "install opentelemetry-sdk 1.45.2, the version this release was proved with, and report this",
            )
