"""Rows per request and per model call, of workflows and of feedback, in a database that people can query."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_telemetry.exporters.request_log.exporter import RequestLogLogExporter, RequestLogSpanExporter

__all__ = ["RequestLogLogExporter", "RequestLogSpanExporter"]


def __getattr__(name: str) -> Any:
    """Load the exporters where they are first named: settings import this package, and need no database."""
    if name in __all__:
        from otel_telemetry.exporters.request_log import exporter  # noqa: PLC0415  # loads SQLAlchemy

        return getattr(exporter, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
