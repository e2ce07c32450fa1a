"""OTLP to other destinations: sends on what the gateway has redacted and stored."""
