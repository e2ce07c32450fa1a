"""Accepts connections for a protocol, with TLS handshakes that are bounded in number and time.

A handshake holds a file descriptor and memory before any protocol knows of its connection. asyncio's own server starts
any number of them, so that clients who connect and send nothing could take all descriptors of the process.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Final

_AT_ONCE: Final = 64  # accepted, before the others have their turn
_HANDSHAKE_SECONDS: Final = 10.0
_NO_FILES_SECONDS: Final = 1.0
_NO_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

#: The context of a new connection, None without TLS.
CurrentTls = Callable[[], ssl.SSLContext | None]


class Accepting:
    """Accepts from a socket that listens. For the event loop only.

    `room` returns how many more connections may be open; where there is none, a new one replaces the handshake that
    takes longest, and without one its protocol decides. `failed` gets the reason for each that is closed here.
    """

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        tls: CurrentTls,
        *,
        room: Callable[[], int],
        failed: Callable[[str], object],
    ) -> None:
        self._listening = listening
        self._protocol = protocol
        self._tls = tls
        self._room = room
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._handshakes: dict[asyncio.Task[None], None] = {}
        self._connecting: set[asyncio.Task[None]] = set()  # without TLS: never cancelled, uvloop would tell no protocol
        self._resuming: asyncio.TimerHandle | None = None
        self._resume()

    def close(self) -> None:
        """Accept no more; handshakes that have begun go on."""
        if self._resuming:
            self._resuming.cancel()
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening.fileno())
            self._listening.close()

    def end_handshakes(self) -> None:
        """End the handshakes that are under way."""
        for task in self._handshakes:
            task.cancel()

    async def wait_closed(self) -> None:
        """End the handshakes that are left."""
        self.end_handshakes()
        await asyncio.gather(*self._handshakes, *self._connecting, return_exceptions=True)

    def _resume(self) -> None:
        self._loop.add_reader(self._listening.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_FILES:
                    raise
                self._make_room()
                self._loop.remove_reader(self._listening.fileno())
                self._resuming = self._loop.call_later(_NO_FILES_SECONDS, self._resume)
                return
            self._take(accepted)

    def _take(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tls = self._tls()
        task = self._loop.create_task(self._connect(accepted, tls))
        if tls is None:
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
            return
        if len(self._handshakes) >= self._room():
            self._make_room()
        self._handshakes[task] = None
        task.add_done_callback(lambda done: self._handshakes.pop(done, None))

    def _make_room(self) -> None:
        for oldest in self._handshakes:
            oldest.cancel()
            del self._handshakes[oldest]
            self._failed("no_room")
            return

    async def _connect(self, accepted: socket.socket, tls: ssl.SSLContext | None) -> None:
        connected = False
        try:
            with contextlib.suppress(OSError):  # not TLS, a certificate that is not accepted, or nothing in time
                timeout = _HANDSHAKE_SECONDS if tls else None
                await self._loop.connect_accepted_socket(
                    self._protocol, accepted, ssl=tls, ssl_handshake_timeout=timeout
                )
                connected = True
        finally:
            if not connected:
                accepted.close()
        if not connected:
            self._failed("handshake_failed")
