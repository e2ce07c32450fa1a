"""OTLP bodies into rows, in this process: what `RequestLogSink` and its helpers do with their shares."""

from collections.abc import Iterable, Sequence

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db.write_lock import WriteLock
from otel_telemetry.exporters.request_log.derive.facts import IrrelevantSpan
from otel_telemetry.exporters.request_log.events import app_events
from otel_telemetry.exporters.request_log.read import logs, span_facts
from otel_telemetry.exporters.request_log.store.counts import Counters, DeferredCounters
from otel_telemetry.exporters.request_log.store.gc_pause import held_back
from otel_telemetry.exporters.request_log.store.store import Store, Written


class Writer:
    """Writes the spans of trace requests, and model calls, workflows and people's events from log requests.

    Metrics have no rows.
    """

    def __init__(
        self, config: RequestLogSettings, write_lock: WriteLock | None = None, counters: DeferredCounters | None = None
    ) -> None:
        self._store = Store(config, write_lock, counters)

    @property
    def counters(self) -> Counters | DeferredCounters:
        """Where what it writes counts."""
        return self._store.counters

    def open(self) -> None:
        """Open the database; see `Store.open` for what it raises."""
        self._store.open()

    def write(self, signal: str, bodies: Sequence[bytes]) -> Written:
        """Write all spans, or all logs that become rows, of these bodies; see `Store` for its transactions.

        Raises StoreUnavailable to be called again later, and MalformedTelemetry for a body that is no OTLP.
        """
        with held_back():
            if signal == "traces":
                return self._store.write(_spans(bodies))
            if signal == "logs":
                return self._write_logs(bodies)
        return Written()

    def _write_logs(self, bodies: Sequence[bytes]) -> Written:
        calls = [call for body in bodies for call in logs.from_otlp(body)]
        events = [each for body in bodies for each in app_events.from_otlp(body)]
        written = Written()
        if calls or not events:
            written.add(self._store.write(calls))
        if events:
            written.add(self._store.write_events(events))
        return written

    def close(self) -> None:
        """Close the database."""
        self._store.close()


def _spans(bodies: Iterable[bytes]) -> Iterable[records.Span | IrrelevantSpan]:
    for body in bodies:
        yield from span_facts.condensed_from_otlp(body)
