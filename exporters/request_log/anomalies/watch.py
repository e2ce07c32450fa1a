"""Checks the gateway's own rows for anomalies, and shows open incidents as a metric.

A read of /metrics requests a check, which runs in the background.
"""

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from opentelemetry import metrics as api
from opentelemetry.metrics import CallbackOptions, Observation

from otel_telemetry.base import conventions
from otel_telemetry.base.label_bounds import Label
from otel_telemetry.exporters.request_log.anomalies.config import AnomalySettings
from otel_telemetry.exporters.request_log.anomalies.incidents import Anomaly, look
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database
from otel_telemetry.exporters.request_log.kpis.definitions import Kpi

_SINCE: Final = timedelta(days=8)

_log = logging.getLogger("otel_telemetry.anomalies")


class Watch:
    """Checks at most every ten minutes, in a thread, and logs which incidents opened and closed."""

    def __init__(
        self, config: RequestLogSettings, settings: AnomalySettings, kpis: Sequence[Kpi] = (), again: float = 600.0
    ) -> None:
        self._config = config
        self._settings = settings
        self._kpis = kpis
        self._again = again
        self._labels = {name: Label() for name in ("service", "name")}
        self._open: dict[tuple[str, str, str, str], Anomaly] = {}
        self._looked = False
        self._not_before = 0.0
        self._lock = threading.Lock()
        meter = api.get_meter(conventions.SCOPE_NAME)
        description = "Hours unlike others that are going on, by service, level, name and measure: 1, by their root."
        meter.create_observable_gauge("otel_telemetry.anomaly", [self._observe], description=description)
        meter.create_observable_gauge(
            "otel_telemetry.anomalies_open", [self._count], description="How many such incidents are open."
        )

    def _observe(self, _: CallbackOptions) -> Iterable[Observation]:
        self._look_again()
        found: dict[tuple[str, ...], Observation] = {}
        for service, level, name, measure in self._open:
            words = {"service": self._labels["service"].word(service), "name": self._labels["name"].word(name)}
            labels = {**words, "level": level, "measure": measure}
            found[tuple(labels.values())] = Observation(1, labels)
        return found.values()

    def _count(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(len(self._open))] if self._looked else []

    def _look_again(self) -> None:
        with self._lock:
            if time.monotonic() < self._not_before:
                return
            self._not_before = time.monotonic() + self._again
        threading.Thread(target=self.look, name="otel-telemetry-anomalies", daemon=True).start()

    def look(self) -> None:
        """Check the rows. Never raises: other parts report problems of the database."""
        now = datetime.now(UTC)
        try:
            engine = database.reader(self._config.url)
            try:
                with engine.connect() as connection:
                    found = look(connection, self._settings, now - _SINCE, now, self._kpis)
            finally:
                engine.dispose()
        except Exception:  # noqa: BLE001  # it is tried again
            _log.warning("anomalies could not be looked for", exc_info=True)
            return
        current = {(one.service, one.level, one.name, one.measure): one for one in found.anomalies if one.end is None}
        for key in current.keys() - self._open.keys():
            _log.warning("opened: %s", current[key].text)
        for key in self._open.keys() - current.keys():
            _log.info("closed: %s", self._open[key].text)
        self._open, self._looked = current, True
