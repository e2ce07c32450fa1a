"""Decides whether an attribute holds the address of a client, which is a person's, or of a server that was called."""

from functools import lru_cache
from typing import Final

from otel_telemetry.base import conventions

#: Attributes of a span that calls somebody (CLIENT, PRODUCER) in which the address is the other side's: a provider's
#: host, a database, a broker. On other spans some of them are a person's.
PEER_KEYS: Final = frozenset(
    {
        *("server.address", "server.socket.address", "network.peer.address", "net.peer.ip", "net.peer.name"),
        *("net.peer.host", "net.sock.peer.addr", "net.sock.peer.name", "destination.address"),
        *("peer.address", "peer.hostname", "peer.ipv4", "peer.ipv6"),
    }
)
_PREFIXES: Final = (
    *("http_request_header_", "http_request_headers_", "http_headers_", "http_header_", "request_header_"),
    *("rpc_grpc_request_metadata_", "rpc_request_metadata_", "grpc_metadata_", "headers_", "header_", "http_"),
)
_HEADERS: Final = frozenset(name.replace("-", "_") for name in conventions.CLIENT_ADDRESS_HEADERS)
_KEYS: Final = frozenset(conventions.CLIENT_ADDRESS_KEYS)
_LONGEST: Final = 80


def is_client(key: str) -> bool:
    """Return whether an attribute, or a member of a map, holds a client's address, in any spelling of its header."""
    return _is_client(key) if len(key) <= _LONGEST else key in _KEYS


@lru_cache(maxsize=8192)
def _is_client(key: str) -> bool:
    if key in _KEYS:
        return True
    name = key.lower().replace("-", "_").replace(".", "_")
    for prefix in _PREFIXES:
        if name.startswith(prefix) and name.removeprefix(prefix) in _HEADERS:
            return True
    return name in _HEADERS
