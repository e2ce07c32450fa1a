"""One process of the gateway, or all of it: opens the spool, delivers, listens, and stops without losing anything.

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

from otel_telemetry.errors import SpoolDamaged
from otel_telemetry.gateway import listen, spool_file, tls
from otel_telemetry.gateway.auth import Keys
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.deliver import Delivery, Sink
from otel_telemetry.gateway.exposition import Exposition
from otel_telemetry.gateway.group import Question, Seat
from otel_telemetry.gateway.grpc import make_server
from otel_telemetry.gateway.health import Health
from otel_telemetry.gateway.http import Limits, make_app
from otel_telemetry.gateway.receive import Receiver, Redactor
from otel_telemetry.gateway.rest import Rest
from otel_telemetry.gateway.spool import Spool

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_LOOK_SECONDS: Final = 0.005
_DAMAGE_SECONDS: Final = 1.0
_DAMAGED: Final = -1.0  # among the seconds that a stop may take
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
    """Receives OTLP, redacts it, spools it, delivers it: all of it, or the part that `gateway.role` names.

    `redactor` is None where it only delivers. In a group of processes it has a `seat`. `grpc_port` and `http_port` are
    the ports it really has.
    """

    def __init__(
        self,
        config: GatewaySettings,
        redactor: Redactor | None,
        sinks: Sequence[Sink],
        exposition: Exposition | None = None,
        seat: Seat | None = None,
        *,
        rest: Rest | None = None,
    ) -> None:
        listen.check(config)
        self._config = config
        self._redactor = redactor
        self._sinks = tuple(sinks)
        self._seat = seat
        self._rest = rest or Rest()
        self._exposition = exposition or Exposition(seat)
        self._parts = contextlib.AsyncExitStack()
        self._deadline = math.inf
        self._on_damage: Callable[[], object] = lambda: None
        self.grpc_port = 0
        self.http_port = 0

    async def start(self) -> None:
        """Begin to serve; returns once the ports answer. Raises ConfigurationError, with nothing left running."""
        async with contextlib.AsyncExitStack() as parts:
            try:
                await self._start(parts)
            except BaseException:
                self._deadline = time.monotonic()
                raise
            self._parts = parts.pop_all()
        if self._seat:
            self._seat.ready()
        else:
            _log.info("%s", self._where())

    def _where(self) -> str:
        host = self._config.host
        otlp = f"OTLP/gRPC on {host}:{self.grpc_port}, OTLP/HTTP on" if self.grpc_port else "health and metrics on"
        return f"{otlp} {host}:{self.http_port}"

    async def _start(self, parts: contextlib.AsyncExitStack) -> None:
        config = self._config
        listening = self._listen(parts)
        spool = self._open_spool(parts)
        deliveries = self._start_deliveries(parts, spool)
        receiver = self._make_receiver(parts, spool)
        health = Health(spool, receiver, deliveries, {"version": _version()}, self._seat, cache=self._cache_state)
        await self._join(parts, health)
        keys = Keys(config.api_keys)
        rpc = await self._start_grpc(parts, receiver, keys) if receiver else None
        limits = Limits(config.max_body_bytes, config.max_json_bytes)
        parts.push_async_callback(self._rest.close)
        app = make_app(receiver, keys, health, self._exposition, limits, rest=self._rest)
        http = await self._start_http(parts, app, listening) if listening else None
        parts.push_async_callback(self._close_doors, health, rpc, http)

    async def stop(self, seconds: float | None = None) -> None:
        """Stop within about `seconds` (gateway.shutdown_seconds): finish requests, flush, deliver what can be."""
        self._deadline = time.monotonic() + (self._config.shutdown_seconds if seconds is None else seconds)
        await self._parts.aclose()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, or the supervisor says stop. /metrics shows all that this process counts."""
        self._exposition.install()
        sys.setswitchinterval(_SWITCH_SECONDS)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        orders: asyncio.Queue[float] = asyncio.Queue()
        self._follow(orders)
        await self.start()
        seconds = await orders.get()
        if seconds < 0:
            await self.stop(_DAMAGE_SECONDS)
            raise SpoolDamaged("the spool is damaged; the next start sets it right")
        if not self._seat:
            _log.info("stopping; a second signal makes it quicker")
        stopping = asyncio.create_task(self.stop(seconds))
        hurry = asyncio.create_task(orders.get())
        await asyncio.wait({stopping, hurry}, return_when=asyncio.FIRST_COMPLETED)
        self._deadline = time.monotonic()
        hurry.cancel()
        await stopping

    def _follow(self, orders: asyncio.Queue[float]) -> None:
        """Have every request to stop put into the queue, as the seconds that it may take."""
        loop = asyncio.get_running_loop()
        self._on_damage = lambda: _later(loop, orders, _DAMAGED)
        if self._seat:
            self._seat.obey(lambda seconds: _later(loop, orders, seconds))
            return
        for number in _SIGNALS:
            loop.add_signal_handler(number, orders.put_nowait, self._config.shutdown_seconds)

    # --- the parts, in the order of their start; they are stopped in reverse ----------------------------------------
    @property
    def _receives(self) -> bool:
        return self._config.role != "deliver"

    @property
    def _delivers(self) -> bool:
        return self._config.role != "receive"

    def _listen(self, parts: contextlib.AsyncExitStack) -> socket.socket | None:
        """Return the socket for HTTP; a group's receivers share one, and its deliverer has none."""
        if self._seat:
            return self._seat.http
        listening = parts.enter_context(listen.listen_http(self._config))
        if self._receives:
            listen.refuse_taken_grpc_port(self._config)
        return listening

    def _open_spool(self, parts: contextlib.AsyncExitStack) -> Spool:
        config = self._config
        if self._delivers and not self._seat:  # a group's supervisor has it
            parts.callback(os.close, spool_file.claim(config.spool_dir))
        spool = Spool(
            config.spool_dir,
            config.spool_max_bytes,
            config.spool_retention_hours,
            max_age_hours=config.spool_max_age_hours,
            max_dead_bytes=config.dead_letter_max_bytes,
            largest_body=config.max_body_bytes,
            keeper=self._delivers,
        )
        spool.on_damage = self._on_damage
        parts.push_async_callback(asyncio.to_thread, spool.close)
        parts.callback(self._exposition.watch(spool))
        if self._delivers:
            spool.attach([sink.name for sink in self._sinks])
        return spool

    @property
    def _cache_state(self) -> Callable[[], dict[str, str]] | None:
        return self._rest.cache.state if self._rest.cache and self._receives else None

    def _make_receiver(self, parts: contextlib.AsyncExitStack, spool: Spool) -> Receiver | None:
        if not self._receives or self._redactor is None:
            return None
        receiver = Receiver(self._redactor, spool, self._config.max_pending_bytes)
        parts.push_async_callback(asyncio.to_thread, receiver.close)
        return receiver

    async def _join(self, parts: contextlib.AsyncExitStack, health: Health) -> None:
        """In a group, answer the others, and wait until requests may be taken."""
        if not self._seat:
            return
        answers: dict[Question, Callable[[], bytes]] = {"metrics": self._exposition.own_text, "health": health.own_json}
        server = await self._seat.group.answer(self._seat.name, answers)
        parts.callback(server.close)
        if self._receives:
            await asyncio.to_thread(self._seat.wait_for_go)

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
        server = make_server(
            receiver,
            keys,
            self._config.max_body_bytes,
            share_port=self._seat is not None,
            connection_seconds=self._config.grpc_connection_seconds,
        )
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
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                proxy_headers=False,  # who is believed is a setting of ours; uvicorn believes all of this machine
                **tls.for_http(self._config),
            )
        )
        self.http_port = listening.getsockname()[1]
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        parts.push_async_callback(self._stop_http, server, serving)
        while not (server.started or serving.done()):  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(_LOOK_SECONDS)
        return server

    async def _close_doors(self, health: Health, rpc: grpc.aio.Server | None, http: _HttpServer | None) -> None:
        """Take no more requests on either port, then wait for those under way; HTTP winds down in its own task."""
        health.stop()
        if http:
            http.should_exit = True
        if rpc:
            await self._stop_grpc(rpc)

    async def _stop_http(self, server: _HttpServer, serving: asyncio.Task[None]) -> None:
        server.should_exit = True
        await self._until(serving.done)
        server.force_exit = True
        await serving

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done() and time.monotonic() < self._deadline:  # noqa: ASYNC110 - threads have no event for it
            await asyncio.sleep(_LOOK_SECONDS)


def _later(loop: asyncio.AbstractEventLoop, orders: asyncio.Queue[float], seconds: float) -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: it is over anyway
        loop.call_soon_threadsafe(orders.put_nowait, seconds)


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
