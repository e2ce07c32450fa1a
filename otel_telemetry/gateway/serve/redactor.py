"""A process that only redacts, for a Collector on the same machine; it stores nothing."""

import asyncio
import contextlib
import json
import socket
from typing import Any

from otel_telemetry.base import metrics
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.receive import descriptors, listen, unix_socket
from otel_telemetry.gateway.receive.auth import Keys
from otel_telemetry.gateway.receive.cleaning import Redactor
from otel_telemetry.gateway.receive.http_server import HttpServer
from otel_telemetry.gateway.receive.origins import Origins
from otel_telemetry.gateway.receive.redaction import Redaction
from otel_telemetry.gateway.serve.group import WorkerContext
from otel_telemetry.gateway.serve.health import HealthReport, members
from otel_telemetry.gateway.serve.lifecycle import Process, version_here
from otel_telemetry.gateway.serve.prometheus import Exposition
from otel_telemetry.gateway.serve.redactor_http import make_app
from otel_telemetry.gateway.serve.reload import Load, ReloadTargets

_WITHOUT_TLS = {"tls_certificate": None, "tls_key": None, "tls_client_ca": None}


class RedactorHealth:
    """Shows whether redaction works here and, in a group, whether the other processes run."""

    def __init__(self, redaction: Redaction, worker: WorkerContext | None) -> None:
        self._redaction = redaction
        self._worker = worker
        self._stopping = False

    def stop(self) -> None:
        """Show from now on that the redactor is stopping."""
        self._stopping = True

    def report(self) -> HealthReport:
        """Try redaction, and ask the others."""
        parts = self._own()
        healthy = not self._stopping and parts["redaction"]["status"] == "ok"
        if self._worker:
            parts["processes"], _ = members(self._worker)
        away = any(one["status"] != "ok" for one in parts.get("processes", {}).values())
        status = "stopping" if self._stopping else "unhealthy" if not healthy else "degraded" if away else "ok"
        return HealthReport(status, healthy, {"version": version_here(), "parts": parts})

    def own_json(self) -> bytes:
        """Return the parts of this process, for the others of its group."""
        return json.dumps(self._own()).encode()

    def _own(self) -> dict[str, Any]:
        return {"redaction": {"status": "ok" if self._redaction.works() else "failing"}}


class RedactorProcess(Process):
    """Answers what it is asked to redact. `http_port` is the port it really has, 0 where it has a Unix socket."""

    def __init__(
        self,
        config: GatewaySettings,
        redactor: Redactor,
        exposition: Exposition | None = None,
        worker: WorkerContext | None = None,
        *,
        load: Load | None = None,
    ) -> None:
        if listen.on_socket(config):
            config = config.model_copy(update=_WITHOUT_TLS)
        super().__init__(config, exposition, worker, load)
        self._redactor = redactor
        self.http_port = 0

    def _where(self) -> str:
        return where(self._config, self.http_port)

    def _count_from_zero(self) -> None:
        metrics.redact_from_zero()

    async def _start(self, parts: contextlib.AsyncExitStack) -> None:
        config = self._config
        descriptors.raise_limit()
        listening = self._listen(parts)
        redaction = Redaction(self._redactor, config.max_pending_bytes)
        parts.push_async_callback(asyncio.to_thread, redaction.close)
        health = RedactorHealth(redaction, self._worker)
        await self._join(parts, health.own_json)
        keys, origins = Keys(config.api_keys), Origins(config)
        app = make_app(redaction, keys, health, self._exposition, limit=config.max_body_bytes, origins=origins)
        http = await self._start_http(parts, app, listening)
        self._targets = ReloadTargets(keys, origins, [redaction], None, http)
        parts.callback(self._close_listener, health, http)

    def _listen(self, parts: contextlib.AsyncExitStack) -> socket.socket:
        """Return the listening socket; those of a group share one."""
        if self._worker and self._worker.http:
            return self._worker.http
        listening = bind(self._config, parts)
        if not listen.on_socket(self._config):
            self.http_port = listening.getsockname()[1]
        return listening

    @staticmethod
    def _close_listener(health: RedactorHealth, http: HttpServer) -> None:
        health.stop()
        http.should_exit = True


def bind(config: GatewaySettings, parts: contextlib.ExitStack | contextlib.AsyncExitStack) -> socket.socket:
    """Return a listening socket; `parts` close it, and take its file away. Raises ConfigurationError."""
    if not listen.on_socket(config):
        return parts.enter_context(listen.listen_http(config))
    listening, remove = unix_socket.listen(config.socket)
    parts.callback(remove)
    return parts.enter_context(listening)


def where(config: GatewaySettings, port: int) -> str:
    """Return the address where it redacts."""
    return f"redacting on {config.socket if listen.on_socket(config) else f'{config.host}:{port}'}"
