"""What really leaves a process, for programs that run beside other distributions: a server takes what they send.

A program is this file, what its neighbour needs, and the steps: see test_real_distributions.py.
"""

import gzip
import logging
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry import _logs, metrics, trace

import otel_telemetry

PLANTED, KNOWN = "erika.muster@example.org", "blauwal"
sent: list[bytes] = []


class Taker(BaseHTTPRequestHandler):
    """Takes OTLP over HTTP, and what Application Insights takes."""

    def do_POST(self) -> None:  # the base class's name
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
        sent.append(body)
        items = body.count(b"baseType")
        answer = b'{"itemsReceived": %d, "itemsAccepted": %d, "errors": []}' % (items, items) if items else b""
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Taker)
threading.Thread(target=server.serve_forever, daemon=True).start()
URL = f"http://127.0.0.1:{server.server_port}"


def ours() -> None:
    otel_telemetry.configure(service_name="x", exporter="request_log", request_log={"url": "sqlite:///rows.db"})


def work(provider: Any = None) -> None:
    """Make a span, an event, a log record and a measurement, each with what must not leave."""
    both = f"{KNOWN} {PLANTED}"
    tracer = (provider or trace.get_tracer_provider()).get_tracer("t")
    with tracer.start_as_current_span("to " + PLANTED, attributes={"note": both}) as span:
        span.add_event(KNOWN, {"inner": PLANTED})
        logging.getLogger("shop").warning("%s wrote to %s", KNOWN, PLANTED)
    metrics.get_meter("t").create_counter("orders").add(1, {"note": both})


def done(*providers: Any, least: int = 1) -> None:
    """Wait for what was sent, and say so if nothing raw was among it."""
    every = (*providers, trace.get_tracer_provider(), _logs.get_logger_provider(), metrics.get_meter_provider())
    for provider in every:
        if hasattr(provider, "force_flush"):
            provider.force_flush()
    end = time.monotonic() + 90
    while len(_known()) < least and time.monotonic() < end:
        time.sleep(0.05)
    assert len(_known()) >= least, sent
    assert all(PLANTED.encode() not in body for body in sent), sent
    assert all(b"REDACTED" in body for body in _known()), sent
    print("clean", flush=True)  # noqa: T201
    os._exit(0)


def _known() -> list[bytes]:
    return [body for body in sent if KNOWN.encode() in body]
