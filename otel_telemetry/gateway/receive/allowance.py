"""CPU time for senders whom everybody can be: web pages with a public key, and callers of open endpoints.

Redacting text that is full of personal data, or made to look so, takes seconds for each megabyte. Whoever has a secret
key is trusted with that. All others get, key by key, some seconds a minute of each receiver: a token bucket. A request
holds what it will probably need before it is worked on, and pays what it really took; where too little is left, it is
refused with the time to wait. One that alone takes more than a whole minute's share is refused for good.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from google.rpc import code_pb2

from otel_telemetry.gateway.receive.status import Refusal, RefusedError, too_costly

_MINUTE: Final = 60.0
_EXPECTED: Final = 10e-6  # seconds for each byte, measured: clean text 0.01, dirty text 3, nothing but addresses 10
_LOG_SECONDS: Final = 60.0
_Result = TypeVar("_Result")

_log = logging.getLogger("otel_telemetry.gateway.receive")


class Allowances:
    """The allowance of each caller, by its name; there are as many as public keys, and one for open endpoints.

    `seconds` is CPU time for each of them in a minute; 0: no limit.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._known: dict[str, Allowance] = {}

    def purse(self, who: str) -> "Purse | None":
        """Return what a request of this caller pays with; None where it need not pay."""
        if not who or not self._seconds:
            return None
        if who not in self._known:
            self._known[who] = Allowance(who, self._seconds, self._clock)
        return Purse(self._known[who])

    def used_up(self) -> list[str]:
        """Return the callers that have nothing left right now."""
        return [who for who, allowance in tuple(self._known.items()) if allowance.left() <= 0]


class Allowance:
    """The CPU time of one caller: `seconds` at most, which come back within a minute. For any thread."""

    def __init__(self, who: str, seconds: float, clock: Callable[[], float]) -> None:
        self.seconds = seconds
        self._who = who
        self._clock = clock
        self._left = seconds
        self._at = clock()
        self._log_at = 0.0
        self._lock = threading.Lock()

    def left(self) -> float:
        """Return how much is left; less than 0 where requests took more than they held."""
        with self._lock:
            return self._refilled()

    def take(self, seconds: float) -> None:
        """Take this much, or give it back where it is less than 0."""
        with self._lock:
            self._left = min(self.seconds, self._refilled() - seconds)

    def hold(self, seconds: float, *, only_look: bool = False) -> None:
        """Take this much if there is so much, or only look whether there is; else raise RefusedError."""
        with self._lock:
            missing = seconds - self._refilled()
            if missing <= 0:
                self._left -= 0.0 if only_look else seconds
                return
        self._log()
        raise RefusedError(_used_up(self.seconds, min(_MINUTE, missing * _MINUTE / self.seconds)))

    def _refilled(self) -> float:
        now = self._clock()
        self._left = min(self.seconds, self._left + (now - self._at) * self.seconds / _MINUTE)
        self._at = now
        return self._left

    def _log(self) -> None:
        now = self._clock()
        if now >= self._log_at:
            self._log_at = now + _LOG_SECONDS
            _log.warning(
                "requests of %s took all of their %g s of CPU time a minute, and further ones are refused with 429;"
                " see gateway.public_cpu_seconds", self._who, self.seconds,
            )  # fmt: skip


class Purse:
    """What one request holds of an allowance, and what it took. Used by one thread at a time."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._held = self._spent = 0.0

    def expect(self, size: int) -> None:
        """Hold what work on so many bytes may take, at most the whole allowance. Raises RefusedError."""
        wanted = min(self._allowance.seconds, size * _EXPECTED)
        if wanted > self._held:
            self._allowance.hold(wanted - self._held)
            self._held = wanted

    def look(self, size: int) -> None:
        """Raise RefusedError where work on so many bytes may take more than is left now. Nothing is held."""
        self._allowance.hold(min(self._allowance.seconds, size * _EXPECTED) - self._held, only_look=True)

    def run(self, work: Callable[..., _Result], *given: Any) -> _Result:
        """Do some of the work, and pay for it.

        Raises RefusedError where nothing was left before it began, and once all of it took more than an allowance.
        """
        if not self._spent:  # those before it in the queue may have taken more than they held
            self._allowance.hold(0.0)
        began = time.thread_time()
        try:
            return work(*given)
        finally:
            self._pay(time.thread_time() - began)

    def _pay(self, seconds: float) -> None:
        self._spent += seconds
        if self._spent > self._held:
            self._allowance.take(self._spent - self._held)
            self._held = self._spent
        if self._spent > self._allowance.seconds:
            raise RefusedError(too_costly(self._allowance.seconds))

    def close(self) -> None:
        """Give back what was not needed. Safe to repeat."""
        self._allowance.take(self._spent - self._held)
        self._held = self._spent


def _used_up(seconds: float, wait: float) -> Refusal:
    message = (
        f"requests with this public key, or without a key, get {seconds:g} s of CPU time a minute"
        f" (gateway.public_cpu_seconds), and took it; try again in {max(1.0, wait):.0f} s"
    )
    return Refusal("cpu_allowance", code_pb2.UNAVAILABLE, 429, message, retry_after=max(1.0, wait))
