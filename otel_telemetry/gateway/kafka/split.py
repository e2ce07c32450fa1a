"""Splits OTLP requests by the bucket of their traces, so that all of a trace goes to one partition, and by size.

What has no trace stays together. Unknown fields are kept.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final
from zlib import crc32

from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import TooDense
from otel_telemetry.base.otlp_json import REQUESTS

#: Where the items of a request are: in the request, in a resource, in a scope.
_PATHS: Final = {
    "traces": ("resource_spans", "scope_spans", "spans"),
    "logs": ("resource_logs", "scope_logs", "log_records"),
    "metrics": ("resource_metrics", "scope_metrics", "metrics"),
}
_ITEM: Final = {"traces": "span", "logs": "log record", "metrics": "metric"}
#: Of a message's size, what a resource and a scope of usual size take; a larger one is found at the end.
_ROOM: Final = 0.8

_OUTER: Final = 0x0A  # tags on the wire: field 1 of a request, field 2 of a resource and of a scope
_INNER: Final = 0x12
_TRACE_ID: Final = b"\x0a\x10"  # field 1 of a span, of 16 bytes
_LENGTH_DELIMITED: Final = 2
_SEVEN_BITS: Final = 0x7F

Piece = tuple[int, bytes, int]
"""Bucket, body, items."""


def split(signal: Signal, body: bytes, items: int, *, buckets: int, spare: int, largest: int) -> list[Piece]:
    """Return a request as one message for each bucket of traces, none larger than `largest` bytes.

    `spare` is the bucket of what has no trace. Raises TooDense where one item alone is larger.
    """
    if signal == "metrics" and len(body) <= largest:
        return [(spare, body, items)]
    if signal == "traces" and len(body) <= largest and (cut := _cut(body, buckets)):
        return cut if len(cut) > 1 else [(cut[0][0], body, items)]
    size = int(largest * _ROOM) if len(body) > largest else 0
    pieces = _Splitter(signal, buckets, spare, size).pieces(REQUESTS[signal].FromString(body))
    for _, piece, _ in pieces:
        if len(piece) > largest:
            raise TooDense(
                f"a {_ITEM[signal]} that takes {len(piece)} bytes with its resource, and "
                f"gateway.kafka.max_message_bytes is {largest}"
            )
    return pieces if len(pieces) > 1 else [(bucket, body, items) for bucket, _, _ in pieces]


# --- on the bytes -----------------------------------------------------------------------------------------------------
def _cut(body: bytes, buckets: int) -> list[Piece]:
    """Return the messages of spans that are written as SDKs write them: each begins with its trace id; else none.

    Nothing is parsed: all other fields are copied as they are, a third of the cost of messages that are built.
    """
    try:
        return _messages(body, buckets)
    except (_Unusual, IndexError):
        return []


def _messages(body: bytes, buckets: int) -> list[Piece]:
    resources: dict[int, list[bytes]] = {}
    counts: dict[int, int] = {}
    for tag, start, end in _fields(body, 0, len(body)):
        if body[tag] != _OUTER:
            return []
        scopes: dict[int, list[bytes]] = {}
        head = []
        for inner_tag, inner_start, inner_end in _fields(body, start, end):
            if body[inner_tag] != _INNER:
                head.append(body[inner_tag:inner_end])
                continue
            spans = _spans(body, inner_start, inner_end, buckets)
            if spans is None:
                return []
            rest, of_bucket = spans
            for bucket, found in of_bucket.items():
                counts[bucket] = counts.get(bucket, 0) + len(found)
                scopes.setdefault(bucket, []).append(_field(_INNER, rest + b"".join(found)))
        before = b"".join(head)
        for bucket, parts in scopes.items():
            resources.setdefault(bucket, []).append(_field(_OUTER, before + b"".join(parts)))
    return [(bucket, b"".join(parts), counts[bucket]) for bucket, parts in resources.items()]


def _spans(body: bytes, position: int, end: int, buckets: int) -> tuple[bytes, dict[int, list[bytes]]] | None:
    """Return a scope without its spans, and these by bucket; None where one does not begin with its trace id."""
    found: dict[int, list[bytes]] = {}
    rest = []
    for tag, start, stop in _fields(body, position, end):
        if body[tag] != _INNER:
            rest.append(body[tag:stop])
            continue
        if body[start : start + 2] != _TRACE_ID:
            return None
        bucket = crc32(body[start + 2 : start + 18]) % buckets
        if bucket in found:
            found[bucket].append(body[tag:stop])
        else:
            found[bucket] = [body[tag:stop]]
    return b"".join(rest), found


def _fields(body: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield where the tag, the payload and the end of each field are; all have one byte of tag, and a length."""
    while position < end:
        start = position + 1
        length = body[start]
        start += 1
        if length > _SEVEN_BITS:
            length &= _SEVEN_BITS
            shift = 7
            while (byte := body[start]) > _SEVEN_BITS:
                length |= (byte & _SEVEN_BITS) << shift
                shift += 7
                start += 1
            length |= byte << shift
            start += 1
        if body[position] & 7 != _LENGTH_DELIMITED or body[position] > _SEVEN_BITS or start + length > end:
            raise _Unusual
        yield position, start, start + length
        position = start + length


def _field(tag: int, payload: bytes) -> bytes:
    length = len(payload)
    out = bytearray((tag,))
    while length > _SEVEN_BITS:
        out.append(length & _SEVEN_BITS | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out) + payload


class _Unusual(Exception):
    """A field that is left to protobuf's own parser."""


# --- with protobuf's parser -------------------------------------------------------------------------------------------
class _Splitter:
    """Puts the items of one request into messages. `size`: bytes of items that one takes at most, 0: any."""

    def __init__(self, signal: Signal, buckets: int, spare: int, size: int) -> None:
        self._outer, self._inner, self._leaf = _PATHS[signal]
        self._make = REQUESTS[signal]
        self._bucket = _always(spare) if signal == "metrics" else _by_trace(buckets, spare)
        self._count: Callable[[Any], int] = _points if signal == "metrics" else lambda _: 1
        self._size = size
        self._open: dict[int, _Message] = {}
        self._full: list[Piece] = []

    def pieces(self, request: Any) -> list[Piece]:
        """Return the messages; the request is taken apart."""
        for resource in getattr(request, self._outer):
            scopes = list(getattr(resource, self._inner))
            resource.ClearField(self._inner)  # what is left goes into each message
            for scope in scopes:
                self._take(resource, scope)
        return [*self._full, *(message.piece(bucket) for bucket, message in self._open.items())]

    def _take(self, resource: Any, scope: Any) -> None:
        leaves = list(getattr(scope, self._leaf))
        scope.ClearField(self._leaf)
        targets: dict[int, _Message] = {}
        for leaf in leaves:
            bucket = self._bucket(leaf)
            if self._size and bucket in self._open and self._open[bucket].bytes + leaf.ByteSize() > self._size:
                self._full.append(self._open.pop(bucket).piece(bucket))
                targets.pop(bucket, None)
            message = targets.get(bucket)
            if message is None:
                message = targets[bucket] = self._open.setdefault(bucket, _Message(self._make()))
                message.begin(resource, scope, self._outer, self._inner, self._leaf)
            message.leaves.append(leaf)
            message.items += self._count(leaf)
            if self._size:
                message.bytes += leaf.ByteSize()


class _Message:
    """One message while it is filled; `leaves` is where the next item goes."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._resource: Any = None
        self._copy: Any = None
        self.leaves: Any = None
        self.bytes = 0
        self.items = 0

    def begin(self, resource: Any, scope: Any, outer: str, inner: str, leaf: str) -> None:
        """Have the next items go to this scope of this resource."""
        if self._resource is not resource:
            self._resource = resource
            self._copy = getattr(self._request, outer).add()
            self._copy.CopyFrom(resource)
        opened = getattr(self._copy, inner).add()
        opened.CopyFrom(scope)
        self.leaves = getattr(opened, leaf)

    def piece(self, bucket: int) -> Piece:
        """Return it whole."""
        return bucket, self._request.SerializeToString(), self.items


def _always(bucket: int) -> Callable[[Any], int]:
    return lambda _: bucket


def _by_trace(buckets: int, spare: int) -> Callable[[Any], int]:
    return lambda item: crc32(item.trace_id) % buckets if item.trace_id else spare


def _points(metric: Any) -> int:
    kind = metric.WhichOneof("data")
    return len(getattr(metric, kind).data_points) if kind else 0
