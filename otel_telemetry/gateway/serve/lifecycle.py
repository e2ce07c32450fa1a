"""The life of one serving process: start, serve until a signal or an order of the supervisor, stop in order."""

import asyncio
import contextlib
import gc
import logging
import math
import signal
import socket
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from starlette.applications import Starlette

from otel_telemetry.base import memory
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.receive import listen
from otel_telemetry.gateway.receive.http_server import HttpServer
from otel_telemetry.gateway.serve.group import Question, WorkerContext
from otel_telemetry.gateway.serve.prometheus import Exposition
from otel_telemetry.gateway.serve.reload import Load, Reloader, ReloadTargets

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_LOOK_SECONDS: Final = 0.005
#: How long a thread may keep the interpreter from the others: a request under way waits that long, step for step, for
#: the thread that writes rows. Python's own is 5 ms. benchmarks/gateway.py shows what a change does here.
_SWITCH_SECONDS: Final = 0.001

_log = logging.getLogger("otel_telemetry.gateway")


class Process(ABC):
    """Serves until it is stopped. In a group of processes it has a `worker` context."""

    def __init__(
        self, config: GatewaySettings, exposition: Exposition | None, worker: WorkerContext | None, load: Load | None
    ) -> None:
        listen.check(config)
        self._config = config
        self._worker = worker
        self._exposition = exposition or Exposition(worker)
        self._parts = contextlib.AsyncExitStack()
        self._load = load
        self._reloader: Reloader | None = None
        self._targets: ReloadTargets | None = None
        self._deadline = math.inf

    # --- what is different in each kind of process ------------------------------------------------------------------
    @abstractmethod
    async def _start(self, parts: contextlib.AsyncExitStack) -> None:
        """Start the parts; what stops each is put into `parts`."""

    @abstractmethod
    def _where(self) -> str:
        """Return the addresses where it serves, for its log."""

    @abstractmethod
    def _count_from_zero(self) -> None:
        """Show what it counts, before it counts."""

    async def _may_start(self, orders: asyncio.Queue[float]) -> bool:
        """Wait for what has to be there before the start; false where it is asked to stop meanwhile."""
        del orders
        return True

    # --- life -------------------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Begin to serve; returns once the ports answer. Raises ConfigurationError, with nothing left running."""
        async with contextlib.AsyncExitStack() as parts:
            try:
                await self._start(parts)
            except BaseException:
                self._deadline = time.monotonic()
                raise
            self._parts = parts.pop_all()
        if self._worker:
            self._worker.ready()
        else:
            _log.info("%s", self._where())

    async def stop(self, seconds: float | None = None) -> None:
        """Stop within about `seconds` (gateway.shutdown_seconds): finish requests, flush, deliver what can be."""
        self._deadline = time.monotonic() + (self._config.shutdown_seconds if seconds is None else seconds)
        await self._parts.aclose()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, or until the supervisor stops it. /metrics shows what this process counts."""
        self._exposition.install()
        self._count_from_zero()
        memory.limit_free_memory()
        sys.setswitchinterval(_SWITCH_SECONDS)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        orders: asyncio.Queue[float] = asyncio.Queue()
        self._follow(orders)
        if not await self._may_start(orders):
            return
        await self.start()
        gc.collect()
        gc.freeze()  # rules and modules stay for good: no later collection has to visit them
        reloading = self._reload()
        seconds = await orders.get()
        if reloading:
            reloading.cancel()
        await self._end(seconds, orders)

    async def _end(self, seconds: float, orders: asyncio.Queue[float]) -> None:
        """Stop within some seconds, or at once if the next order requires it."""
        if not self._worker:
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
        if self._worker:
            self._worker.on_stop(lambda seconds: put_later(loop, orders, seconds))
            return
        for number in _SIGNALS:
            loop.add_signal_handler(number, orders.put_nowait, self._config.shutdown_seconds)
        if self._load:
            self._reloader = Reloader(self._config, self._load)
            loop.add_signal_handler(signal.SIGHUP, self._reloader.ask)

    def _reload(self) -> asyncio.Task[None] | None:
        """Begin to take over new settings; None where a supervisor does so."""
        return asyncio.create_task(self._reloader.follow(self._targets)) if self._reloader and self._targets else None

    # --- parts that several kinds have ------------------------------------------------------------------------------
    async def _join(
        self, parts: contextlib.AsyncExitStack, health: Callable[[], bytes], *, wait_for_go: bool = False
    ) -> None:
        """In a group, answer the others, and wait until requests may be taken."""
        if not self._worker:
            return
        answers: dict[Question, Callable[[], bytes]] = {"metrics": self._exposition.own_text, "health": health}
        server = await self._worker.group.answer(self._worker.name, answers)
        parts.callback(server.close)
        if wait_for_go:
            await asyncio.to_thread(self._worker.wait_until_admitted)

    async def _start_http(
        self, parts: contextlib.AsyncExitStack, app: Starlette, listening: socket.socket
    ) -> HttpServer:
        server = HttpServer(app, self._config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        parts.push_async_callback(self._stop_http, server, serving)
        while not (server.started or serving.done()):  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(_LOOK_SECONDS)
        return server

    async def _stop_http(self, server: HttpServer, serving: asyncio.Task[None]) -> None:
        server.should_exit = True
        await self._until(serving.done)
        server.force_exit = True
        await serving

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done() and time.monotonic() < self._deadline:  # noqa: ASYNC110 - threads have no event for it
            await asyncio.sleep(_LOOK_SECONDS)


def put_later(loop: asyncio.AbstractEventLoop, orders: asyncio.Queue[float], seconds: float) -> None:
    """Put an order into the queue, from any thread."""
    with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: it is over anyway
        loop.call_soon_threadsafe(orders.put_nowait, seconds)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the event loop that a process runs on; None for Python's own, where there is no uvloop."""
    try:
        import uvloop  # noqa: PLC0415 - it is not there on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop


def version_here() -> str:
    """Return the version that is installed."""
    try:
        return version("otel-telemetry")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "unknown"
