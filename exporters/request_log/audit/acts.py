"""What operators do beside the rows, noted in the trail: replays, keys, look-ups of people."""

from collections.abc import Mapping
from typing import Any

from otel_telemetry.exporters.request_log.audit import trail
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database


def note(config: RequestLogSettings, what: str, details: Mapping[str, Any]) -> None:
    """Record an act, if the settings switch the trail on. Raises if that fails: then the act is not done."""
    if not config.audit.enabled:
        return
    engine = database.connect(config.url)
    try:
        with engine.begin() as connection:
            trail.act(connection, what, details)
    finally:
        engine.dispose()
