"""Zero code: what `opentelemetry-instrument` loads from the entry points of this package."""

import logging
from typing import Any, Final

from opentelemetry.instrumentation.dependencies import DependencyConflictError
from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]  # it has no annotations
from opentelemetry.sdk._configuration import _BaseConfigurator
from opentelemetry.util._importlib_metadata import EntryPoint

from otel_telemetry import assemble, settings
from otel_telemetry.app import console
from otel_telemetry.base import metrics
from otel_telemetry.exporters import request_log
from otel_telemetry.exporters.loki import exporter as loki
from otel_telemetry.exporters.prometheus import reader

_logger = logging.getLogger(__name__)
_FAILED: Final = (
    "otel_telemetry: the instrumentation %s failed to start and is left out: %r; the others are started. Next: update"
    " its package, or set OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=%s"
)


class TelemetryDistro(BaseDistro):  # type: ignore[misc]  # the same
    """Sets the OTEL_* defaults, and hands our hooks to the instrumentations of FastAPI and model calls."""

    def _configure(self, **kwargs: Any) -> None:
        del kwargs
        resolved = assemble.load_settings()
        if resolved is not None:
            assemble.default_environment(resolved)

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Start one instrumentation, with our options where it has some.

        One that fails, by whatever fault of its own, is counted and logged, and the others start: OpenTelemetry's
        loader passes over those that cannot be imported, but would stop at any other exception.
        """
        resolved = assemble.load_settings()
        if resolved is None or not assemble.instrumented(resolved, entry_point.name):
            return
        options = assemble.instrumentation_options(resolved, entry_point.name)
        try:
            super().load_instrumentor(entry_point, **kwargs, **options)
        except (ImportError, DependencyConflictError):
            raise  # the loader says what is not installed, or does not fit
        except Exception as error:  # noqa: BLE001 - whatever a neighbour's module does when it is imported
            metrics.instrumentation_errors.add(1, {"component": entry_point.name, "error.type": type(error).__name__})
            _logger.warning(_FAILED, entry_point.name, error, entry_point.name)
        console.keep_last_resort()


class TelemetryConfigurator(_BaseConfigurator):
    """Starts the SDK with redaction in front of every exporter."""

    def _configure(self, **kwargs: Any) -> None:
        resolved = assemble.load_settings()
        if resolved is not None:
            assemble.start_sdk(resolved, **kwargs)


def before_instrumentation() -> None:
    """Protect what has been started by now: `opentelemetry-instrument` may have loaded another configurator than ours.

    It does where OTEL_PYTHON_CONFIGURATOR names one, or where another distribution that has one was found first.
    """
    assemble.protect_sdk()


class RequestLogSpanExporter(request_log.RequestLogSpanExporter):
    """The request_log exporter as `OTEL_TRACES_EXPORTER=request_log` makes it: from the settings.

    In a file that OTEL_CONFIG_FILE names, what stands under `request_log:` goes before them.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(config=settings.load(**({"request_log": given} if given else {})).request_log)


class LokiLogRecordExporter(loki.LokiLogRecordExporter):
    """The Loki exporter as `OTEL_LOGS_EXPORTER=loki` makes it: from the settings, or from `loki:` in the same file."""

    def __init__(self, **given: Any) -> None:
        super().__init__(config=settings.load(**({"loki": given} if given else {})).loki)


class PrometheusReader(reader.PrometheusReader):
    """The Prometheus exporter as the SDK makes it: from the settings, or OpenTelemetry's own variables."""

    def __init__(self, **given: Any) -> None:
        super().__init__(*assemble.prometheus_address(settings.load(**({"prometheus": given} if given else {}))))


class RequestLogLogExporter(request_log.RequestLogLogExporter):
    """The same for log records, as `OTEL_LOGS_EXPORTER=request_log` makes it."""

    def __init__(self, **given: Any) -> None:
        super().__init__(config=settings.load(**({"request_log": given} if given else {})).request_log)
