"""A thread beside a store that computes its database's rollups: shortly after rows were written, and at intervals."""

import logging
import threading
import time
from typing import Final

from otel_telemetry.base import metrics
from otel_telemetry.exporters.request_log.rollup.build import Builder

_log = logging.getLogger("otel_telemetry.request_log")

_PAUSE_SECONDS: Final = 15.0
#: It rests for so many times as long as it worked: a past day that rows still come for is not summed up all the time.
_REST: Final = 19.0


class Rollups:
    """Sums up what is missing, again and again, while rows are written; what goes wrong is tried again later."""

    def __init__(self, url: str, pause: float = _PAUSE_SECONDS) -> None:
        self._url = url
        self._pause = pause
        self._stop = threading.Event()
        self._written = threading.Event()
        self._thread: threading.Thread | None = None

    def written(self) -> None:
        """Record that rows were written; starts the thread at the first call."""
        self._written.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="otel-telemetry-rollups", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop after the span that is summed up right now."""
        self._stop.set()
        self._written.set()
        if self._thread is not None:
            self._thread.join(_PAUSE_SECONDS)

    def _run(self) -> None:
        pause = self._pause
        while not self._stop.wait(pause):
            self._written.wait()
            self._written.clear()
            began = time.monotonic()
            try:
                self._keep()
            except Exception:  # noqa: BLE001  # rows are there without it, only slower to sum up
                metrics.instrumentation_errors.add(1, {"component": "request_log"})
                _log.warning("rollups could not be made; it is tried again later", exc_info=True)
            pause = max(self._pause, _REST * (time.monotonic() - began))

    def _keep(self) -> None:
        if self._stop.is_set():
            return
        with Builder(self._url) as builder:
            for _ in builder.steps():
                if self._stop.is_set():
                    return
