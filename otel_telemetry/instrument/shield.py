"""Keeps our own errors away from the app: each is counted, and logged once per component."""

import logging

from otel_telemetry.base import metrics

_logger = logging.getLogger(__name__)
_logged: set[str] = set()


def shielded(component: str, error: BaseException) -> None:
    """Count a fault of our own in `component` and warn about the first one; never raises."""
    try:
        metrics.instrumentation_errors.add(1, {"component": component, "error.type": type(error).__name__})
        if component not in _logged:
            _logged.add(component)
            _logger.warning("otel_telemetry: %s failed and is carried on without: %r", component, error)
    except Exception:  # noqa: BLE001, S110 - the last line of defence: there is nobody left to tell
        pass
