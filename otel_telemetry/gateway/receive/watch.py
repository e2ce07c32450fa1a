"""How a receiver works on requests: side by side; on those that are suspected alone; on those that are guilty never."""

import asyncio
import hashlib
import logging
from types import TracebackType
from typing import Final, Self

from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.gateway.receive import status
from otel_telemetry.gateway.receive.status import RefusedError
from otel_telemetry.gateway.receive.suspects import Mark, Suspects, mark_of
from otel_telemetry.gateway.spool.transport import Transport

_DEAD_LETTERS: Final = "receiver"  # whose they are, as `otel-telemetry spool status` names it

_log = logging.getLogger("otel_telemetry.gateway.receive.receiver")


class Watch:
    """Notes what one receiver, at `place`, works on. For the event loop only."""

    def __init__(self, suspects: Suspects, receiver: int, spool: Transport) -> None:
        self.suspects = suspects
        self.free = suspects.slots(receiver)
        self.admission = Admission()
        self._spool = spool

    def over(self, kind: Signal, body: bytes) -> "_Work":
        """Return what is entered while a request is worked on; entering raises RefusedError."""
        return _Work(self, kind, body)

    async def refuse(self, mark: Mark, body: bytes) -> None:
        """Set aside what is known of a request that is refused, the first time."""
        if self.suspects.has_letter(mark):
            return
        digest = (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()
        reason = f"took a receiver down: {mark}, SHA-256 {digest}"
        _log.error("a request that took a receiver down is refused: %s", reason.partition(": ")[2])
        try:
            await asyncio.to_thread(self._spool.set_aside, _DEAD_LETTERS, mark.signal, reason)
        except StoreUnavailable:  # it will come again
            return
        self.suspects.note_letter(mark)


class _Work:
    """One request while it is worked on."""

    def __init__(self, watch: Watch, kind: Signal, body: bytes) -> None:
        self._watch = watch
        self._body = body
        self._mark = mark_of(kind, body)
        self._alone = False
        self._slot = -1

    async def __aenter__(self) -> Self:
        watch, mark = self._watch, self._mark
        if watch.suspects.doubted(mark):
            if watch.suspects.refused(mark):
                await watch.refuse(mark, self._body)
                raise RefusedError(status.TOOK_DOWN)
            self._alone = True
        await watch.admission.enter(alone=self._alone)
        if watch.free:
            self._slot = watch.free.pop()
            watch.suspects.enter(self._slot, mark)
        self._body = b""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._slot >= 0:
            self._watch.suspects.leave(self._slot)
            self._watch.free.append(self._slot)
        if self._alone:
            self._watch.suspects.clear(self._mark)
        self._watch.admission.leave(alone=self._alone)


class Admission:
    """Lets requests in side by side, and one by itself where it asks for that."""

    def __init__(self) -> None:
        self._inside = 0
        self._one = asyncio.Lock()
        self._open = asyncio.Event()
        self._open.set()
        self._empty = asyncio.Event()

    async def enter(self, *, alone: bool) -> None:
        """Return once it may be worked on."""
        if not alone:
            while not self._open.is_set():
                await self._open.wait()
        else:
            await self._one.acquire()
            self._open.clear()
            try:
                while self._inside:
                    self._empty.clear()
                    await self._empty.wait()
            except BaseException:
                self._let_in()
                raise
        self._inside += 1

    def leave(self, *, alone: bool) -> None:
        """Let the next one in."""
        self._inside -= 1
        if alone:
            self._let_in()
        if not self._inside:
            self._empty.set()

    def _let_in(self) -> None:
        self._open.set()
        self._one.release()
