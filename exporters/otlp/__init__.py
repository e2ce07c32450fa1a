"""OTLP to other destinations: what the gateway has redacted and kept goes on as it is."""
