"""Receive OTLP, redact it, keep it on disk, deliver it: receive -> spool -> deliver."""
