"""OTLP bodies into rows, in this process: what `RequestLogSink` and its helpers do with their shares."""

from collections.abc import Iterable, Sequence

from otel_telemetry import records
from otel_telemetry.exporters.request_log import logs, rows, said
from otel_telemetry.exporters.request_log.collector import held_back
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.counted import Books, Kept
from otel_telemetry.exporters.request_log.node import Quiet
from otel_telemetry.exporters.request_log.store import Store
from otel_telemetry.exporters.request_log.turn import Turn


class Writer:
    """Writes the spans of trace requests, and of log requests what is told of model calls, workflows and by people.

    Metrics have no rows.
    """

    def __init__(self, config: RequestLogSettings, turn: Turn | None = None, books: Kept | None = None) -> None:
        self._store = Store(config, turn, books)

    @property
    def books(self) -> Books | Kept:
        """Where what it writes counts."""
        return self._store.books

    def open(self) -> None:
        """Open the database; see `Store.open` for what it raises."""
        self._store.open()

    def write(self, signal: str, bodies: Sequence[bytes]) -> None:
        """Write all spans, or all logs that become rows, of these bodies; each kind of them in one transaction.

        Raises StoreUnavailable to be called again later, and MalformedTelemetry for a body that is no OTLP.
        """
        with held_back():
            if signal == "traces":
                self._store.write(_spans(bodies))
            elif signal == "logs":
                self._write_logs(bodies)

    def _write_logs(self, bodies: Sequence[bytes]) -> None:
        calls = [call for body in bodies for call in logs.from_otlp(body)]
        told = [each for body in bodies for each in said.from_otlp(body)]
        if calls or not told:
            self._store.write(calls)
        if told:
            self._store.write_said(told)

    def close(self) -> None:
        """Close the database."""
        self._store.close()


def _spans(bodies: Iterable[bytes]) -> Iterable[records.Span | Quiet]:
    for body in bodies:
        yield from rows.place_otlp(body)
