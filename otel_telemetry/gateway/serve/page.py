"""The interface between the gateway and the page beside its endpoints. The page itself is in a higher layer."""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

from otel_telemetry.gateway.receive.auth import Keys
from otel_telemetry.gateway.spool.transport import Operator, Reader

_Message = MutableMapping[str, Any]
_Send = Callable[[_Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]


class Page(Protocol):
    """An ASGI application of some addresses, which asks by itself who is there."""

    def serves(self, path: str) -> bool:
        """Return whether an address is one of its own."""

    async def __call__(self, scope: Any, receive: Any, send: _Send) -> None:
        """Serve one request."""


@dataclass(frozen=True, slots=True)
class Insight:
    """What the page may read of the gateway: its parts as in /health, the counters as in /metrics, its spool.

    `operator` changes the spool.
    """

    health: Callable[[], dict[str, Any]]
    counters: Callable[[], bytes]
    reader: Callable[[], Reader]
    operator: Callable[[], Operator]


MakePage = Callable[[Keys, Insight], Page]


class Beside:
    """ASGI middleware: hands the page what is for it."""

    def __init__(self, app: App, page: Page) -> None:
        self._app = app
        self._page = page

    async def __call__(self, scope: Any, receive: Any, send: _Send) -> None:
        """Serve one request."""
        served = scope["type"] == "http" and self._page.serves(scope["path"])
        await (self._page if served else self._app)(scope, receive, send)
