"""TLS of both listeners: the same certificate, the same key, the same authority for clients' certificates."""

import ssl
from pathlib import Path
from typing import Any

import grpc

from otel_telemetry.errors import ConfigurationError
from otel_telemetry.gateway.config import GatewaySettings


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


def for_http(config: GatewaySettings) -> dict[str, Any]:
    """Return the arguments of uvicorn's configuration."""
    if not config.tls_certificate:
        return {}
    arguments: dict[str, Any] = {"ssl_certfile": config.tls_certificate, "ssl_keyfile": config.tls_key}
    if config.tls_client_ca:
        arguments |= {"ssl_ca_certs": str(config.tls_client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return arguments


def for_grpc(config: GatewaySettings) -> grpc.ServerCredentials | None:
    """Return the credentials of the gRPC server, None where it goes without."""
    if not (config.tls_certificate and config.tls_key):
        return None
    pair = (_read(config.tls_key, "gateway.tls_key"), _read(config.tls_certificate, "gateway.tls_certificate"))
    authority = _read(config.tls_client_ca, "gateway.tls_client_ca") if config.tls_client_ca else None
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)
