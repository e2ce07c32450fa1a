"""Identifies clients, and limits their calls: a moving window for each client.

The window is in the memory of this process, or in memory that the processes of a gateway share (shared_window.py).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, Protocol

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.requests import Request

_FORWARDING: Final = ("x-forwarded-for", "forwarded")
_PREFIX: Final = 64
_LEAST_WAIT: Final = 1.0

AddressOf = Callable[[str | None, Mapping[str, Sequence[str]]], str | None]
"""Returns the client's address, of a peer's address and what proxies say of it in `x-forwarded-for` and `forwarded`."""


class Shared(Protocol):
    """A window that processes share."""

    def wait(self, who: str) -> float:
        """Count a call; return 0 where it may come in, else the seconds until the next one may."""


class Clients:
    """Identifies clients by address, and limits each to `per_minute` calls; 0: no limit.

    Without `address_of`, the address is the peer's. With a `shared` window, that one limits.
    """

    def __init__(self, per_minute: int = 60, address_of: AddressOf | None = None, shared: Shared | None = None) -> None:
        self._address_of = address_of
        self._shared = shared
        self._rate = RateLimitItemPerMinute(per_minute) if per_minute else None

    @cached_property
    def _window(self) -> MovingWindowRateLimiter:
        """The limiter; its storage has a thread of its own, so it is made where it is first needed."""
        return MovingWindowRateLimiter(MemoryStorage())

    def address(self, request: Request) -> str | None:
        """Return the address of the client that a request comes from."""
        peer = request.client.host if request.client else None
        if self._address_of is None:
            return peer
        return self._address_of(peer, {name: request.headers.getlist(name) for name in _FORWARDING})

    def wait(self, address: str | None) -> float:
        """Count a call; return 0 where it may come in, else the seconds until the next one may."""
        if self._rate is None:
            return 0.0
        who = _household(address or "")
        if self._shared is not None:
            wait = self._shared.wait(who)
            return max(_LEAST_WAIT, wait) if wait else 0.0
        if self._window.hit(self._rate, who):
            return 0.0
        return max(_LEAST_WAIT, self._window.get_window_stats(self._rate, who).reset_time - time.time())


def _household(address: str) -> str:
    """Return what is counted as one client: with IPv6 everybody has a network of addresses."""
    try:
        known = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ip_network((known, _PREFIX), strict=False)) if isinstance(known, IPv6Address) else address
