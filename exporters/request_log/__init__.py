"""Rows per request and per model call, of workflows and of feedback, in a database that people can query."""

from otel_telemetry.exporters.request_log.exporter import RequestLogLogExporter, RequestLogSpanExporter

__all__ = ["RequestLogLogExporter", "RequestLogSpanExporter"]
