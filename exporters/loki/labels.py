"""Limits the number of streams: whatever senders do, Loki gets at most `loki.max_streams` label sets at a time."""

import time
from typing import Final

from otel_telemetry.base import metrics
from otel_telemetry.exporters.loki.lines import Labels, Line

_OTHER: Final = "other"
_IDLE_SECONDS: Final = 1800.0  # after which Loki has closed a stream, so that another may take its place


class Streams:
    """The label sets in use. Not thread-safe."""

    def __init__(self, limit: int, exporter: str) -> None:
        self._limit = limit
        self._exporter = exporter
        self._used: dict[Labels, float] = {}

    def assign(self, line: Line) -> None:
        """Leave the labels if there is room for them; else the service becomes `other`, its name goes to metadata."""
        now = time.monotonic()
        if line.labels in self._used or self._make_room(now):
            self._used[line.labels] = now
            return
        line.metadata["service"] = line.labels.service_name
        if line.labels.environment:
            line.metadata["environment"] = line.labels.environment
        line.labels = Labels(_OTHER, "", line.labels.level)
        metrics.streams_merged.add(1, {"exporter": self._exporter})

    def _make_room(self, now: float) -> bool:
        if len(self._used) >= self._limit:
            self._used = {labels: used for labels, used in self._used.items() if now - used < _IDLE_SECONDS}
        return len(self._used) < self._limit
