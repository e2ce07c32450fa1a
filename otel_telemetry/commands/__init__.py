"""The commands of `otel-telemetry`, one module each, and what only they need."""
