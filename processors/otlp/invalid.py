"""Removes invalid items from OTLP requests that protobuf's parser refuses.

One string that is not UTF-8, one value nested too deep or one message that is cut off makes the parser refuse the whole
request. Here each item (span, log record, data point) is parsed by itself, and only those that fail are left out. If a
resource or a scope cannot be parsed, its items are left out too: it is unknown what they belong to. This runs only for
requests that were refused, so it costs nothing otherwise.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from otel_telemetry.base.descriptors import is_repeated
from otel_telemetry.base.errors import MalformedTelemetry
from otel_telemetry.processors.otlp import wire

_GROUPS, _SCOPES, _ITEMS = 1, 2, 2  # field numbers; alike for all signals
_DATA_POINTS: Final = 1
_POINTS_NAME: Final = "data_points"
_MAX_LEVELS: Final = 100  # messages in messages, the request itself among them, that protobuf's parsers take
_SHOWN_LEVELS: Final = 2  # of the path to something that is nested too deep
_BROKEN: Final = "cut off, or not protobuf"
_UNKNOWN_FAULT: Final = "not valid protobuf"
_TOO_DEEP: Final = f"nested deeper than the {_MAX_LEVELS} levels that protobuf can hold"


@dataclass(slots=True, frozen=True)
class Remaining:
    """A request without its invalid items: how many were left out, and why the first was, with its path."""

    body: bytes
    rejected: int
    problem: str


def without_invalid(request: type[Message], body: bytes) -> Remaining:
    """Return what protobuf can parse of an Export*ServiceRequest; raises MalformedTelemetry where no item is left."""
    sieve = _Sieve(request, body)
    rest = sieve.sift()
    if not sieve.kept:
        problem = f"the body is not a valid protobuf {request.DESCRIPTOR.name}"
        raise MalformedTelemetry(f"{problem}: {sieve.reason}" if sieve.path else problem, sieve.path)
    return Remaining(rest, sieve.rejected, f"{sieve.path}: {sieve.reason}" if sieve.rejected else "")


class _Sieve:
    """One pass over one request. `path` and `reason` are those of the first item that was left out."""

    def __init__(self, request: type[Message], body: bytes) -> None:
        self._request = request
        self._body = body
        self._root: Any = request.DESCRIPTOR
        self._group_type = _inner(self._root, _GROUPS)
        self._scope_type = _inner(self._group_type, _SCOPES)
        self._item_type = _inner(self._scope_type, _ITEMS)
        self._points = _points_by_number(self._item_type)
        self.kept = 0
        self.rejected = 0
        self.path = ""
        self.reason = ""

    def sift(self) -> bytes:
        """Return the request without what cannot be parsed."""
        splice = wire.Splice(self._body, 0, len(self._body))
        parts, end = self._readable(0, len(self._body))
        number = 0
        for field in parts:
            if field.holds(_GROUPS):
                self._group(field, self._step(self._root, _GROUPS, number), splice)
                number += 1
            elif not self._parses(self._body[field.tag : field.end], 0):
                splice.replace(field, None)  # unknown, so no item is lost with it
        if end < len(self._body):
            splice.cut(end)
            self._reject(1, self._step(self._root, _GROUPS, number) if number else "", _BROKEN)
        rest = splice.result()
        return self._body if rest is None else rest

    def _group(self, group: wire.Field, path: str, outer: wire.Splice) -> None:
        payload = self._body[group.start : group.end]
        if self._parses(payload, 1):
            self.kept += _count(payload, self._group_type)
            outer.replace(group, payload)  # written anew: its own tag or length may be what the parser refused
            return
        parts, end = self._readable(group.start, group.end)
        shell = b"".join(self._body[part.tag : part.end] for part in parts if not part.holds(_SCOPES))
        if end < group.end or not self._parses(shell, 1):
            self._reject_all(payload, self._group_type, path)
            outer.replace(group, None)
            return
        splice = wire.Splice(self._body, group.start, group.end)
        scopes = [part for part in parts if part.holds(_SCOPES)]
        for number, scope in enumerate(scopes):
            self._scope(scope, path + "." + self._step(self._group_type, _SCOPES, number), splice)
        outer.replace(group, splice.result())

    def _scope(self, scope: wire.Field, path: str, outer: wire.Splice) -> None:
        payload = self._body[scope.start : scope.end]
        if self._parses(payload, 2):
            self.kept += _count(payload, self._scope_type)
            outer.replace(scope, payload)
            return
        parts, end = self._readable(scope.start, scope.end)
        shell = b"".join(self._body[part.tag : part.end] for part in parts if not part.holds(_ITEMS))
        if not self._parses(shell, 2):
            self._reject_all(payload, self._scope_type, path)
            outer.replace(scope, None)
            return
        splice = wire.Splice(self._body, scope.start, scope.end)
        number = 0
        for part in parts:
            if part.holds(_ITEMS):
                self._item(part, path + "." + self._step(self._scope_type, _ITEMS, number), splice)
                number += 1
        if end < scope.end:  # what stands before it can be told apart, what comes behind it cannot
            splice.cut(end)
            self._reject(1, path + "." + self._step(self._scope_type, _ITEMS, number), _BROKEN)
        outer.replace(scope, splice.result())

    def _item(self, item: wire.Field, path: str, outer: wire.Splice) -> None:
        payload = self._body[item.start : item.end]
        if self._parses(payload, 3):
            self.kept += _count(payload, self._item_type)
            outer.replace(item, payload)
            return
        rest = self._without_points(item, path) if self._points else None
        if rest is None:
            self._reject_all(payload, self._item_type, path)
        outer.replace(item, rest)

    def _without_points(self, metric: wire.Field, path: str) -> bytes | None:
        """Return a metric without the data points that are invalid; None where that does not help."""
        splice = wire.Splice(self._body, metric.start, metric.end)
        parts, _ = self._readable(metric.start, metric.end)
        faults: list[tuple[str, str]] = []
        for data in parts:
            known = self._points.get(data.number)
            if known is not None and data.holds(data.number):
                faults += self._sift_points(data, known, splice)
        rest = splice.result()
        if rest is None or not self._parses(rest, 3):
            return None
        for where, reason in faults:
            self._reject(1, f"{path}.{where}", reason)
        self.kept += _count(rest, self._item_type)
        return rest

    def _sift_points(self, data: wire.Field, known: FieldDescriptor, outer: wire.Splice) -> list[tuple[str, str]]:
        """Leave out the invalid points of one gauge, sum or histogram; return where they were, and why."""
        point_type = _inner(known.message_type, _DATA_POINTS)
        splice = wire.Splice(self._body, data.start, data.end)
        faults: list[tuple[str, str]] = []
        number = 0
        for point in self._readable(data.start, data.end)[0]:
            if not point.holds(_DATA_POINTS):
                continue
            payload = self._body[point.start : point.end]
            metric = wire.length_delimited(data.number, wire.length_delimited(_DATA_POINTS, payload))
            if not self._parses(metric, 3):
                steps, reason = find_fault(payload, point_type, 5)
                faults.append((".".join([known.name, f"{_POINTS_NAME}[{number}]", *steps]), reason))
                splice.replace(point, None)
            number += 1
        if faults:
            outer.replace(data, splice.result())
        return faults

    # --- what is left out -------------------------------------------------------------------------------------------
    def _reject_all(self, payload: bytes, kind: Descriptor, path: str) -> None:
        """Note that a message is left out with all items in it; find out why where it is the first."""
        steps: Sequence[str] = ()
        reason = _UNKNOWN_FAULT
        if not self.path:
            level = {self._group_type: 1, self._scope_type: 2}.get(kind, 3)
            steps, reason = find_fault(payload, kind, level)
        self._reject(max(1, _count(payload, kind)), ".".join([path, *steps]), reason)

    def _reject(self, items: int, path: str, reason: str) -> None:
        self.rejected += items
        if not self.reason:
            self.path, self.reason = path, reason

    # --- reading ----------------------------------------------------------------------------------------------------
    def _parses(self, payload: bytes, level: int) -> bool:
        """Return whether protobuf takes a message at its place in the request: how deep it may nest depends on that."""
        for number in (_ITEMS, _SCOPES, _GROUPS)[3 - level :]:
            payload = wire.length_delimited(number, payload)
        try:
            self._request.FromString(payload)
        except DecodeError:
            return False
        return True

    def _readable(self, start: int, end: int) -> tuple[list[wire.Field], int]:
        """Return the fields up to the first one that is broken, and where that is (`end`: none is)."""
        found: list[wire.Field] = []
        try:
            for field in wire.fields(self._body, start, end):
                found.append(field)  # noqa: PERF402 - those before the broken one are kept
        except wire.NotWire:
            return found, found[-1].end if found else start
        return found, end

    @staticmethod
    def _step(kind: Any, number: int, index: int) -> str:
        return f"{kind.fields_by_number[number].name}[{index}]"


def find_fault(payload: bytes, kind: Descriptor, level: int) -> tuple[Sequence[str], str]:
    """Return where in a message, `level` levels inside its request, the parser fails, and why."""
    steps, reason = _fault(payload, kind, level) or ([], _UNKNOWN_FAULT)
    return (steps[:_SHOWN_LEVELS] if reason is _TOO_DEEP else steps), reason


def _fault(payload: bytes, kind: Descriptor, level: int) -> tuple[list[str], str] | None:
    if level >= _MAX_LEVELS:
        return [], _TOO_DEEP
    seen: Counter[int] = Counter()
    try:
        for field in wire.fields(payload, 0, len(payload)):
            known = kind.fields_by_number.get(field.number)
            if known is None or field.wire_type != wire.LENGTH_DELIMITED:
                continue
            fault = _field_fault(payload[field.start : field.end], known, level)
            if fault:
                step = f"{known.name}[{seen[field.number]}]" if is_repeated(known) else known.name
                return [step, *fault[0]], fault[1]
            seen[field.number] += 1
    except wire.NotWire:
        return [], _BROKEN
    return None


def _field_fault(payload: bytes, known: FieldDescriptor, level: int) -> tuple[list[str], str] | None:
    if known.message_type is not None:
        return _fault(payload, known.message_type, level + 1)
    if known.type == FieldDescriptor.TYPE_STRING:
        try:
            payload.decode()
        except UnicodeDecodeError:
            return [], "not valid UTF-8"
    return None


def _inner(kind: Any, number: int) -> Any:
    """Return the descriptor of the message that a field holds."""
    return kind.fields_by_number[number].message_type


def _points_by_number(item_type: Any) -> dict[int, FieldDescriptor]:
    """Return the fields of a metric that hold data points, by number; none for spans and log records."""
    return {
        field.number: field
        for field in item_type.fields
        if field.message_type is not None and _POINTS_NAME in field.message_type.fields_by_name
    }


def _count(payload: bytes, kind: Any) -> int:
    """Count the spans, log records or data points in a resource, a scope or an item, as far as it can be read."""
    points = _points_by_number(kind)
    container = _ITEMS in kind.fields_by_number and kind.full_name.rpartition(".")[2].startswith(("Resource", "Scope"))
    if not container and not points:
        return 1
    total = 0
    try:
        for field in wire.fields(payload, 0, len(payload)):
            if not field.holds(field.number):
                continue
            if container and field.number == _ITEMS:
                total += _count(payload[field.start : field.end], _inner(kind, _ITEMS))
            elif field.number in points:
                inner = wire.fields(payload, field.start, field.end)
                total += sum(point.holds(_DATA_POINTS) for point in inner)
    except wire.NotWire:
        return total
    return total
