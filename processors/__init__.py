"""Processors: remove personal data and secrets from text, spans, log records, metrics and OTLP requests."""
