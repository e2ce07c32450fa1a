"""Every measurement the suite takes of itself, each defined once.

They go to whatever MeterProvider the process has (the gateway's is served at `/metrics`); without one they cost next to
nothing. Every loss has a counter here with its reason.
"""

from collections.abc import Iterable
from typing import Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from otel_telemetry.base import conventions
from otel_telemetry.base.histogram import Histogram
from otel_telemetry.base.label_bounds import OTHER

_meter = metrics.get_meter(conventions.SCOPE_NAME)

#: Whole answers of models take from less than a second to minutes, their first bytes some seconds at most. 2 s is where
#: the alert on the first byte stands.
_ANSWER_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 13, 20, 30, 60, 120, 300)
_FIRST_BYTE_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30)

#: Events that have a label of their own: other names come from outside.
_POSTED: Final = conventions.LOG_EVENTS | conventions.RUN_TYPES | conventions.STEP_TYPES
_SIGNALS: Final = ("traces", "logs", "metrics")


class Setting:
    """A number from the settings as a gauge, shown from the start; no value until it is set."""

    def __init__(self, name: str, unit: str, description: str) -> None:
        self.name: Final = name
        self._value: float | None = None
        _meter.create_observable_gauge(name, [self._observe], unit=unit, description=description)

    def set(self, value: float) -> None:
        """Show this value from now on."""
        self._value = value

    def _observe(self, _: CallbackOptions) -> Iterable[Observation]:
        return () if self._value is None else (Observation(self._value),)


redactions = _meter.create_counter(
    "otel_telemetry.redactions",
    unit="{finding}",
    description="Values redacted, by type, rule and service. The values themselves are never kept.",
)
leaks = _meter.create_counter(
    "otel_telemetry.leaks",
    unit="{finding}",
    description="Findings in a sample of what leaves after redaction, by signal and type. Must stay 0.",
)
leak_checks = _meter.create_counter(
    "otel_telemetry.leak_checks",
    unit="{check}",
    description="Requests, spans and log records that were looked at again after redaction, by signal.",
)
accepted = _meter.create_counter(
    "otel_telemetry.accepted", unit="{item}", description="Spans, log records and data points accepted, by signal."
)
posted = _meter.create_counter(
    "otel_telemetry.posted",
    unit="{event}",
    description="Events posted to /log and /event that were accepted, by event: those of the contract, or other.",
)
refused = _meter.create_counter(
    "otel_telemetry.refused",
    unit="{request}",
    description="Requests answered with an error, by signal and reason.",
)
repeated = _meter.create_counter(
    "otel_telemetry.repeated",
    unit="{request}",
    description="Requests sent again by a sender that had not waited for the answer, kept the first time, by signal.",
)
connections = _meter.create_gauge(
    "otel_telemetry.connections", unit="{connection}", description="Connections that are open, by listener."
)
connections_closed = _meter.create_counter(
    "otel_telemetry.connections_closed",
    unit="{connection}",
    description="Connections that the gateway closed of its own accord, by listener and reason (head_too_slow,"
    " body_too_slow, answer_not_read, handshake_failed, certificate_expired, no_room, address_full, unused,"
    " header_fields, control_frames).",
)
dropped = _meter.create_counter(
    "otel_telemetry.dropped",
    unit="{item}",
    description="Items lost on purpose, by signal and reason (redaction_failed, invalid, queue_full, shutdown).",
)
rows_written = _meter.create_counter(
    "otel_telemetry.rows_written", unit="{row}", description="Rows committed, by table."
)
rows_trimmed = _meter.create_counter(
    "otel_telemetry.rows_trimmed",
    unit="{row}",
    description="Rows deleted, or freed of their texts, because of their age, by table and what (row, text).",
)
write_failures = _meter.create_counter(
    "otel_telemetry.write_failures", unit="{attempt}", description="Failed writes that will be retried, by exporter."
)
delivered = _meter.create_counter(
    "otel_telemetry.delivered",
    unit="{item}",
    description="Spans, log records and data points that an exporter's destination has, by exporter and signal.",
)
rejected = _meter.create_counter(
    "otel_telemetry.rejected",
    unit="{item}",
    description="Items that a destination did not keep though it took their request, by exporter, signal and reason.",
)
unclear_answers = _meter.create_counter(
    "otel_telemetry.unclear_answers",
    unit="{answer}",
    description="Successes that are no OTLP response, by exporter and signal: from a proxy or a login page, perhaps.",
)
streams_merged = _meter.create_counter(
    "otel_telemetry.streams_merged",
    unit="{record}",
    description="Log records sent to Loki as service_name=other because of loki.max_streams, by exporter.",
)
delivery_duration = _meter.create_histogram(
    "otel_telemetry.delivery_duration",
    unit="s",
    description="Time that one call of a destination took, by exporter and outcome (delivered, retry, refused).",
    explicit_bucket_boundaries_advisory=[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
)
circuit = _meter.create_gauge(
    "otel_telemetry.circuit",
    description="Whether an exporter's destination is tried: 0 closed (all is well), 1 half open, 2 open.",
)
dead_lettered = _meter.create_counter(
    "otel_telemetry.dead_lettered",
    unit="{item}",
    description="Items kept aside because they can never be delivered, by exporter and reason.",
)
requests = _meter.create_counter(
    "otel_telemetry.requests",
    unit="{request}",
    description="Requests written to request_log, by service, region, route, model, degraded_reason and outcome.",
)
request_duration = Histogram(
    _meter,
    "otel_telemetry.request_duration",
    ("service", "region", "route", "model", "degraded_reason", "outcome"),
    _ANSWER_SECONDS,
    "Time that requests in request_log took.",
)
request_ttfb = Histogram(
    _meter,
    "otel_telemetry.request_ttfb",
    request_duration.labels,
    _FIRST_BYTE_SECONDS,
    "Time to the first byte of the answer of requests, where request_log knows it.",
)
llm_calls = _meter.create_counter(
    "otel_telemetry.llm_calls",
    unit="{call}",
    description="Model calls written to llm_call, by service, region, provider, model and outcome (ok, error).",
)
llm_call_duration = Histogram(
    _meter,
    "otel_telemetry.llm_call_duration",
    ("service", "region", "provider", "model", "outcome"),
    _ANSWER_SECONDS,
    "Time that model calls in llm_call took, with their retries.",
)
llm_call_ttfb = Histogram(
    _meter,
    "otel_telemetry.llm_call_ttfb",
    llm_call_duration.labels,
    _FIRST_BYTE_SECONDS,
    "Time to the first chunk of streamed model calls in llm_call.",
)
tokens = _meter.create_counter(
    "otel_telemetry.tokens",
    unit="{token}",
    description="Tokens of model calls in llm_call, by service, region, provider, model and type (prompt, with cached "
    "and cache_write in it; completion, with reasoning in it).",
)
cost_usd = _meter.create_counter(
    "otel_telemetry.cost_usd",
    unit="{USD}",
    description="Cost of model calls in llm_call, as far as it is known, by service, provider and model.",
)
cost_budget_per_day_usd = Setting(
    "otel_telemetry.cost_budget_per_day_usd",
    unit="{USD}",
    description="What a day may cost (request_log.cost_budget_per_day_usd), where that is set.",
)
unpriced_calls = _meter.create_counter(
    "otel_telemetry.unpriced_calls",
    unit="{call}",
    description="Model calls in llm_call without a known price, by service, region, provider, model and reason.",
)
unseen_model_calls = _meter.create_counter(
    "otel_telemetry.unseen_model_calls",
    unit="{request}",
    description="POSTs of an app that look like model calls in a form that is not known, by host.",
)
instrumentation_errors = _meter.create_counter(
    "otel_telemetry.instrumentation_errors",
    unit="{error}",
    description="Faults of our own instrumentation that the app was shielded from, by component.",
)
kpi_skipped = _meter.create_counter(
    "otel_telemetry.kpi_skipped",
    unit="{value}",
    description="Values that a figure of one's own could not take, by kpi and reason (no_number ...).",
)
cache_problems = _meter.create_counter(
    "otel_telemetry.cache_problems",
    unit="{operation}",
    description="Cache operations that came to nothing and were done without, by operation and reason.",
)

#: Shown by whoever shows this process's metrics itself (histogram.py).
HISTOGRAMS = (request_duration, request_ttfb, llm_call_duration, llm_call_ttfb)


def count_posted(event: str) -> None:
    """Count an event that was posted."""
    posted.add(1, {"event": event if event in _POSTED else OTHER})


def receive_from_zero() -> None:
    """Show what a receiver counts, before it counts: of a counter that begins with 1, nobody sees an increase."""
    redact_from_zero()
    for event in (*sorted(_POSTED), OTHER):
        posted.add(0, {"event": event})


def redact_from_zero() -> None:
    """Show what is counted of requests that are redacted, before there is any."""
    for signal in _SIGNALS:
        accepted.add(0, {"signal": signal})
        leak_checks.add(0, {"signal": signal})
        for reason in ("redaction_failed", "invalid"):
            dropped.add(0, {"signal": signal, "reason": reason})


def deliver_from_zero(exporter: str) -> None:
    """Show what is counted of deliveries to an exporter, before there is any."""
    write_failures.add(0, {"exporter": exporter})
    circuit.set(0, {"exporter": exporter})
    for signal in _SIGNALS:
        delivered.add(0, {"exporter": exporter, "signal": signal})
        rejected.add(0, {"exporter": exporter, "signal": signal, "reason": "partial_success"})
        for reason in ("unreadable", "expired", "dead_letters_full"):
            dropped.add(0, {"signal": signal, "exporter": exporter, "reason": reason})
    for reason in ("invalid", "too_large", "destination_error"):
        dead_lettered.add(0, {"exporter": exporter, "reason": reason})


def export_from_zero() -> None:
    """Show what an app counts that redacts and exports itself, before it counts."""
    for signal in _SIGNALS:
        leak_checks.add(0, {"signal": signal})
        for reason in ("redaction_failed", "queue_full", "shutdown"):
            dropped.add(0, {"signal": signal, "reason": reason})
