"""An end to whole exchanges over HTTP.

A socket's timeout is one of each read and write: a destination that sends the head of its answer drop by drop, or
`100 Continue` without end, begins it anew each time and would hold an exporter for ever.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPResponse, UnknownProtocol
from typing import Any, Final

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_MOST_INTERIM: Final = 64


class _Final(HTTPResponse):
    """The final answer: those before it (102, 103) are passed over, as RFC 9110, section 15.2 says."""

    def begin(self) -> None:
        super().begin()
        for _ in range(_MOST_INTERIM):
            if not HTTPStatus.SWITCHING_PROTOCOLS < self.status < HTTPStatus.OK:
                return
            self.headers = self.msg = None  # type: ignore[assignment]  # reads what comes next
            super().begin()
        raise UnknownProtocol("interim answers without end")


class End:
    """Ends what is under way on the one connection of a pool when its time is over."""

    def __init__(self) -> None:
        self._connection: HTTPConnection | None = None
        self._over = threading.Event()

    @contextlib.contextmanager
    def after(self, seconds: float) -> Iterator[None]:
        """Let the work in this block take so long; then its socket ends, at which reads and writes fail.

        Where no thread is to be had, as at the end of a process, each read and write has its own timeout alone.
        """
        self._over = over = threading.Event()
        timer = threading.Timer(seconds, self._cut, (over,))
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
            response_class = _Final

            def connect(self) -> None:
                end._connection = self
                super().connect()
                end._check()

        class Encrypted(HTTPSConnection):
            response_class = _Final

            def connect(self) -> None:
                end._connection = self  # a handshake takes time, too
                super().connect()
                end._check()

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class EncryptedPool(HTTPSConnectionPool):
            ConnectionCls = Encrypted

        return {"http": PlainPool, "https": EncryptedPool}

    def _check(self) -> None:
        """Raise TimeoutError where the time went by while it connected: there was nothing to cut then."""
        if self._over.is_set():
            raise TimeoutError("the time was over when it was connected")

    def _cut(self, over: threading.Event) -> None:
        over.set()
        if over is not self._over:  # that exchange has ended
            return
        under: Any = self._connection.sock if self._connection else None
        under = getattr(under, "socket", under)  # of TLS through a proxy with TLS
        if under is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(under, socket.SHUT_RDWR)  # not SSLSocket's, which another thread is reading
