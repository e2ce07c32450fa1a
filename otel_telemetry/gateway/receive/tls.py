"""TLS of both listeners: the same certificate, the same key, the same authority for clients' certificates."""

import asyncio
import contextlib
import math
import socket
import ssl
import time
from pathlib import Path
from typing import Any, Final

from otel_telemetry.base import memory, metrics
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.gateway.config import GatewaySettings

_RECEIVED_BYTES: Final = 32 << 10
_WRITTEN_BYTES: Final = 64 << 10
_MANY: Final = 64  # some 15 MB
_MOST_WITHOUT_DATA: Final = 32 << 10  # twice what a record holds, which may come in pieces

_clock = time.time


def check(config: GatewaySettings) -> None:
    """Raise ConfigurationError where the files are not there, do not belong together, or are none of their kind."""
    if (config.tls_certificate is None) != (config.tls_key is None):
        missing = "tls_key" if config.tls_key is None else "tls_certificate"
        raise ConfigurationError(f"gateway.{missing}", "is not set", "TLS needs a certificate and its key")
    if config.tls_client_ca and not config.tls_certificate:
        hint = "set gateway.tls_certificate and gateway.tls_key too"
        raise ConfigurationError("gateway.tls_client_ca", "is of no use without TLS", hint)
    if config.tls_certificate and config.tls_key:
        _try(config.tls_certificate, config.tls_key, config.tls_client_ca)


def _try(certificate: Path, key: Path, client_ca: Path | None) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for setting, path in (("tls_certificate", certificate), ("tls_key", key), ("tls_client_ca", client_ca)):
        if path is not None:
            _read(path, f"gateway.{setting}")
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
        if client_ca:
            context.load_verify_locations(client_ca)
    except (ssl.SSLError, ValueError) as error:
        hint = "give PEM files: the certificate with its chain, and its key, without a password"
        raise ConfigurationError("gateway.tls_certificate", f"cannot be used: {error}", hint) from None


def _no_password() -> str:
    raise ValueError("the key has a password")


def _read(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        hint = "name a file that the user who runs the gateway can read"
        raise ConfigurationError(setting, f"{path} cannot be read: {error.strerror}", hint) from None


def changed_at(config: GatewaySettings) -> tuple[tuple[int, int], ...]:
    """Return the times of the TLS files, which change when one is replaced; a missing file has none."""
    found = []
    for path in (config.tls_certificate, config.tls_key, config.tls_client_ca):
        with contextlib.suppress(OSError):
            if path is not None:
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_ino))
    return tuple(found)


def for_http(config: GatewaySettings) -> ssl.SSLContext | None:
    """Return the TLS context of the HTTP server, None where it goes without."""
    return _context(config, "http/1.1")


def for_grpc(config: GatewaySettings) -> ssl.SSLContext | None:
    """Return the TLS context of the gRPC server, None where it goes without."""
    return _context(config, "h2")


def asks_clients(context: ssl.SSLContext) -> bool:
    """Return whether clients have to show a certificate."""
    return context.verify_mode == ssl.CERT_REQUIRED


def client_ends(transport: asyncio.BaseTransport) -> float:
    """Return when the client's certificate expires, in seconds since 1970; infinity where it showed none."""
    certificate = transport.get_extra_info("peercert")
    return ssl.cert_time_to_seconds(certificate["notAfter"]) if certificate else math.inf


def is_over(ends: float) -> bool:
    """Return whether a certificate that expires then has expired."""
    return _clock() >= ends


def bound_buffers(listening: socket.socket) -> None:
    """Let the system keep little of what a connection of a socket with TLS sends: the event loop reads it all at once.

    It has 256 KiB for that beside each connection, of which is taken what was once filled.
    """
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVED_BYTES)


def connections(limit: int, context: ssl.SSLContext | None) -> int:
    """Return how many connections there may be where `limit` may be without TLS: each takes up to 400 kB with it."""
    return max(1, limit // 3) if context else limit


class _Counting(ssl.SSLObject):
    """One connection's TLS. Ends it where it gets much that holds no data.

    A key update takes 30 microseconds. OpenSSL bounds neither these nor other messages of TLS 1.3 after the handshake,
    and reads all that has come in one go.
    """

    incoming: ssl.MemoryBIO
    listener: str
    _without_data = 0

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - its name there
        """Read what was sent; raises ssl.SSLError where too much of it is no data."""
        before = self.incoming.pending
        try:
            data = super().read(len, buffer)
        except ssl.SSLWantReadError:
            self._without_data += before - self.incoming.pending
            if self._without_data > _MOST_WITHOUT_DATA:
                metrics.connections_closed.add(1, {"listener": self.listener, "reason": "control_frames"})
                raise ssl.SSLError("more messages of TLS than data") from None
            raise
        self._without_data = 0
        return data


class _Context(ssl.SSLContext):
    """Makes connections that know where what they read comes from."""

    sslobject_class = _Counting
    listener = ""

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **options: Any) -> ssl.SSLObject:
        """Return the TLS of one connection between its encrypted bytes."""
        made = super().wrap_bio(incoming, outgoing, *args, **options)
        assert isinstance(made, _Counting)  # noqa: S101 - by `sslobject_class`
        made.incoming, made.listener = incoming, self.listener
        return made


class Ended:
    """Counts connections that have ended, and gives their memory back to the system once they were many."""

    def __init__(self) -> None:
        self._count = 0

    def note(self) -> None:
        """Count one."""
        self._count += 1

    def give_back(self) -> None:
        """Give back in a worker thread what was enough."""
        if self._count >= _MANY:
            self._count = 0
            asyncio.get_running_loop().run_in_executor(None, memory.give_back)


def bound_backlog(transport: Any) -> None:
    """Let little of what is still encrypted, or not read by the client, wait in memory."""
    if hasattr(transport, "set_read_buffer_limits"):
        transport.set_read_buffer_limits(high=_RECEIVED_BYTES)
        transport.set_write_buffer_limits(high=_WRITTEN_BYTES)


def _context(config: GatewaySettings, protocol: str) -> ssl.SSLContext | None:
    if not (config.tls_certificate and config.tls_key):
        return None
    context = _Context(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(config.tls_certificate, config.tls_key, password=_no_password)
    context.listener = "grpc" if protocol == "h2" else "http"
    context.set_alpn_protocols([protocol])
    if config.tls_client_ca:
        context.load_verify_locations(config.tls_client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_TICKET  # who resumes a session by a ticket shows no certificate
        context.num_tickets = 0
    return context
