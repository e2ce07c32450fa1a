"""An end to whole exchanges over HTTP.

A socket's timeout is one of each read and write: a destination that sends the head of its answer drop by drop, or
`100 Continue` without end, begins it anew each time and would hold an exporter for ever.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class End:
    """Ends what is under way on the one connection of a pool when its time is over."""

    def __init__(self) -> None:
        self._connection: HTTPConnection | None = None

    @contextlib.contextmanager
    def after(self, seconds: float) -> Iterator[None]:
        """Let the work in this block take so long; then its socket ends, at which reads and writes fail.

        Where no thread is to be had, as at the end of a process, each read and write has its own timeout alone.
        """
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        with contextlib.suppress(RuntimeError):
            timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def pools(self) -> dict[str, Any]:
        """Return classes of pools, by scheme, whose connection this ends."""
        end = self

        class Plain(HTTPConnection):
            def connect(self) -> None:
                end._connection = self
                super().connect()

        class Encrypted(HTTPSConnection):
            def connect(self) -> None:
                end._connection = self  # a handshake takes time, too
                super().connect()

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class EncryptedPool(HTTPSConnectionPool):
            ConnectionCls = Encrypted

        return {"http": PlainPool, "https": EncryptedPool}

    def _cut(self) -> None:
        under: Any = self._connection.sock if self._connection else None
        under = getattr(under, "socket", under)  # of TLS through a proxy with TLS
        if under is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(under, socket.SHUT_RDWR)  # not SSLSocket's, which another thread is reading
