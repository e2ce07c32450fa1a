"""Every measurement the suite takes of itself, each defined once.

They go to whatever MeterProvider the process has (the gateway's is served at `/metrics`); without one they cost next to
nothing. Every loss has a counter here with its reason.
"""

from opentelemetry import metrics

from otel_telemetry import conventions
from otel_telemetry.histogram import Histogram

_meter = metrics.get_meter(conventions.SCOPE_NAME)

#: Whole answers of models take from less than a second to minutes, their first bytes some seconds at most. 2 s is where
#: the alert on the first byte stands.
_ANSWER_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 13, 20, 30, 60, 120, 300)
_FIRST_BYTE_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30)

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
refused = _meter.create_counter(
    "otel_telemetry.refused",
    unit="{request}",
    description="Requests answered with an error, by signal and reason. The sender was told.",
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
    description="Requests written to request_log, by service, route, model, degraded_reason and outcome (ok, error).",
)
request_duration = Histogram(
    _meter,
    "otel_telemetry.request_duration",
    ("service", "route", "model", "degraded_reason", "outcome"),
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
    description="Model calls written to llm_call, by service, provider, model and outcome (ok, error).",
)
llm_call_duration = Histogram(
    _meter,
    "otel_telemetry.llm_call_duration",
    ("service", "provider", "model", "outcome"),
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
    description="Tokens of model calls in llm_call, by service, provider, model and type (prompt, with cached and "
    "cache_write in it; completion, with reasoning in it).",
)
cost_usd = _meter.create_counter(
    "otel_telemetry.cost_usd",
    unit="{USD}",
    description="Cost of model calls in llm_call, as far as it is known, by service, provider and model.",
)
cost_budget_per_day_usd = _meter.create_gauge(
    "otel_telemetry.cost_budget_per_day_usd",
    unit="{USD}",
    description="What a day may cost (request_log.cost_budget_per_day_usd), where that is set.",
)
unpriced_calls = _meter.create_counter(
    "otel_telemetry.unpriced_calls",
    unit="{call}",
    description="Model calls in llm_call without a known price, by service, provider, model and reason.",
)
instrumentation_errors = _meter.create_counter(
    "otel_telemetry.instrumentation_errors",
    unit="{error}",
    description="Faults of our own instrumentation that the app was shielded from, by component.",
)
cache_problems = _meter.create_counter(
    "otel_telemetry.cache_problems",
    unit="{operation}",
    description="Cache operations that came to nothing and were done without, by operation and reason.",
)

#: Shown by whoever shows this process's metrics itself (histogram.py).
HISTOGRAMS = (request_duration, request_ttfb, llm_call_duration, llm_call_ttfb)
