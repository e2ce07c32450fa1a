"""otel-telemetry."""
