"""`LokiLogRecordExporter`: log records straight from an app's OpenTelemetry SDK to Loki, without a gateway.

It runs on the batch processor's thread. The SDK ignores a failed export, so retries happen here, within the timeout,
and what is lost in the end is counted with its reason. Nothing raises once the app is running.
"""

import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult

from otel_telemetry.base import admission, backoff, metrics
from otel_telemetry.base.destinations import Receipt
from otel_telemetry.base.errors import DeliveryRefused, StoreUnavailable
from otel_telemetry.exporters.loki.config import LokiSettings
from otel_telemetry.exporters.loki.sink import NAME, make_sink

_FIRST_PAUSE: Final = 0.25

_log = logging.getLogger("otel_telemetry.loki")


class LokiLogRecordExporter(LogRecordExporter):
    """Sends log records to Loki: `LokiLogRecordExporter(endpoint="http://127.0.0.1:3100")`, or with `config=`.

    Raises ConfigurationError at once where there is no endpoint, or certificates cannot be used.
    """

    def __init__(self, *, config: LokiSettings | None = None, **settings: Any) -> None:
        given = {name: getattr(config, name) for name in config.model_fields_set} if config is not None else {}
        self._config = LokiSettings.model_validate({**given, **settings})
        self._sink = make_sink(self._config)
        self._process = os.getpid()
        self._stopped = threading.Event()
        self._last_warning = ""

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Send a batch; what Loki does not keep is counted as dropped."""
        if self._stopped.is_set():
            return self._drop(len(batch), "shutdown", "the exporter was shut down")
        try:
            admitted = admission.logs(batch)
            if not admitted:
                return LogRecordExportResult.SUCCESS
            with suppress_instrumentation():
                return self._export(encode_logs(admitted).SerializeToString(), len(admitted))
        except DeliveryRefused as error:
            return self._drop(len(batch), error.reason, error.detail)
        except Exception as error:  # noqa: BLE001 - telemetry fails open: the app never learns of it
            return self._drop(len(batch), "export_failed", f"{type(error).__name__}: {error}")

    def _export(self, body: bytes, records: int) -> LogRecordExportResult:
        deadline = time.monotonic() + self._config.timeout
        failures, now = 0, time.time_ns()
        while True:
            try:
                return self._result_of(self._send(body, now))
            except StoreUnavailable as error:
                metrics.write_failures.add(1, {"exporter": NAME})
                failures += 1
                pause = backoff.pause(failures, _FIRST_PAUSE, self._config.timeout)
                wait = max(backoff.spread(pause), error.retry_after)
                if time.monotonic() + wait > deadline or self._stopped.wait(wait):
                    return self._drop(records, "destination_away", str(error))

    def _send(self, body: bytes, received_ns: int) -> Receipt:
        if self._process != os.getpid():  # after a fork, the connection is the parent's
            self._sink, self._process = make_sink(self._config), os.getpid()
        return self._sink.deliver_received("logs", [body], [received_ns]) or Receipt()

    def _result_of(self, receipt: Receipt) -> LogRecordExportResult:
        for part in receipt.rejected:
            self._drop(part.items, part.reason, part.detail)
        if receipt.rejected:
            return LogRecordExportResult.FAILURE
        self._last_warning = ""
        return LogRecordExportResult.SUCCESS

    def _drop(self, records: int, reason: str, why: str) -> LogRecordExportResult:
        """Count records as lost; log the first of a row of losses for the same reason."""
        metrics.dropped.add(records, {"signal": "logs", "reason": reason})
        if reason != self._last_warning:
            self._last_warning = reason
            _log.warning("%d log records do not reach Loki (%s): %s", records, reason, why)
        return LogRecordExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits here: an export has been sent when it returns."""
        del timeout_millis
        return True

    def shutdown(self) -> None:
        """Stop retrying and close the connection."""
        self._stopped.set()
        self._sink.close()
