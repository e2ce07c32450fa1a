"""The endpoints other than OTLP: /log, /cache, /telemetry, /feedback and /events (docs/http-api.md).

Their input becomes OTLP log records, and is processed like all others: redacted, spooled, delivered to every sink.
"""

from otel_telemetry.gateway.receive.rest.cache import Cache, StoredValue
from otel_telemetry.gateway.receive.rest.endpoints import Rest
from otel_telemetry.gateway.receive.rest.rate_limit import Clients

__all__ = ["Cache", "Clients", "Rest", "StoredValue"]
