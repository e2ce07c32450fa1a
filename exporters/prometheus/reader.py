"""A reader of the app's MeterProvider that serves all metrics to Prometheus, for all workers of the app at one port.

It never fails the app: if another program has the port, that is logged once, and the reader tries again.
"""

import contextlib
import http.server
import logging
import os
import socket
import threading
import weakref
from http import HTTPStatus
from typing import Any, Final

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from prometheus_client import CollectorRegistry, ProcessCollector

from otel_telemetry.base import admission, metrics
from otel_telemetry.base.prometheus_text import CONTENT_TYPE, merged, text_of
from otel_telemetry.exporters.prometheus.workers import WorkerEndpoint, folder_of, no_fork

PATH: Final = "/metrics"
_AGAIN_SECONDS: Final = 5.0
_REQUEST_SECONDS: Final = 10.0

_log = logging.getLogger("otel_telemetry.prometheus")


class PrometheusReader(PrometheusMetricReader):
    """Shows metrics at http://HOST:PORT/metrics. `service` distinguishes apps of one user and port."""

    def __init__(self, host: str, port: int, service: str) -> None:
        self._own = CollectorRegistry()
        super().__init__(registry=self._own, scope_info_enabled=False, disable_target_info=True)
        ProcessCollector(registry=self._own)
        self._address = host, port
        self._service = service
        self._endpoint: WorkerEndpoint | None = None
        self._server: _Server | None = None
        self._ended = threading.Event()
        self._begun = False
        self._begin()
        this = weakref.ref(self)
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=lambda: _after_fork(this()))

    def _begin(self) -> None:
        self._one_at_a_time = threading.Lock()  # the reader keeps what it collects in a list without a lock
        threading.Thread(target=self._speak, name="otel-telemetry-prometheus", daemon=True).start()

    def begin_anew(self) -> None:
        """Take a number of its own after a fork: the parent's belongs to the parent."""
        if self._ended.is_set():
            return
        self._ended = threading.Event()
        if self._server is not None:
            self._server.socket.close()
        if self._endpoint is not None:
            self._endpoint.give_up(forked=True)
        self._endpoint = self._server = None
        self._begin()

    def _speak(self) -> None:
        ended = self._ended
        try:
            folder = folder_of(self._service, self._address[1])
            if folder is not None:
                with no_fork:
                    self._endpoint = endpoint = WorkerEndpoint(folder, self.own_text)
                endpoint.wait_for_port()
            self._serve(ended)
        except Exception as error:  # noqa: BLE001  # telemetry must not fail the app, whatever the machine lacks
            _log.warning("metrics are not shown to Prometheus: %s", error)

    def _serve(self, ended: threading.Event) -> None:
        logged = False
        while not ended.is_set():
            try:
                with no_fork:
                    self._server = server = _Server(self._address, self.text)
            except OSError as error:
                if not logged:
                    hint = "set prometheus.port to a free one"
                    _log.warning("metrics are not shown at %s:%d: %s (%s)", *self._address, error.strerror, hint)
                    logged = True
                ended.wait(_AGAIN_SECONDS)
                continue
            server.serve_forever()
            return

    def _receive_metrics(self, metrics_data: Any, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        admitted = admission.metrics(metrics_data)
        if admitted is not None:
            super()._receive_metrics(admitted, timeout_millis, **kwargs)

    def own_text(self) -> bytes:
        """Return what this process counts, as OpenMetrics."""
        with self._one_at_a_time:
            if not self._begun:
                self._begun = True  # by now the provider is the process's
                metrics.export_from_zero()
            return text_of(self._own.collect(), openmetrics=True)

    def text(self) -> bytes:
        """Return what all workers count, each with its number as the label `process`."""
        endpoint = self._endpoint
        return text_of(merged({"1": self.own_text()} if endpoint is None else endpoint.all()))

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Release port and number."""
        self._ended.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        if self._endpoint is not None:
            self._endpoint.give_up()
        with contextlib.suppress(KeyError):  # a second time
            super().shutdown(timeout_millis, **kwargs)


def _after_fork(reader: PrometheusReader | None) -> None:
    if reader is not None:
        reader.begin_anew()


class _Server(http.server.ThreadingHTTPServer):
    """Answers GET /metrics."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], text: Any) -> None:
        self.text = text
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without asking DNS for a name, as the class above does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = _REQUEST_SECONDS
    server: _Server

    def do_GET(self) -> None:  # the name that the class above calls
        if self.path.partition("?")[0] != PATH:
            self.send_error(HTTPStatus.NOT_FOUND, f"metrics are at {PATH}")
            return
        text = self.server.text()
        self.send_response(HTTPStatus.OK)
        self.send_header("content-type", CONTENT_TYPE)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name of the class above
        """Log nothing: an app's output stays its own."""
