"""The endpoints beside OTLP: /log, /cache, /telemetry, /feedback and /events (docs/http-api.md).

What they take becomes OTLP log records, and goes the way of all others: redacted, spooled, delivered to every sink.
"""

from otel_telemetry.gateway.rest.caching import Cache, Kept
from otel_telemetry.gateway.rest.clients import Clients
from otel_telemetry.gateway.rest.endpoints import Rest

__all__ = ["Cache", "Clients", "Kept", "Rest"]
