"""A server of HTTP/2 calls: its socket, and all connections together: how many, how old, how long unused."""

import asyncio
import contextlib
import itertools
import logging
import math
import random
import socket
import ssl
import time
from typing import Final

from otel_telemetry.base import metrics
from otel_telemetry.gateway.receive import tls
from otel_telemetry.gateway.receive.accepting import Accepting
from otel_telemetry.gateway.receive.http2 import Connection, Open

_LOOK_SECONDS: Final = 1.0
_STRANGER_SECONDS: Final = 10.0  # a connection on which no call was taken yet may be unused for so long
_EVICTABLE_SECONDS: Final = 1.0  # where there are too many connections, one that is unused for so long makes room
_BLOCKED_SECONDS: Final = 30.0
_GRACE_SECONDS: Final = 60.0  # for calls under way on a connection that has had its time; senders give up long before
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 3))
_UNTRUSTED_BYTES: Final = 32 << 10  # of header fields, which take up to 5 ms, ...
_UNTRUSTED_SECONDS: Final = 0.01  # ... within so many seconds: half of the time is left for others, threads too
_RESUMED_AT_ONCE: Final = 64
_LOG_SECONDS: Final = 60.0
_JITTER: Final = 0.1

_log = logging.getLogger("otel_telemetry.gateway.receive.grpc")


class Http2Server:
    """Serves calls on one listening socket.

    After `connection_seconds` (0: never; 10 % more or less, at random) a client is asked to reconnect. At most
    `max_connections` are open; a further one replaces an unused one, or is closed if there is none.
    """

    def __init__(
        self, open_call: Open, *, max_connections: int, by_address: int = 0, connection_seconds: float = 0.0
    ) -> None:
        self._open_call = open_call
        self._max_connections = max_connections
        self._by_address = by_address
        self._seconds = connection_seconds or math.inf
        self._connections: set[Connection] = set()
        self._accepting: Accepting | None = None
        self._tls: ssl.SSLContext | None = None
        self._watching: asyncio.Task[None] | None = None
        self._logged = -math.inf
        self._empty = asyncio.Event()
        self._ended = tls.Ended()
        self._untrusted = 0  # work of this period for clients that are not trusted yet
        self._held: dict[Connection, None] = {}  # in the order in which they go on

    async def start(self, listening: socket.socket, context: ssl.SSLContext | None) -> None:
        """Begin to take connections."""
        for name, value in _KEEPALIVE:  # a client that vanished without a word is noticed
            if hasattr(socket, name):
                listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._tls = context
        self._max_connections = tls.connections(self._max_connections, context)
        if context:
            tls.bound_buffers(listening)
        self._accepting = Accepting(
            listening,
            lambda: Connection(self._open_call, self),
            lambda: self._tls,
            room=lambda: self._max_connections - len(self._connections),
            failed=self._note_failed,
        )
        self._watching = asyncio.create_task(self._look_at_all())

    def renew_tls(self, context: ssl.SSLContext) -> None:
        """Use this context for new connections: sessions of the previous one are unknown to it.

        Clients that show certificates have to connect again.
        """
        self._tls = context
        if self._accepting and tls.asks_clients(context):
            self._accepting.end_handshakes()
            for connection in self._connections:
                connection.leave()

    def stop_listening(self) -> None:
        """Accept no new connection, and announce the end on all open ones."""
        if self._accepting:
            self._accepting.close()
        for connection in self._connections:
            connection.leave()

    async def wait_closed(self) -> None:
        """Wait until the last client has gone."""
        while self._connections:
            self._empty.clear()
            await self._empty.wait()

    async def close(self) -> None:
        """End what is left."""
        if self._accepting:
            await self._accepting.wait_closed()
        for connection in list(self._connections):
            connection.abort()
        if self._watching:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching

    # --- what connections ask ---------------------------------------------------------------------------------------
    def add(self, connection: Connection) -> bool:
        """Take a connection in; False where there are too many that are in use."""
        if self._by_address and sum(one.address == connection.address for one in self._connections) >= self._by_address:
            self._count_closed("address_full")
            self._log_rarely(
                "%s has as many gRPC connections as one address may have, and gets no more;"
                " see gateway.max_connections_per_address", connection.address,
            )  # fmt: skip
            return False
        if len(self._connections) >= self._max_connections and not self._make_room():
            self._count_closed("no_room")
            self._warn()
            return False
        self._connections.add(connection)
        return True

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._connections.discard(connection)
        self._ended.note()
        self._held.pop(connection, None)
        if not self._connections:
            self._empty.set()

    def note_calmed(self, address: str, why: str) -> None:
        """Count and log a connection that is closed because its client makes too much work for nothing."""
        self._count_closed(why)
        self._log_rarely(
            "a gRPC connection of %s was closed: too many header fields before a call was accepted, or too many control"
            " frames and refused calls; otel_telemetry_connections_closed_total counts these", address,
        )  # fmt: skip

    def charge(self, size: int) -> None:
        """Note work for clients that are not trusted yet; of too much in one period, the others wait for the next.

        So whoever is trusted, and /health, gets its answer in between, however many connections send header fields.
        """
        if not self._untrusted:
            self._begin_period()
        self._untrusted += size
        if self._untrusted > _UNTRUSTED_BYTES:
            for connection in self._connections:
                if not connection.trusted and connection not in self._held:
                    self._held[connection] = None
                    connection.hold(held=True)

    def _begin_period(self) -> None:
        asyncio.get_running_loop().call_later(_UNTRUSTED_SECONDS, self._end_period)

    def _end_period(self) -> None:
        self._untrusted = 0
        for connection in list(itertools.islice(self._held, _RESUMED_AT_ONCE)):
            del self._held[connection]
            connection.hold(held=False)
        if self._held:
            self._untrusted = 1
            self._begin_period()

    def lifetime(self) -> float:
        """Return how many seconds a new connection may live."""
        return self._seconds * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - spreads reconnects

    # --- housekeeping -----------------------------------------------------------------------------------------------
    async def _look_at_all(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            for connection in list(self._connections):
                self._look_at(connection, now)
            metrics.connections.set(len(self._connections), {"listener": "grpc"})
            self._ended.give_back()

    def _look_at(self, connection: Connection, now: float) -> None:
        if not connection.trusted and connection.idle(now) > _STRANGER_SECONDS:
            self._count_closed("unused")
            connection.abort()
        elif connection.blocked(now) > _BLOCKED_SECONDS:
            self._count_closed("answer_not_read")
            connection.abort()
        elif tls.is_over(connection.certificate_ends):
            self._count_closed("certificate_expired")
            connection.certificate_ends, connection.expires = math.inf, now
            connection.leave()
        elif now > connection.expires + _GRACE_SECONDS:
            connection.abort()
        elif now > connection.expires:
            connection.leave()

    def _make_room(self) -> bool:
        """End the connection that is unused for longest, strangers first; False where all are in use."""
        now = time.monotonic()
        longest = max(self._connections, key=lambda one: (not one.trusted, one.idle(now)))
        if longest.idle(now) < _EVICTABLE_SECONDS:
            return False
        self._connections.discard(longest)  # it is closed in the next round of the loop
        longest.abort()
        self._count_closed("no_room")
        self._warn()
        return True

    @staticmethod
    def _count_closed(why: str) -> None:
        metrics.connections_closed.add(1, {"listener": "grpc", "reason": why})

    def _note_failed(self, why: str) -> None:
        self._count_closed(why)
        if why == "no_room":
            self._warn()

    def _warn(self) -> None:
        self._log_rarely(
            "gRPC has %d connections, its bound: those that are unused for longest are closed for new ones, and"
            " where all are in use, the new ones; see gateway.max_connections and the limit of open files",
            self._max_connections,
        )

    def _log_rarely(self, message: str, value: object) -> None:
        """Log something that many connections may be the cause of, once a minute at most."""
        now = time.monotonic()
        if now - self._logged > _LOG_SECONDS:
            self._logged = now
            _log.warning(message, value)
