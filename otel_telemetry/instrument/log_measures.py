"""The contract's metrics from log entries that are posted to the gateway, for apps that send nothing else.

A `response` (or the payload itself) has `tokens`, `latency_ms`, `ttfb_ms` and `model`; `tool` names the endpoint of the
app. Rate, latency and errors of endpoints are `gen_ai.client.operation.duration`, by endpoint and model. Everybody can
read labels, so none contains what may be personal: only names in the form of program identifiers without findings, and
of these the first hundred.
"""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from opentelemetry import metrics as otel_api
from opentelemetry.metrics import Meter

from otel_telemetry.base import conventions, metrics
from otel_telemetry.base.label_bounds import Label
from otel_telemetry.instrument.cache_measures import CacheMeasures
from otel_telemetry.instrument.cache_measures import default as cache_measures
from otel_telemetry.instrument.output_rate import OutputRate

_DRIFTS: Final = frozenset({"policy_violation", "policy_drift", "drift", "drift_incident"})
_REPAIRS: Final = frozenset({"content_repair", "response_repair", "repair"})
_FAILED: Final = frozenset({"error", "errored", "failed", "failure", "timeout"})
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]{0,63}")
_MOST_AT_ONCE: Final = 1_000
_MILLISECONDS: Final = 1_000


class LogMeasures:
    """Records each log entry's drift, repairs, output rate, first bytes, latency and errors."""

    def __init__(self, meter: Meter, measures: CacheMeasures) -> None:
        self._measures = measures
        self._rate = OutputRate(meter)
        self._ttfb = meter.create_histogram(
            conventions.TTFB_METRIC,
            "s",
            "Time to the first chunk with content, if streamed.",
            explicit_bucket_boundaries_advisory=conventions.TTFB_BUCKETS,
        )
        self._duration = meter.create_histogram(
            conventions.OPERATION_DURATION_METRIC,
            "s",
            "Duration of model calls.",
            explicit_bucket_boundaries_advisory=conventions.DURATION_BUCKETS,
        )
        self._labels = {name: Label() for name in ("endpoint", "model", "error")}

    def record(self, event: str, payload: Mapping[str, Any], redacted: Collection[str] = ()) -> None:
        """Record one event that was accepted; `redacted` are the names of the fields that redaction changed."""
        metrics.count_posted(event)
        given = payload.get("response")
        response: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
        fields = {**payload, **response}
        if event in _DRIFTS or fields.get("drift") is True:
            self._measures.drifted("policy", 1)
        repairs = fields.get("repairs", 1 if event in _REPAIRS or fields.get("repaired") is True else 0)
        if count := _number(repairs):
            self._measures.repaired("content", min(_MOST_AT_ONCE, math.ceil(count)))
        tokens, latency, first = (_number(fields.get(name)) for name in ("tokens", "latency_ms", "ttfb_ms"))
        if tokens and latency:
            self._rate.record(tokens, latency / _MILLISECONDS)
        if first:
            self._ttfb.record(first / _MILLISECONDS)
        failure = _failure(fields)
        if latency or (failure and event not in _DRIFTS):
            self._duration.record((latency or 0) / _MILLISECONDS, self._attributes(event, payload, failure, redacted))

    def _attributes(
        self, event: str, payload: Mapping[str, Any], failure: str | None, redacted: Collection[str]
    ) -> dict[str, str]:
        args = payload.get("args")
        models = [source.get("model") for source in (payload, args) if isinstance(source, Mapping)]
        found = {
            conventions.OPERATION_NAME: self._word("endpoint", payload.get("tool"), "tool" in redacted)
            or self._word("endpoint", event),
            conventions.REQUEST_MODEL: next(
                (word for m in models if (word := self._word("model", m, "model" in redacted))), ""
            ),
            conventions.ERROR_TYPE: self._word("error", failure, not {"error", "type"}.isdisjoint(redacted))
            or ("error" if failure else ""),
        }
        return {name: word for name, word in found.items() if word}

    def _word(self, label: str, value: Any, is_redacted: bool = False) -> str:
        if is_redacted or not isinstance(value, str) or not _NAME.fullmatch(value):
            return ""
        return self._labels[label].word(value)


def _failure(fields: Mapping[str, Any]) -> str | None:
    """Return the kind of an entry's error, None if it has none. A skipped call is no error."""
    error = fields.get("error")
    if isinstance(error, Mapping):
        kind = error.get("type")
        return kind if isinstance(kind, str) else "error"
    if error or fields.get("ok") is False or fields.get("success") is False:
        return "error"
    status = fields.get("status")
    return "error" if isinstance(status, str) and status.lower() in _FAILED else None


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    return float(value) if known else None


default: Final = LogMeasures(otel_api.get_meter(conventions.SCOPE_NAME), cache_measures)
"""Counts into whatever MeterProvider the process has."""
