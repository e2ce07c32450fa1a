"""Splits an Export request that is larger than a destination takes; every piece keeps its resources and scopes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.base.destinations import Signal

#: Per signal: the request, and the lists of resources, of scopes, and of what counts.
_SHAPES: Final[dict[Signal, tuple[Any, str, str, str]]] = {
    "traces": (ExportTraceServiceRequest, "resource_spans", "scope_spans", "spans"),
    "logs": (ExportLogsServiceRequest, "resource_logs", "scope_logs", "log_records"),
    "metrics": (ExportMetricsServiceRequest, "resource_metrics", "scope_metrics", "metrics"),
}
_FRAME: Final = 12  # bytes around a message within another: its tag and its length, and that of what is around it


@dataclass(slots=True, frozen=True)
class Piece:
    """A request, and how many spans, log records or data points are in it."""

    body: bytes
    items: int


class _Filling:
    """A piece that is being filled. Its last scope is `self._scope`, made of the shells `self._of`."""

    def __init__(self, signal: Signal) -> None:
        kind, self._resources, self._scopes, self._contents = _SHAPES[signal]
        self._request = kind()
        self._size = 0
        self._items = 0
        self._of: _Shells | None = None
        self._scope: Any = None

    def has_room(self, shells: "_Shells", item: Any, max_bytes: int) -> bool:
        around = 0 if shells is self._of else shells.size
        return not self._items or self._size + around + item.ByteSize() + _FRAME <= max_bytes

    def add(self, shells: "_Shells", item: Any) -> None:
        if shells is not self._of:
            group = getattr(self._request, self._resources).add()
            group.CopyFrom(shells.resource)
            self._scope = getattr(group, self._scopes).add()
            self._scope.CopyFrom(shells.scope)
            self._of = shells
            self._size += shells.size
        getattr(self._scope, self._contents).append(item)
        self._size += item.ByteSize() + _FRAME
        self._items += _count(item)

    def piece(self) -> Piece:
        return Piece(self._request.SerializeToString(), self._items)


@dataclass(slots=True, frozen=True)
class _Shells:
    """A resource and a scope without their contents, and the bytes that they take."""

    resource: Any
    scope: Any
    size: int


def split(signal: Signal, body: bytes, max_bytes: int) -> Iterator[Piece]:
    """Yield the request in pieces of about `max_bytes`, in order; one larger span, record or metric is a piece.

    Raises google.protobuf.message.DecodeError where the body is none.
    """
    filling = _Filling(signal)
    for shells, item in _walk(signal, body):
        if not filling.has_room(shells, item, max_bytes):
            yield filling.piece()
            filling = _Filling(signal)
        filling.add(shells, item)
    yield filling.piece()


def _walk(signal: Signal, body: bytes) -> Iterator[tuple[_Shells, Any]]:
    kind, resources, scopes, contents = _SHAPES[signal]
    for group in getattr(kind.FromString(body), resources):
        for scope in _emptied(group, scopes):
            items = _emptied(scope, contents)
            shells = _Shells(group, scope, group.ByteSize() + scope.ByteSize() + 2 * _FRAME)
            for item in items:
                yield shells, item


def _emptied(message: Any, contents: str) -> list[Any]:
    """Take its contents out of a message, without a copy; what a newer protocol added stays in it."""
    taken = list(getattr(message, contents))
    message.ClearField(contents)
    return taken


def _count(item: Any) -> int:
    """Return 1 for a span or a log record, for a metric its data points (one at least)."""
    kind = item.WhichOneof("data") if item.DESCRIPTOR.name == "Metric" else None
    return max(1, len(getattr(item, kind).data_points)) if kind else 1
