"""The gateway as a whole: opens the spool, starts delivery, listens, and stops without losing what it acknowledged.

Stopping: no new requests, those under way are finished and answered, the spool is flushed, the sinks get what they can
take in the time left; the rest is in the spool and goes out after the next start. A second signal shortens the waiting.
"""

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import grpc.aio
import uvicorn
from starlette.applications import Starlette

from otel_telemetry.errors import ConfigurationError
from otel_telemetry.gateway import listen, spool_file
from otel_telemetry.gateway.auth import Keys
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.deliver import Delivery, Sink
from otel_telemetry.gateway.exposition import Exposition
from otel_telemetry.gateway.grpc import make_server
from otel_telemetry.gateway.health import Health
from otel_telemetry.gateway.http import Limits, make_app
from otel_telemetry.gateway.receive import Receiver, Redactor
from otel_telemetry.gateway.spool import Spool

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_LOOK_SECONDS: Final = 0.005
#: How long a thread may keep the interpreter from the others: a request under way waits that long, step for step, for
#: the thread that writes rows. Python's own is 5 ms. benchmarks/gateway.py shows what a change does here.
_SWITCH_SECONDS: Final = 0.001

_log = logging.getLogger("otel_telemetry.gateway")


class _HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: the gateway stops all of its parts in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Gateway:
    """Receives OTLP, redacts it, spools it, delivers it. `grpc_port` and `http_port` are the ports it really has."""

    def __init__(
        self,
        config: GatewaySettings,
        redactor: Redactor,
        sinks: Sequence[Sink],
        exposition: Exposition | None = None,
    ) -> None:
        listen.refuse_open_house(config)
        if config.spool_max_bytes < config.max_body_bytes:
            raise ConfigurationError(
                "gateway.spool_max_bytes",
                "a request as large as gateway.max_body_bytes would never find room",
                f"set it to {config.max_body_bytes} or more, or lower gateway.max_body_bytes",
            )
        self._config = config
        self._redactor = redactor
        self._sinks = tuple(sinks)
        self._exposition = exposition or Exposition()
        self._parts = contextlib.AsyncExitStack()
        self._deadline = math.inf
        self.grpc_port = 0
        self.http_port = 0

    async def start(self) -> None:
        """Begin to serve; returns once both ports answer. Raises ConfigurationError, with nothing left running."""
        async with contextlib.AsyncExitStack() as parts:
            try:
                await self._start(parts)
            except BaseException:
                self._deadline = time.monotonic()
                raise
            self._parts = parts.pop_all()
        where = self._config.host
        _log.info("OTLP/gRPC on %s:%d, OTLP/HTTP on %s:%d", where, self.grpc_port, where, self.http_port)

    async def _start(self, parts: contextlib.AsyncExitStack) -> None:
        config = self._config
        listening = parts.enter_context(listen.listen_http(config))
        listen.refuse_taken_grpc_port(config)
        spool = self._open_spool(parts)
        deliveries = self._start_deliveries(parts, spool)
        receiver = Receiver(self._redactor, spool, config.max_pending_bytes)
        parts.push_async_callback(asyncio.to_thread, receiver.close)
        keys = Keys(config.api_keys)
        health = Health(spool, receiver, deliveries, {"version": _version()})
        limits = Limits(config.max_body_bytes, config.max_json_bytes)
        rpc = await self._start_grpc(parts, receiver, keys)
        app = make_app(receiver, keys, health, self._exposition, limits)
        http = await self._start_http(parts, app, listening)
        parts.push_async_callback(self._close_doors, health, rpc, http)

    async def stop(self, seconds: float | None = None) -> None:
        """Stop within about `seconds` (gateway.shutdown_seconds): finish requests, flush, deliver what can be."""
        self._deadline = time.monotonic() + (self._config.shutdown_seconds if seconds is None else seconds)
        await self._parts.aclose()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. /metrics then shows what this whole process counts."""
        self._exposition.install()
        sys.setswitchinterval(_SWITCH_SECONDS)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        signals: asyncio.Queue[None] = asyncio.Queue()
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, None)
        await self.start()
        await signals.get()
        _log.info("stopping; a second signal makes it quicker")
        stopping = asyncio.create_task(self.stop())
        hurry = asyncio.create_task(signals.get())
        await asyncio.wait({stopping, hurry}, return_when=asyncio.FIRST_COMPLETED)
        self._deadline = time.monotonic()
        hurry.cancel()
        await stopping

    # --- the parts, in the order of their start; they are stopped in reverse ----------------------------------------
    def _open_spool(self, parts: contextlib.AsyncExitStack) -> Spool:
        config = self._config
        parts.callback(os.close, spool_file.claim(config.spool_dir))
        spool = Spool(config.spool_dir, config.spool_max_bytes, config.spool_retention_hours)
        parts.push_async_callback(asyncio.to_thread, spool.close)
        parts.callback(self._exposition.watch(spool))
        spool.attach([sink.name for sink in self._sinks])
        return spool

    def _start_deliveries(self, parts: contextlib.AsyncExitStack, spool: Spool) -> list[Delivery]:
        deliveries = [Delivery(spool, sink) for sink in self._sinks]
        parts.push_async_callback(self._drain, deliveries)
        for delivery in deliveries:
            delivery.start()
        return deliveries

    async def _drain(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            delivery.stop()
        await self._until(lambda: all(delivery.finished() for delivery in deliveries))
        for delivery in deliveries:
            delivery.abandon()  # where a sink hangs, its thread is left behind; what it did not confirm is kept

    async def _start_grpc(self, parts: contextlib.AsyncExitStack, receiver: Receiver, keys: Keys) -> grpc.aio.Server:
        server = make_server(receiver, keys, self._config.max_body_bytes)
        self.grpc_port = listen.bind_grpc(server, self._config)
        await server.start()
        parts.push_async_callback(self._stop_grpc, server)
        return server

    async def _stop_grpc(self, server: grpc.aio.Server) -> None:
        stopping = asyncio.create_task(server.stop(self._config.shutdown_seconds))
        await self._until(stopping.done)
        await server.stop(0)
        await stopping

    async def _start_http(
        self, parts: contextlib.AsyncExitStack, app: Starlette, listening: socket.socket
    ) -> _HttpServer:
        server = _HttpServer(
            uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False)
        )
        self.http_port = listening.getsockname()[1]
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        parts.push_async_callback(self._stop_http, server, serving)
        while not (server.started or serving.done()):  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(_LOOK_SECONDS)
        return server

    async def _close_doors(self, health: Health, rpc: grpc.aio.Server, http: _HttpServer) -> None:
        """Take no more requests on either port, then wait for those under way; HTTP winds down in its own task."""
        health.stop()
        http.should_exit = True
        await self._stop_grpc(rpc)

    async def _stop_http(self, server: _HttpServer, serving: asyncio.Task[None]) -> None:
        server.should_exit = True
        await self._until(serving.done)
        server.force_exit = True
        await serving

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done() and time.monotonic() < self._deadline:  # noqa: ASYNC110 - threads have no event for it
            await asyncio.sleep(_LOOK_SECONDS)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - it is not there on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop


def _version() -> str:
    try:
        return version("otel-telemetry")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "unknown"
