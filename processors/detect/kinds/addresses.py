"""Classifies IP addresses: loopback or unspecified, private network, or public.

An address of the first class is the machine itself and identifies nobody. A private address identifies a machine within
one network; whoever has the leases of that network can identify a person by it, so it is redacted unless the policy
says otherwise.
"""

import ipaddress
from functools import lru_cache
from typing import Final

LOOPBACK: Final = "loopback"
PRIVATE: Final = "private"
KINDS: Final = (LOOPBACK, PRIVATE)
#: RFC 1918, RFC 3927 and RFC 6598; RFC 4193 and RFC 4291, section 2.5.6.
_PRIVATE: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "100.64.0.0/10",
        "fc00::/7",
        "fe80::/10",
    )
)


@lru_cache(maxsize=1024)
def kind_of(text: str) -> str:
    """Return "loopback" (also for 0.0.0.0 and ::), "private", or "" for any other address or text.

    A prefix length and a zone are passed over; an IPv4-mapped address is what it maps.
    """
    bare = text.partition("/")[0].partition("%")[0].strip("[]")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return ""
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback or address.is_unspecified:
        return LOOPBACK
    return PRIVATE if any(address in network for network in _PRIVATE if network.version == address.version) else ""
