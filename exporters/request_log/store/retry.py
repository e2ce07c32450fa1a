"""Writing from an app's own process: retried if that can help, otherwise counted as lost; never raises.

The SDK's exporters for spans and for logs share one store for one configuration: one connection, one writer at a time.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakValueDictionary

from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_telemetry.base import backoff, metrics
from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.store.store import Store

_log = logging.getLogger("otel_telemetry.request_log")

#: A locked database is already waited for by the database itself.
_TRIES: Final = 5
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 2.0

_stores: WeakValueDictionary[RequestLogSettings, Store] = WeakValueDictionary()
_making = threading.Lock()


def store_of(config: RequestLogSettings) -> Store:
    """Return the store of a configuration: the same one for all its users."""
    with _making:
        store = _stores.get(config)
        if store is None:
            store = _stores[config] = Store(config)
        return store


def settings_of(url: str | None, config: RequestLogSettings | None, settings: dict[str, Any]) -> RequestLogSettings:
    """Return the settings of an exporter: those that were given one by one go before the configuration."""
    given = {**settings, "url": url} if url is not None else settings
    return RequestLogSettings.model_validate({**(config.model_dump() if config is not None else {}), **given})


class RetryingWriter:
    """Writes items of one signal."""

    def __init__(self, signal: str) -> None:
        self._signal = signal
        self._stopped = threading.Event()
        self._failed: str | None = None

    def run(self, items: int, write: Callable[[], object]) -> bool:
        """Call `write` until it succeeds or cannot succeed; return whether it did. What is lost is counted."""
        if self._stopped.is_set():
            return self.drop(items, "shutdown")
        try:
            with suppress_instrumentation():
                return self._run(items, write)
        except Exception as error:  # noqa: BLE001  # telemetry fails open: the app never learns of it
            self._warn(f"cannot write to request_log: {error}")
            return self.drop(items, "store_failed")

    def _run(self, items: int, write: Callable[[], object]) -> bool:
        for tries in range(1, _TRIES + 1):
            try:
                write()
            except StoreUnavailable as error:
                metrics.write_failures.add(1, {"exporter": "request_log"})
                self._warn(str(error))
                pause = backoff.pause(tries, _FIRST_PAUSE, _LONGEST_PAUSE)
                if tries == _TRIES or self._stopped.wait(pause):
                    break
            else:
                self._failed = None
                return True
        return self.drop(items, "store_unavailable")

    def drop(self, items: int, reason: str) -> bool:
        """Count items that are lost; False."""
        metrics.dropped.add(items, {"signal": self._signal, "reason": reason})
        return False

    def stop(self) -> None:
        """Try nothing again."""
        self._stopped.set()

    def _warn(self, problem: str) -> None:
        """Log a problem once, until a write succeeds or the problem becomes another."""
        if problem != self._failed:
            self._failed = problem
            _log.warning("%s", problem)
