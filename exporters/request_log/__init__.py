"""Rows per request and per model call, in a database that people can query."""

from otel_telemetry.exporters.request_log.exporter import RequestLogSpanExporter

__all__ = ["RequestLogSpanExporter"]
