"""The gateway's figures of spans and log records: a destination, present only if the settings define some."""

from collections.abc import Sequence

import sqlalchemy as sa

from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database, postgres
from otel_telemetry.exporters.request_log.kpis import observed
from otel_telemetry.exporters.request_log.kpis.definitions import Kpi
from otel_telemetry.exporters.request_log.kpis.measures import active


class KpiSink:
    """Reads what was redacted and acknowledged, and keeps the values that figures are made of."""

    name = "kpi"
    max_bytes = 4 << 20

    def __init__(self, config: RequestLogSettings, kpis: Sequence[Kpi]) -> None:
        self._config = config
        self._kpis = kpis
        self._engine: sa.Engine | None = None
        given: dict[str, Signal] = {"spans": "traces", "logs": "logs"}
        self.signals: frozenset[Signal] = frozenset(given[kpi.source] for kpi in kpis if kpi.source in given)

    def deliver(self, signal: Signal, bodies: Sequence[bytes]) -> None:
        """Write and count; raises StoreUnavailable to be called again, MalformedTelemetry for what is no OTLP."""
        seen = [one for body in bodies for one in observed.from_otlp(self._kpis, signal, body)]
        if not seen:
            return
        try:
            if self._engine is None:
                self._engine = postgres.sharing(database.connect(self._config.url))
            with self._engine.begin() as connection:
                new = observed.write(connection, seen)
        except StoreUnavailable:
            raise
        except Exception as error:
            raise database.unavailable(error) or error from error
        for one in new:
            active.seen(one.kpi, one.value)

    def close(self) -> None:
        """Close the database."""
        if self._engine is not None:
            self._engine.dispose()
