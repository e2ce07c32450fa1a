"""What a call of HTTP/2 is to the connection that it comes by."""

from collections.abc import Sequence
from typing import Protocol

Headers = Sequence[tuple[bytes, bytes]]


class Call(Protocol):
    """One request, as its bytes come in."""

    def receive(self, data: memoryview) -> None:
        """Take the next bytes of the request; they are only there during the call."""

    def end(self) -> None:
        """Note that the request is complete."""

    def lost(self) -> None:
        """Note that nobody waits for the answer any more."""
