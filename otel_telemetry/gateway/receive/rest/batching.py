"""Redacts and spools small requests that arrive at the same time as one, which costs less for each.

Protobuf messages placed one after the other are one message, with the records of all. The observed time identifies a
record: the times that `Clock` returns are all different.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_telemetry.base.errors import MalformedTelemetry
from otel_telemetry.gateway.receive.receiver import Accepted, Receiver
from otel_telemetry.gateway.receive.rest import records
from otel_telemetry.gateway.receive.status import RefusedError

_MOST_BYTES: Final = 64 << 10  # of one turn of the event loop: it serves all others in between


class Clock:
    """Gives out times in nanoseconds, none of them twice. For any thread."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def take(self, count: int = 1) -> int:
        """Return now, as the first of so many times that are nobody else's."""
        with self._lock:
            first = max(time.time_ns(), self._last + 1)
            self._last = first + count - 1
        return first


class BatchResult:
    """What became of requests that went together."""

    def __init__(self, accepted: Accepted) -> None:
        self._accepted = accepted

    @property
    def redacted(self) -> bool:
        """Whether anything was redacted, or left out, in any of them."""
        return self._accepted.redacted

    @cached_property
    def by_time(self) -> Mapping[int, LogRecord]:
        """The records that are kept, by when they were observed."""
        return records.by_time(self._accepted.body)


@dataclass(slots=True)
class _PendingRequest:
    body: bytes
    result: asyncio.Future[BatchResult] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class LogBatcher:
    """Takes OTLP log requests; those that are there in one turn of the event loop go together, up to a size."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._pending: list[_PendingRequest] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, body: bytes) -> BatchResult:
        """Return once the request is redacted and on disk; raises TelemetryError where it is not accepted."""
        mine = _PendingRequest(body)
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._go)
        self._pending.append(mine)
        return await mine.result

    def _go(self) -> None:
        """Start with the first of those that wait; the rest has its turn once the event loop has served others."""
        sizes = itertools.accumulate(len(each.body) for each in self._pending)
        count = max(1, sum(1 for _ in itertools.takewhile(lambda size: size <= _MOST_BYTES, sizes)))
        group, self._pending = self._pending[:count], self._pending[count:]
        if self._pending:
            asyncio.get_running_loop().call_soon(self._go)
        self._start(group)

    def _start(self, group: Sequence[_PendingRequest]) -> None:
        task = asyncio.get_running_loop().create_task(self._take(group))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, group: Sequence[_PendingRequest]) -> None:
        try:
            with self._receiver.room() as room:
                body = b"".join(each.body for each in group)
                result = BatchResult(await self._receiver.accept("logs", body, room, at_once=True))
        except (MalformedTelemetry, RefusedError) as error:  # whose fault it is shows when each goes alone
            if len(group) == 1:
                _fail(group, error)
            else:
                for each in group:
                    self._start([each])
        except Exception as error:  # noqa: BLE001  # whatever it is, somebody waits to hear of it
            _fail(group, error)
        else:
            for each in group:
                if not each.result.done():
                    each.result.set_result(result)


def _fail(group: Sequence[_PendingRequest], error: Exception) -> None:
    for each in group:
        if not each.result.done():
            each.result.set_exception(error)
