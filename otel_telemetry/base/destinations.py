"""What a sink is: the contract between the gateway, which delivers, and the exporters, which take.

Every call of `deliver` has one of three outcomes. It returns: the items are safe, but for those that its `Receipt`
names. It raises StoreUnavailable: nothing is known to be safe, the same call comes again. It raises anything else
(DeliveryRefused, best): there is something in these bodies that will never be taken.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, runtime_checkable

Signal = Literal["traces", "logs", "metrics"]
Item = TypeVar("Item")


@dataclass(slots=True, frozen=True)
class Rejected:
    """Items that the destination rejected although it accepted the request. They are not sent again.

    `reason` is a fixed word for counters, `detail` the destination's text. `body` is an Export*ServiceRequest of just
    these items, which is stored as a dead letter of the request at `index`; empty if it is unknown which they are.
    """

    items: int
    reason: str
    detail: str
    index: int = 0
    body: bytes = b""


@dataclass(slots=True, frozen=True)
class Receipt:
    """The answer of a destination that accepted a request.

    `warning` is its text, with or without rejected items. `unclear`: it answered success, but not as the protocol says,
    so it may be another program.
    """

    rejected: Sequence[Rejected] = ()
    warning: str = ""
    unclear: bool = False


class Sink(Protocol):
    """Where batches go."""

    @property
    def name(self) -> str:
        """Its name, the same over restarts: the spool's cursor belongs to it."""

    def deliver(self, signal: Signal, bodies: Sequence[bytes]) -> Receipt | None:
        """Store the requests; return once they are safe. None: all of them are."""

    def close(self) -> None:
        """Let go of what it holds. Called once, in the thread that delivers, after the last delivery."""


@runtime_checkable
class AcceptsSignals(Protocol):
    """A sink that states its signals, and the most bytes in one call (one body may be larger)."""

    @property
    def signals(self) -> frozenset[Signal]:
        """The signals that it takes; batches of others are passed over."""

    @property
    def max_bytes(self) -> int:
        """The bytes of bodies that one call brings at most."""


@runtime_checkable
class NeedsReceiveTime(Protocol):
    """A sink that also needs the time at which the gateway received each request, for items without a time."""

    def deliver_received(self, signal: Signal, bodies: Sequence[bytes], received_ns: Sequence[int]) -> Receipt | None:
        """Do as `deliver`. The times, in ns since 1970, are the same whenever a request comes again."""


def runs(items: Iterable[Item], size: Callable[[Item], int], most: int) -> Iterator[list[Item]]:
    """Yield the items in runs whose sizes add up to at most `most`; a larger item comes alone."""
    run: list[Item] = []
    total = 0
    for item in items:
        own = size(item)
        if run and total + own > most:
            yield run
            run, total = [], 0
        run.append(item)
        total += own
    if run:
        yield run
