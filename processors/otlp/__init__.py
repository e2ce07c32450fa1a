"""Redaction of OTLP requests on their bytes."""
