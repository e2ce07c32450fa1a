"""Every measurement the suite takes of itself, each defined once.

They go to whatever MeterProvider the process has (the gateway's is served at `/metrics`); without one they cost next to
nothing. Every loss has a counter here with its reason.
"""

from opentelemetry import metrics

from otel_telemetry import conventions

_meter = metrics.get_meter(conventions.SCOPE_NAME)

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
unpriced_calls = _meter.create_counter(
    "otel_telemetry.unpriced_calls", unit="{call}", description="Model calls without a known price, by model."
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
