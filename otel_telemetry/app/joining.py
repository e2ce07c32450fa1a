"""Our exporters in providers that somebody else has registered before us.

The SDK takes one provider of each kind a process. Where another tool, or the app, has registered one of spans, it is
kept, and given the exporters that OTEL_TRACES_EXPORTER names; so are its providers of logs and metrics, which are made
here where nobody has registered any. An exporter that sends to the same place already is not doubled.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry import _logs, metrics, trace
from opentelemetry._logs import NoOpLoggerProvider
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk._configuration import _get_exporter_names, _import_exporters
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from otel_telemetry.base import conventions
from otel_telemetry.base.providers import add_span_processor
from otel_telemetry.base.within import fields_and_items, within

_logger = logging.getLogger(__name__)
_DEPTH: Final = 8
"""From a provider to an exporter: processors stand in composites, and others wrap both."""

_KINDS: Final = (SpanExporter, LogRecordExporter, MetricExporter, MetricReader)
_OTLP_HTTP, _OTLP_GRPC = 4318, 4317


def join(
    *,
    resource_attributes: Mapping[str, Any] | None = None,
    exporter_args_map: Mapping[Any, Mapping[str, Any]] | None = None,
    **_: Any,
) -> None:
    """Add the exporters that OTEL_*_EXPORTER name to the providers of this process; takes what the SDK's own takes.

    Nothing is done where the provider of spans takes no processors: it is not the SDK's.
    """
    provider: Any = trace.get_tracer_provider()
    if not hasattr(provider, "add_span_processor"):
        return
    named = [_get_exporter_names(signal) for signal in ("traces", "metrics", "logs")]
    spans, readings, logs = (found.values() for found in _import_exporters(*named))
    given = exporter_args_map or {}
    resource = _resource(provider, resource_attributes or {})
    for exporter in _missing(provider, spans, given):
        add_span_processor(provider, BatchSpanProcessor(exporter))
    _join_logs(logs, given, resource)
    _join_metrics(readings, given, resource)


def _resource(provider: Any, attributes: Mapping[str, Any]) -> Resource:
    """Return the resource for providers that are made here: the registered one's, with what `configure()` was given."""
    own = getattr(provider, "resource", None)
    if not isinstance(own, Resource):
        return Resource.create(dict(attributes))
    name, wanted = own.attributes.get(conventions.SERVICE_NAME), attributes.get(conventions.SERVICE_NAME)
    if wanted and name != wanted:
        _logger.warning(
            "spans keep the service name %r of the TracerProvider that was registered before: "
            "set OTEL_SERVICE_NAME=%s, or call otel_telemetry.configure() first",
            name,
            wanted,
        )
    return own.merge(Resource(dict(attributes)))


def _join_logs(classes: Iterable[Any], given: Mapping[Any, Mapping[str, Any]], resource: Resource) -> None:
    provider: Any = _logs.get_logger_provider()
    if _is_unset(provider):
        provider = LoggerProvider(resource=resource)
        _logs.set_logger_provider(provider)
    if hasattr(provider, "add_log_record_processor"):
        for exporter in _missing(provider, classes, given):
            provider.add_log_record_processor(BatchLogRecordProcessor(exporter))


def _join_metrics(classes: Iterable[Any], given: Mapping[Any, Mapping[str, Any]], resource: Resource) -> None:
    provider: Any = metrics.get_meter_provider()
    if _is_unset(provider):
        metrics.set_meter_provider(MeterProvider(list(_readers(None, classes, given)), resource))
    elif isinstance(provider, MeterProvider):
        for reader in _readers(provider, classes, given):
            provider.add_metric_reader(reader)
            provider._metric_readers = (*provider._metric_readers, reader)  # noqa: SLF001 - flushed and shut down, too


def _is_unset(provider: Any) -> bool:
    """Return whether nobody has registered a provider: the API's own stand in then, which are private."""
    api = type(provider).__module__.startswith(("opentelemetry._logs", "opentelemetry.metrics"))
    return api and not isinstance(provider, NoOpLoggerProvider | NoOpMeterProvider)


def _readers(provider: Any, classes: Iterable[Any], given: Mapping[Any, Mapping[str, Any]]) -> Iterator[MetricReader]:
    for each in _missing(provider, classes, given):
        yield each if isinstance(each, MetricReader) else PeriodicExportingMetricReader(each)


def _missing(provider: Any, classes: Iterable[Any], given: Mapping[Any, Mapping[str, Any]]) -> Iterator[Any]:
    """Yield an exporter of each class, unless the provider has one that sends to the same place."""
    there = [each for each in within(provider, _DEPTH, fields_and_items) if isinstance(each, _KINDS)]
    for each in classes:
        if issubclass(each, MetricReader) and any(isinstance(other, each) for other in there):
            continue  # two would listen on one port
        exporter = each(**given.get(each, {}))
        if any(_is_same(exporter, other) for other in there):
            exporter.shutdown()
        else:
            yield exporter


def _is_same(ours: Any, other: Any) -> bool:
    """Return whether two exporters send to the same address, as far as their addresses are known."""
    address = _address(ours)
    related = isinstance(ours, type(other)) or isinstance(other, type(ours))
    return address == _address(other) if address is not None else related


def _address(exporter: Any) -> str | None:
    """Return where an exporter sends to: host and port, where OTLP's two ports are one; or a database."""
    if (url := getattr(exporter, "url", None)) is not None:
        return str(url)
    endpoint = getattr(exporter, "_endpoint", None)
    if not isinstance(endpoint, str):
        return None
    parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
    host = "localhost" if parts.hostname == "127.0.0.1" else parts.hostname
    return f"{host}:{_OTLP_GRPC if parts.port == _OTLP_HTTP else parts.port}"
