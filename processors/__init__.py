"""Processors: text, spans, logs and OTLP go in, the same without personal data comes out."""
