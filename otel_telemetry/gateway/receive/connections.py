"""HTTP connections: accepted up to a limit, timed, and counted.

At the limit a new connection replaces those that have waited longest without a request, so that nobody can keep others
out by opening connections and leaving them idle. If every connection has a request in progress, a few more are
accepted, to ask for /health and /metrics; beyond these, new ones wait in the listening socket's queue.
"""

import asyncio
import errno
import heapq
import logging
import math
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from uvicorn import Config
from uvicorn.server import ServerState

from otel_telemetry.base import metrics
from otel_telemetry.gateway.receive import tls
from otel_telemetry.gateway.receive.addresses import origin
from otel_telemetry.gateway.receive.http_protocol import HttpProtocol

HANDSHAKE_SECONDS: Final = 10.0
_LAST_HANDSHAKE_SECONDS: Final = 1.0
_SWEEP_SECONDS: Final = 1.0
_AT_ONCE: Final = 64  # accepted, before the others have their turn
_LIMIT_TO_EVICTED: Final = 64
_EXTRA: Final = 16  # let in beyond the bound, to ask for /health
_LOG_SECONDS: Final = 60.0
_READ_BYTES: Final = 64 << 10  # of a connection at a time: so much of a request may be in memory before it is worked on
_HTTP: Final = "http"
_TCP: Final = frozenset({socket.AF_INET, socket.AF_INET6})
_NO_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = logging.getLogger("otel_telemetry.gateway")


class Connections:
    """Accepts connections from a listening socket, at most `limit` at once, and closes those that take too long."""

    def __init__(
        self, config: Config, state: ServerState, listening: socket.socket, limit: int, by_address: int = 0
    ) -> None:
        self._config = config
        self._state = state
        self._listening = listening
        self._limit = limit
        self._by_address = by_address
        self._loop = asyncio.get_running_loop()
        self._evicted_at_once = max(1, limit // _LIMIT_TO_EVICTED)
        self._tasks: set[asyncio.Task[None]] = set()
        self._handshakes: dict[_Counted, asyncio.Task[None]] = {}
        self._open: set[_Counted] = set()
        self._accepting = False
        self._ended = tls.Ended()
        if config.ssl:
            tls.bound_buffers(listening)
        self._sweep = self._loop.call_later(_SWEEP_SECONDS, self._look)
        self._complaint = _Complaint(limit)
        self._resume()

    def close(self) -> None:
        """Accept no more. Connections that are open stay so, and those that were accepted are still handed over."""
        self._pause()
        self._listening.close()
        self._sweep.cancel()

    def end_open(self) -> None:
        """Close every connection: once its request is answered where there is one. Handshakes are ended."""
        for one in self._open:
            one.shutdown()
        for task in tuple(self._handshakes.values()):
            task.cancel()

    async def wait_connected(self) -> None:
        """Return once what was accepted is open, but for TLS handshakes that take too long for a stop: those are ended.

        Whose connection is closed here has sent its request to nobody.
        """
        if self._tasks:
            _, slow = await asyncio.wait(set(self._tasks), timeout=_LAST_HANDSHAKE_SECONDS)
            for task in slow:
                task.cancel()

    async def wait_closed(self) -> None:
        """Return once no handshake is under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- accepting --------------------------------------------------------------------------------------------------
    def _resume(self) -> None:
        if not self._accepting and self._listening.fileno() >= 0:
            self._accepting = True
            self._loop.add_reader(self._listening.fileno(), self._accept)

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self._listening.fileno())

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            if self._count() >= self._limit + _EXTRA:
                self._pause()  # until one is gone
                self._complaint.full()
                return
            try:
                accepted, peer = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._cannot_accept(error)
                return
            address = origin(peer)
            if self._too_many_of(address):
                accepted.close()
                self._count_closed("address_full")
                self._complaint.address_full(address)
                continue
            self._take(accepted, address, extra=self._count() >= self._limit and not self._evict())

    def _cannot_accept(self, error: OSError) -> None:
        if error.errno not in _NO_FILES:
            raise error
        self._complaint.no_files(error)
        self._evict()
        self._pause()  # until the next sweep

    def _too_many_of(self, address: str) -> bool:
        if not self._by_address or not address:
            return False
        return sum(one.address == address for one in (*self._open, *self._handshakes)) >= self._by_address

    def _take(self, accepted: socket.socket, address: str, *, extra: bool) -> None:
        accepted.setblocking(False)
        if accepted.family in _TCP:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        protocol = _Counted(self, address, extra=extra)
        task = self._loop.create_task(self._connect(protocol, accepted))
        self._tasks.add(task)
        self._handshakes[protocol] = task
        task.add_done_callback(lambda done: self._connected(done, protocol, accepted))

    async def _connect(self, protocol: "_Counted", accepted: socket.socket) -> None:
        """Hand the socket to the event loop, with a TLS handshake where there is TLS."""
        encrypted = self._config.ssl
        timeout = HANDSHAKE_SECONDS if encrypted else None
        try:
            await self._loop.connect_accepted_socket(
                lambda: _Buffered(protocol), accepted, ssl=encrypted, ssl_handshake_timeout=timeout
            )
        except OSError:  # not TLS, a certificate that is not accepted, or nothing in time
            accepted.close()
            self._count_closed("handshake_failed")
            self._resume()

    def _connected(self, task: asyncio.Task[None], protocol: "_Counted", accepted: socket.socket) -> None:
        self._tasks.discard(task)
        self._handshakes.pop(protocol, None)
        if task.cancelled():
            accepted.close()
            self._resume()

    # --- room -------------------------------------------------------------------------------------------------------
    def _count(self) -> int:
        return len(self._open) + len(self._handshakes)

    def _evict(self) -> int:
        """Close the connections that have waited longest: first those that never sent a request. Return how many."""
        waiting = [one for one in self._open if one.waiting]
        chosen = heapq.nsmallest(self._evicted_at_once, waiting, key=lambda one: (one.served > 0, one.deadline))
        for one in chosen:
            one.transport.abort()
            self._open.discard(one)
        handshakes = list(self._handshakes)[: self._evicted_at_once - len(chosen)] if self._config.ssl else ()
        for one in handshakes:
            self._handshakes.pop(one).cancel()
        evicted = len(chosen) + len(handshakes)
        if evicted:
            self._count_closed("no_room", evicted)
            self._complaint.full()
        return evicted

    # --- what the connections tell ----------------------------------------------------------------------------------
    def opened(self, protocol: "_Counted") -> None:
        """Note a connection whose handshake is done."""
        self._handshakes.pop(protocol, None)
        self._open.add(protocol)

    def lost(self, protocol: "_Counted") -> None:
        """Note a connection that is gone."""
        self._open.discard(protocol)
        self._ended.note()
        if self._count() < self._limit + _EXTRA:
            self._resume()

    # --- time -------------------------------------------------------------------------------------------------------
    def _look(self) -> None:
        """Close what took too long, and try to accept again where that was not possible."""
        now = self._loop.time()
        for one in tuple(self._open):
            why = one.expire(now)
            if not why and tls.is_over(one.certificate_ends):
                why, one.certificate_ends = "certificate_expired", math.inf
                one.shutdown()  # once its request is answered, where there is one
            if why:
                self._count_closed(why)
        metrics.connections.set(self._count(), {"listener": _HTTP})
        self._ended.give_back()
        if self._count() < self._limit + _EXTRA or self._evict():
            self._resume()
        self._sweep = self._loop.call_later(_SWEEP_SECONDS, self._look)

    @staticmethod
    def _count_closed(why: str, count: int = 1) -> None:
        metrics.connections_closed.add(count, {"listener": _HTTP, "reason": why})

    def protocol_arguments(self) -> tuple[Config, ServerState]:
        """Return what each protocol is made of."""
        return self._config, self._state


class _Counted(HttpProtocol):
    """A connection that reports its begin and end."""

    def __init__(self, connections: Connections, address: str, *, extra: bool) -> None:
        super().__init__(*connections.protocol_arguments(), {}, extra=extra)
        self.address = address
        self._connections = connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self.certificate_ends = tls.client_ends(transport)
        self._connections.opened(self)
        if tls.is_over(self.certificate_ends):  # a session that is resumed shows it again, whatever its age
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._connections.lost(self)


class _Buffered(asyncio.BufferedProtocol):
    """Reads for a connection, into one buffer for all: what is read is handed on before anything else is read."""

    _read = memoryview(bytearray(_READ_BYTES))

    def __init__(self, protocol: HttpProtocol) -> None:
        self._protocol = protocol

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self._read

    def buffer_updated(self, nbytes: int) -> None:
        self._protocol.data_received(bytes(self._read[:nbytes]))

    def connection_made(self, transport: Any) -> None:
        tls.bound_backlog(transport)
        self._protocol.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()


class _Complaint:
    """Logs, once a minute at most, that connections are short."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._next = 0.0

    def full(self) -> None:
        """Log that the bound is reached."""
        if self._due():
            _log.warning(
                "HTTP has %d connections, its bound: those that wait longest without a request are closed for new ones;"
                " see gateway.max_connections and the limit of open files",
                self._limit,
            )

    def address_full(self, address: str) -> None:
        """Log that one address has as many connections as it may have."""
        if self._due():
            _log.warning(
                "%s has as many HTTP connections as one address may have, and gets no more;"
                " see gateway.max_connections_per_address", address,
            )  # fmt: skip

    def no_files(self, error: OSError) -> None:
        """Log that the system refuses another connection."""
        if self._due():
            _log.error("HTTP cannot accept a connection: %s; raise the limit of open files", error.strerror)

    def _due(self) -> bool:
        now = self._clock()
        due = now >= self._next
        if due:
            self._next = now + _LOG_SECONDS
        return due
