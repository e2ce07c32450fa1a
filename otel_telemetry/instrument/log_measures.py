"""Metrics of the contract from log entries that are posted to the gateway: output rate, and policy drift.

No label comes from an entry: what it holds may be personal, and a metric's labels are for everybody to read.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import metrics
from opentelemetry.metrics import Meter

from otel_telemetry import conventions
from otel_telemetry.instrument.cache_measures import CacheMeasures
from otel_telemetry.instrument.cache_measures import default as cache_measures

_GENERATION: Final = "response_generation"
_VIOLATION: Final = "policy_violation"


class LogMeasures:
    """Counts `policy_violation` entries as drift; `response_generation` ones set the output rate."""

    def __init__(self, meter: Meter, measures: CacheMeasures) -> None:
        self._measures = measures
        self._rate = meter.create_gauge(
            conventions.TOKENS_PER_SECOND_METRIC, description="Output rate of the last call."
        )

    def record(self, event: str, payload: Mapping[str, Any]) -> None:
        """Record one entry that was accepted: `tokens / (latency_ms / 1000)` of its response, where both are known."""
        if event == _VIOLATION:
            self._measures.drifted("policy", 1)
        elif event == _GENERATION and isinstance(response := payload.get("response"), Mapping):
            tokens, latency = (_number(response.get(name)) for name in ("tokens", "latency_ms"))
            if tokens and latency:
                self._rate.set(tokens / (latency / 1_000))


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    return float(value) if known else None


default: Final = LogMeasures(metrics.get_meter(conventions.SCOPE_NAME), cache_measures)
"""Counts into whatever MeterProvider the process has."""
