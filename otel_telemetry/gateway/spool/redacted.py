"""A request after redaction, and what makes it one, as receivers and transports need them.

The interfaces are here, because the gateway does not import the processors.
"""

from typing import Protocol

from otel_telemetry.base.destinations import Signal


class RedactedRequest(Protocol):
    """A request that is safe to store. Items that could not be redacted are left out and counted."""

    @property
    def body(self) -> bytes:
        """The serialized Export*ServiceRequest."""

    @property
    def items(self) -> int:
        """Number of spans, log records or data points in it."""

    @property
    def rejected(self) -> int:
        """Number of items that were left out."""

    @property
    def problem(self) -> str:
        """Why the first of them was left out, with its path."""


class RequestRedactor(Protocol):
    """Redacts one serialized Export*ServiceRequest. Safe to call from several threads."""

    def redact(self, signal: Signal, body: bytes) -> RedactedRequest:
        """Return the request without personal data; raises MalformedTelemetry."""
