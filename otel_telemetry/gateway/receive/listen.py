"""Where the gateway may listen, and what to do when it cannot."""

import errno
import socket
from typing import Final

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.receive import tls
from otel_telemetry.gateway.receive.auth import Keys
from otel_telemetry.gateway.receive.origins import Origins, is_loopback

_BACKLOG: Final = 1024
_HOST: Final = "gateway.host"
_GRPC_PORT: Final = "gateway.grpc_port"
_HTTP_PORT: Final = "gateway.http_port"
_NO_SOCKET: Final = frozenset({"", "-"})
_HOST_HINT: Final = "set gateway.host to an address of this machine, 127.0.0.1 for local use only"


def require_keys_off_loopback(config: GatewaySettings) -> None:
    """Raise ConfigurationError where anybody on the network could send without a key."""
    if _asks(config) or is_loopback(config.host):
        return
    raise ConfigurationError(
        "gateway.api_keys",
        f"none is set, and {config.host or 'every address'} can be reached from other machines",
        "`otel-telemetry key` makes one and says where it goes; or set gateway.host to 127.0.0.1",
    )


def on_socket(config: GatewaySettings) -> bool:
    """Return whether it listens on a Unix socket, and on no port."""
    return config.role == "redact" and config.socket not in _NO_SOCKET


def check(config: GatewaySettings) -> None:
    """Raise ConfigurationError for settings that contradict each other."""
    if not on_socket(config):
        require_keys_off_loopback(config)
    Keys(config.api_keys)
    Origins(config)
    tls.check(config)
    if config.role != "redact" and config.transport == "disk" and config.spool_max_bytes < config.max_body_bytes:
        raise ConfigurationError(
            "gateway.spool_max_bytes",
            "a request as large as gateway.max_body_bytes would never find room",
            f"set it to {config.max_body_bytes} or more, or lower gateway.max_body_bytes",
        )


def check_new(config: GatewaySettings, before: GatewaySettings) -> None:
    """Do as `check`, for settings that come while it serves: where a key was needed, one goes on being needed.

    Otherwise a file that is away or half written for a moment would open the gateway to whoever reaches it.
    """
    check(config)
    if _asks(before) and not _asks(config):
        raise ConfigurationError(
            "gateway.api_keys",
            "none is set any more, and without a restart a gateway that asks for keys does not stop asking",
            "set one, or restart the gateway to serve without keys",
        )


def _asks(config: GatewaySettings) -> bool:
    return bool(config.api_keys or config.tls_client_ca)


def listen_http(config: GatewaySettings) -> socket.socket:
    """Return a listening socket for HTTP, or raise ConfigurationError."""
    return _listen(config.host, config.http_port, _HTTP_PORT)


def refuse_taken_grpc_port(config: GatewaySettings) -> None:
    """Raise ConfigurationError if the gRPC port is not free: the message is clearer than gRPC's."""
    _listen(config.host, config.grpc_port, _GRPC_PORT).close()


def reserve_grpc(config: GatewaySettings) -> socket.socket:
    """Return a socket that holds the gRPC port for processes that share it, and takes no connection itself."""
    return _bind(config.host, config.grpc_port, _GRPC_PORT, share=True)


def listen_grpc(config: GatewaySettings, *, share: bool) -> socket.socket:
    """Return a listening socket for gRPC, or raise ConfigurationError; `share`: other processes have one, too."""
    return _listen(config.host, config.grpc_port, _GRPC_PORT, share=share)


def _listen(host: str, port: int, key: str, *, share: bool = False) -> socket.socket:
    listening = _bind(host, port, key, share=share)
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
