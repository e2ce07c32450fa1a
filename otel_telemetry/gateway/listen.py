"""Where the gateway may listen, and what to do when it cannot."""

import contextlib
import errno
import ipaddress
import socket
from typing import Final

import grpc.aio

from otel_telemetry.errors import ConfigurationError
from otel_telemetry.gateway import tls
from otel_telemetry.gateway.auth import Keys
from otel_telemetry.gateway.config import GatewaySettings

_BACKLOG: Final = 1024
_HOST: Final = "gateway.host"
_GRPC_PORT: Final = "gateway.grpc_port"
_HTTP_PORT: Final = "gateway.http_port"
_HOST_HINT: Final = "set gateway.host to an address of this machine, 127.0.0.1 for local use only"


def refuse_open_house(config: GatewaySettings) -> None:
    """Raise ConfigurationError where anybody on the network could send without a key."""
    if config.api_keys or config.tls_client_ca or config.host == "localhost":
        return
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(config.host).is_loopback:
            return
    raise ConfigurationError(
        "gateway.api_keys",
        f"none is set, and {config.host or 'every address'} can be reached from other machines",
        "`otel-telemetry key` makes one and says where it goes; or set gateway.host to 127.0.0.1",
    )


def check(config: GatewaySettings) -> None:
    """Raise ConfigurationError for settings that contradict each other."""
    refuse_open_house(config)
    Keys(config.api_keys)
    tls.check(config)
    if config.spool_max_bytes < config.max_body_bytes:
        raise ConfigurationError(
            "gateway.spool_max_bytes",
            "a request as large as gateway.max_body_bytes would never find room",
            f"set it to {config.max_body_bytes} or more, or lower gateway.max_body_bytes",
        )


def listen_http(config: GatewaySettings) -> socket.socket:
    """Return a listening socket for HTTP, or raise ConfigurationError."""
    return _listen(config.host, config.http_port, _HTTP_PORT)


def refuse_taken_grpc_port(config: GatewaySettings) -> None:
    """Raise ConfigurationError where the gRPC port cannot be had: this says why better than gRPC does."""
    _listen(config.host, config.grpc_port, _GRPC_PORT).close()


def reserve_grpc(config: GatewaySettings) -> socket.socket:
    """Return a socket that holds the gRPC port for processes that share it, and takes no connection itself."""
    return _bind(config.host, config.grpc_port, _GRPC_PORT, share=True)


def bind_grpc(server: grpc.aio.Server, config: GatewaySettings) -> int:
    """Give the server its port and return it, or raise ConfigurationError."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    try:
        credentials = tls.for_grpc(config)
        address = f"{host}:{config.grpc_port}"
        return server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError:
        taken = OSError(errno.EADDRINUSE, "in use")
        raise _not_bound(config.host, config.grpc_port, _GRPC_PORT, taken) from None


def _listen(host: str, port: int, key: str) -> socket.socket:
    listening = _bind(host, port, key)
    try:
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise _not_bound(host, port, key, error) from None
    return listening


def _bind(host: str, port: int, key: str, *, share: bool = False) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)  # for localhost
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(_HOST, f"{host} cannot be used: {error.strerror}", _HOST_HINT) from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _not_bound(host, port, key, error) from None
    return bound


def _not_bound(host: str, port: int, key: str, error: OSError) -> ConfigurationError:
    if error.errno == errno.EADDRINUSE:
        who = f"`ss -ltnp 'sport = :{port}'` or `lsof -i :{port}` shows who has it"
        return ConfigurationError(key, f"port {port} is in use", f"{who}; end that, or set {key} to another port")
    if error.errno == errno.EACCES:
        return ConfigurationError(key, f"port {port} needs more rights", f"set {key} to a port above 1023")
    return ConfigurationError(_HOST, f"cannot listen on {host}: {error.strerror}", _HOST_HINT)
