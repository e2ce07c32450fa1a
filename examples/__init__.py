"""Programs that use otel-telemetry the way its users would."""
