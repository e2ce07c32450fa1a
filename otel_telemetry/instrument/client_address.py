"""The address of a request's client: the socket's peer, or the address that trusted proxies report.

A proxy appends the address it saw to `X-Forwarded-For`, so the header is read from the right, and only as long as the
writer of the entry is trusted; the first untrusted address is the client. Entries left of it, and anything after an
entry that is not an address, are ignored because anybody can write them. `Forwarded` (RFC 7239) is read the same way if
there is no X-Forwarded-For.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Networks = Sequence[IPv4Network | IPv6Network]

MAX_ENTRIES = 64  # of a header that are looked at, from the right
_FOR = re.compile(r"""(?:^|;)\s*for\s*=\s*(?:"([^"]*)"|([^;,\s]*))""", re.IGNORECASE)
_WITH_PORT = re.compile(r"\[(?P<six>[^\]]*)\](?::\d+)?|(?P<four>[\d.]+):\d+")


def networks(trusted: Iterable[str]) -> Networks:
    """Return the networks of CIDR texts; ValueError where one is none."""
    return tuple(ip_network(text) for text in trusted)


def client_address(peer: str | None, headers: Mapping[str, Sequence[str]], trusted: Networks) -> str | None:
    """Return the client's address in its plain form, or `peer` as it is where that is no address.

    `headers` holds the values of `x-forwarded-for` and `forwarded`, each a list in the order in which they came.
    """
    current = _address(peer or "")
    if current is None:
        return peer
    for entry in _claims(headers):
        if not _is_trusted(current, trusted):
            break
        claimed = _address(entry)
        if claimed is None:
            break
        current = claimed
    return str(current)


def _claims(headers: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield the addresses that proxies report, the nearest proxy first."""
    lines, read = headers.get("x-forwarded-for", ()), _plain
    if not lines:
        lines, read = headers.get("forwarded", ()), _for
    entries = ",".join(lines).rsplit(",", MAX_ENTRIES)[-MAX_ENTRIES:]
    return map(read, reversed(entries))


def _plain(entry: str) -> str:
    return entry


def _for(entry: str) -> str:
    found = _FOR.search(entry)
    return (found[1] or found[2] or "") if found else ""


def _address(text: str) -> Address | None:
    """Return the address in a text that may have a port, brackets or a zone; an IPv4 one if it is mapped into IPv6."""
    text = text.strip()
    if found := _WITH_PORT.fullmatch(text):
        text = found["six"] if found["six"] is not None else found["four"]
    try:
        known = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return known.ipv4_mapped or known if isinstance(known, IPv6Address) else known


def _is_trusted(address: Address, trusted: Networks) -> bool:
    return any(address.version == network.version and address in network for network in trusted)
