"""Erases one person from the spool: from batches kept for replay, from undelivered ones, from dead letters.

The spans, log records, data points and exemplars that name the person are removed, and those of traces that do. The
batches around them stay, in the same positions, with the remaining items: sinks and their cursors notice nothing. A
batch in which something else still names the person (fields that this version does not know) is emptied. A gateway may
run meanwhile: the erasure waits for the write lock.
"""

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from otel_telemetry.base.descriptors import is_repeated
from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.gateway.spool import spool_file

_REQUESTS: Final[dict[str, tuple[type[Message], str, str, str]]] = {
    "traces": (ExportTraceServiceRequest, "resource_spans", "scope_spans", "spans"),
    "logs": (ExportLogsServiceRequest, "resource_logs", "scope_logs", "log_records"),
    "metrics": (ExportMetricsServiceRequest, "resource_metrics", "scope_metrics", "metrics"),
}
_ID_BYTES: Final = 16
_SIXTEEN: Final = re.compile(rb"\x10(?=(.{16}))", re.DOTALL)
_TOGETHER: Final = 8  # a body may have 64 MiB
_PATIENCE: Final = 20.0
_PAUSE: Final = 0.2

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class ErasureTarget:
    """The person to erase: `names` match anywhere, `value` only under one of `keys`; `traces` are removed whole."""

    names: tuple[bytes, ...]
    keys: frozenset[str]
    value: str
    traces: frozenset[bytes] = frozenset()
    mixed: frozenset[bytes] = frozenset()

    def may_be_in(self, body: bytes) -> bool:
        """Return quickly whether a text may name the person."""
        return any(name in body for name in self.names) or self.value.encode("utf-8", "replace") in body

    def is_in(self, message: Message) -> bool:
        """Return whether any field of a message names the person."""
        data = message.SerializeToString()
        if any(name in data for name in self.names):
            return True
        return self.value.encode("utf-8", "replace") in data and any(self._is_value(pair) for pair in _pairs(message))

    def _is_value(self, pair: KeyValue) -> bool:
        return pair.key in self.keys and pair.value.string_value == self.value


@dataclass(slots=True)
class ErasureResult:
    """What was erased: items (spans, log records, data points), the batches and dead letters that they were in."""

    items: int = 0
    batches: int = 0
    dead_letters: int = 0
    traces: set[bytes] = field(default_factory=set)


class SpoolEraser:
    """The spool in `folder`, while one person is erased from it. Use as a context manager."""

    def __init__(self, folder: Path, wanted: ErasureTarget) -> None:
        self._wanted = wanted
        self._connection = spool_file.connect(folder / spool_file.FILE_NAME)
        self._write_lock = spool_file.lock_file(folder, spool_file.WRITE_LOCK_NAME)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        os.close(self._write_lock)

    def size(self) -> int:
        """Return how many batches and dead letters are looked at, twice each."""
        counts = (self._connection.execute(f"SELECT count(*) FROM {name}") for name in ("batch", "dead_letter"))  # noqa: S608  # ours
        return 2 * sum(int(count.fetchone()[0]) for count in counts)

    def find(self, progress: Progress = lambda _: None) -> ErasureResult:
        """Count what would go; `traces` are those that name the person in the spool. Changes nothing."""
        self._learn(progress)
        done = ErasureResult(traces=set(self._wanted.traces))
        for table in ("batch", "dead_letter"):
            for _, signal, items, body in self._rows(table):
                progress(1)
                cleaned = self._cleaned(signal, body)
                if cleaned is not None:
                    self._count(done, table, items, cleaned)
        return done

    def erase(self, progress: Progress = lambda _: None) -> ErasureResult:
        """Erase; see `rebuild` for the bytes."""
        self._learn(progress)
        done = ErasureResult(traces=set(self._wanted.traces))
        for table in ("batch", "dead_letter"):
            rows = self._rows(table)
            while chunk := list(islice(rows, _TOGETHER)):
                found = [(row, self._cleaned(row[1], row[3])) for row in chunk]
                changes = [(row, cleaned) for row, cleaned in found if cleaned is not None]
                if changes:
                    with spool_file.write_lock(self._write_lock), spool_file.transaction(self._connection):
                        for (key, _, items, body), cleaned in changes:
                            self._replace(table, key, items, body, cleaned)
                for (_, _, items, _), cleaned in changes:
                    self._count(done, table, items, cleaned)
                progress(len(chunk))
        return done

    def rebuild(self) -> None:
        """Write the file anew without what was ever deleted from it; raises StoreUnavailable where it is too busy."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                with spool_file.write_lock(self._write_lock):
                    self._connection.execute("VACUUM")
                    busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            except sqlite3.OperationalError as error:
                problem = str(error)
            else:
                problem = "a gateway is reading it" if busy else ""
            if not problem:
                return
            if time.monotonic() > deadline:
                raise StoreUnavailable(
                    f"the spool's items are erased, but its file could not be rebuilt ({problem}): bytes of them may "
                    "be in it. next: stop the gateway for a moment, and erase again"
                )
            time.sleep(_PAUSE)

    def _learn(self, progress: Progress) -> None:
        """Find the traces that name the person in the spool itself: they may not have come to a database yet."""
        found = set(self._wanted.traces)
        for table in ("batch", "dead_letter"):
            for _, signal, _, body in self._rows(table):
                progress(1)
                if signal != "metrics" and self._wanted.may_be_in(body):
                    found |= {item.trace_id for item in self._naming(signal, body)}
        self._wanted = replace(self._wanted, traces=frozenset(found - self._wanted.mixed - {b""}))

    def _naming(self, signal: str, body: bytes) -> Iterator[Any]:
        message = _parsed(signal, body)
        for _, _, item in _items(signal, message) if message is not None else ():
            if self._wanted.is_in(item):
                yield item

    def _rows(self, table: str) -> Iterator[tuple[int, str, int, bytes]]:
        """Yield (key, signal, items, body), the oldest first. No read transaction is left open in between.

        It ends with what was there when it began: a gateway that receives may write faster than this reads.
        """
        key, after = ("seq" if table == "batch" else "id"), 0
        last = self._connection.execute(f"SELECT max({key}) FROM {table}").fetchone()[0] or 0  # noqa: S608  # ours
        where = f"WHERE {key} > ? AND {key} <= ? ORDER BY {key} LIMIT {_TOGETHER}"
        query = f"SELECT {key}, signal, items, body FROM {table} {where}"  # noqa: S608  # ours
        while rows := self._connection.execute(query, (after, last)).fetchall():
            yield from rows
            after = rows[-1][0]

    def _cleaned(self, signal: str, body: bytes) -> tuple[int, bytes] | None:
        """Return how many items went, and the body without them; None where nothing has to go."""
        wanted = self._wanted
        if not wanted.may_be_in(body) and not _has_one_of(wanted.traces, body):
            return None
        message = _parsed(signal, body)
        if message is None:  # no telemetry: it was never readable, so nothing of it is kept
            return 0, b""
        went = _strip(signal, message, wanted)
        new = message.SerializeToString()
        if wanted.is_in(message):
            return went + sum(_size(signal, item) for _, _, item in _items(signal, message)), b""
        return (went, new) if went or new != body else None

    @staticmethod
    def _count(done: ErasureResult, table: str, items: int, cleaned: tuple[int, bytes]) -> None:
        done.items += min(cleaned[0], items)
        done.batches += table == "batch"
        done.dead_letters += table == "dead_letter"

    def _replace(self, table: str, key: int, items: int, body: bytes, cleaned: tuple[int, bytes]) -> None:
        """Replace a body, and correct the counts of what each sink still has to get."""
        went, new = min(cleaned[0], items), cleaned[1]
        execute = self._connection.execute
        if table == "dead_letter":
            execute("UPDATE dead_letter SET items = items - ?, body = ? WHERE id = ?", (went, new, key))
            execute("DELETE FROM replay WHERE id IN (SELECT id FROM dead_letter WHERE length(body) = 0)")
            execute("DELETE FROM dead_letter WHERE length(body) = 0")
            return
        changed = execute(
            "UPDATE batch SET items = items - ?, body = ?, crc = ? WHERE seq = ?",
            (went, new, spool_file.checksum(new), key),
        )
        if changed.rowcount:  # else it was trimmed meanwhile
            less = (went, len(body) - len(new))
            execute("UPDATE total SET items = items - ?, bytes = bytes - ?", less)
            execute("UPDATE cursor SET items = items - ?, bytes = bytes - ? WHERE seq >= ?", (*less, key))


def leftovers(folder: Path) -> list[Path]:
    """Return files of spools that were put aside, damaged or replaced: what is in them nobody rewrites."""
    found = [*folder.glob("*damaged*"), *folder.glob("spool.saved-*")]
    return sorted(path for path in found if path.is_file())


def _has_one_of(traces: frozenset[bytes], body: bytes) -> bool:
    """Return whether one of these ids may be in a request: in protobuf the length, 16, stands before each."""
    if any(found[1] in traces for found in _SIXTEEN.finditer(body)):
        return True
    return any(trace in body for trace in traces if len(trace) != _ID_BYTES)


def _parsed(signal: str, body: bytes) -> Any:
    with contextlib.suppress(DecodeError):
        return _REQUESTS[signal][0].FromString(body)
    return None


def _items(signal: str, message: Any) -> Iterator[tuple[Any, Any, Any]]:
    _, groups, scopes, items = _REQUESTS[signal]
    for group in getattr(message, groups):
        for scope in getattr(group, scopes):
            for item in getattr(scope, items):
                yield group, scope, item


def _strip(signal: str, message: Any, wanted: ErasureTarget) -> int:
    """Take out of a request what is the person's; return how many items that were."""
    _, groups, scopes, items = _REQUESTS[signal]
    before = sum(_size(signal, item) for _, _, item in _items(signal, message))
    _keep(getattr(message, groups), lambda group: not wanted.is_in(group.resource))
    for group in getattr(message, groups):
        _keep(getattr(group, scopes), lambda scope: not wanted.is_in(scope.scope))
        for scope in getattr(group, scopes):
            keep_one = _keep_points if signal == "metrics" else _keep_item
            _keep(getattr(scope, items), lambda item, keep_one=keep_one: keep_one(item, wanted))  # type: ignore[misc]  # bound at once
        _keep(getattr(group, scopes), lambda scope: bool(getattr(scope, items)))
    _keep(getattr(message, groups), lambda group: bool(getattr(group, scopes)))
    return before - sum(_size(signal, item) for _, _, item in _items(signal, message))


def _keep(members: Any, condition: Callable[[Any], bool]) -> None:
    """Keep the members of a repeated field that meet a condition."""
    for index in reversed(range(len(members))):
        if not condition(members[index]):
            del members[index]


def _keep_item(item: Any, wanted: ErasureTarget) -> bool:
    return item.trace_id not in wanted.traces and not wanted.is_in(item)


def _keep_points(metric: Any, wanted: ErasureTarget) -> bool:
    points = _points(metric)
    for point in points:
        if hasattr(point, "exemplars"):
            _keep(point.exemplars, lambda exemplar: _keep_item(exemplar, wanted))
    _keep(points, lambda point: not wanted.is_in(point))
    return bool(points) and not wanted.is_in(metric)


def _points(metric: Any) -> Any:
    kind = metric.WhichOneof("data")
    return getattr(metric, kind).data_points if kind else []


def _size(signal: str, item: Any) -> int:
    return len(_points(item)) if signal == "metrics" else 1


def _pairs(message: Message) -> Iterable[KeyValue]:
    """Yield all attributes in a message, at any depth."""
    stack: list[Any] = [message]
    while stack:
        top = stack.pop()
        if isinstance(top, KeyValue):
            yield top
        for descriptor, value in top.ListFields():
            if descriptor.message_type is not None:
                stack += value if is_repeated(descriptor) else [value]
