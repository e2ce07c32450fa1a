"""TLS of both listeners: the same certificate, the same key, the same authority for clients' certificates."""

import asyncio
import contextlib
import math
import ssl
import time
from pathlib import Path

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.gateway.config import GatewaySettings

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


def _context(config: GatewaySettings, protocol: str) -> ssl.SSLContext | None:
    if not (config.tls_certificate and config.tls_key):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(config.tls_certificate, config.tls_key, password=_no_password)
    context.set_alpn_protocols([protocol])
    if config.tls_client_ca:
        context.load_verify_locations(config.tls_client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_TICKET  # who resumes a session by a ticket shows no certificate
        context.num_tickets = 0
    return context
