"""Remembers requests whose sender left before the answer, and answers their retries.

A request that arrived completely is stored, whether its sender still waits or not: if work were discarded each time a
sender's patience ends, it would never be done. So such a request is remembered by a digest; the same bytes get the
first request's answer, and are not stored twice. This works in one process, for a limited time; beyond that, rows are
unique by their ids.
"""

import hashlib
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

_SECONDS: Final = 600.0  # no sender tries again for longer
_MOST: Final = 8192  # in all, of about 1 kB each

_Answer = TypeVar("_Answer")
_Key = tuple[str, int]


class Caller:
    """A client that waits for one answer. For the event loop only.

    An answer after `late`, on the clock of time.monotonic, may not reach its sender any more.
    """

    def __init__(self, late: float = math.inf) -> None:
        self._late = late
        self._left = False
        self._then: Callable[[], None] | None = None

    def leave(self) -> None:
        """Note that the sender does not wait any more, or may not."""
        if not self._left:
            self._left = True
            if self._then:
                self._then()

    def when_gone(self, then: Callable[[], None]) -> None:
        """Call `then` once the sender has left, at once where it has."""
        self._then = then
        if self._left:
            then()

    def answered(self) -> None:
        """Note that the answer is there: who leaves from now on has it, unless it is late."""
        if time.monotonic() > self._late:
            self.leave()
        self._then = None


class _AbandonedRequest(Generic[_Answer]):
    """A request whose sender has left."""

    def __init__(self, digest: bytes, answer: Future[_Answer | None]) -> None:
        self.digest = digest
        self.answer = answer
        self.until = time.monotonic() + _SECONDS


class AbandonedRequests(Generic[_Answer]):
    """Requests whose senders have left, and their answers, of which some are still to come. For the event loop only.

    None is the answer of a request that failed: the same bytes are a new request then. An error is never kept, as it
    holds the frames that it went through, and these the request.
    """

    def __init__(self) -> None:
        self._answers: dict[_Key, deque[_AbandonedRequest[_Answer]]] = {}
        self._oldest_first: deque[tuple[_Key, _AbandonedRequest[_Answer]]] = deque()

    def __len__(self) -> int:
        return len(self._oldest_first)

    def remember(self, signal: str, body: bytes, answer: Future[_Answer | None]) -> None:
        """Note what was sent, by its digest."""
        key = signal, len(body)
        one = _AbandonedRequest(_digest(body), answer)
        self._answers.setdefault(key, deque()).append(one)
        self._oldest_first.append((key, one))
        self._trim()

    def answer(self, signal: str, body: bytes) -> Future[_Answer | None] | None:
        """Return the answer to the same bytes, if they came before and their sender left before the answer."""
        same = self._answers.get((signal, len(body)))
        if not same:  # nothing is hashed then
            return None
        digest, now = _digest(body), time.monotonic()
        return next(
            (one.answer for one in same if one.digest == digest and one.until > now and _good(one.answer)), None
        )

    def _trim(self) -> None:
        """Forget the oldest: what is too old, and what is too many."""
        now = time.monotonic()
        while self._oldest_first[0][1].until <= now or len(self._oldest_first) > _MOST:
            key, _ = self._oldest_first.popleft()
            same = self._answers[key]
            same.popleft()  # those of one length are in the same order
            if not same:
                del self._answers[key]


def _good(answer: Future[_Answer | None]) -> bool:
    """Return whether an answer is a success, or may become one."""
    return not answer.done() or answer.result() is not None


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).digest()
