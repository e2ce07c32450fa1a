"""The owner of a connection, by its address, for gateway.max_connections_per_address."""

import ipaddress
from typing import Any, Final

_V6_NETWORK: Final = 64  # bits of what one client has to itself, of IPv6


def origin(peer: Any) -> str:
    """Return the address of a socket's other end, for IPv6 its network; "" where it has none."""
    if not isinstance(peer, tuple) or not peer:
        return ""
    host = str(peer[0]).partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _V6_NETWORK), strict=False))
