"""Adds attributes to every resource of a request, on the wire.

Nothing is parsed, which would take many times the bytes of a request, and what protobuf could not parse stays as it is.
A request of a few bytes may have thousands of resources, so each addition is charged before it is made.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from otel_telemetry.base.conventions import UNKNOWN_SERVICE
from otel_telemetry.base.errors import TooDense
from otel_telemetry.processors.otlp import wire

MOST_FIELDS: Final = 100_000  # of one request that are read here, about 200 bytes each
_GROUP, _RESOURCE, _ATTRIBUTE, _KEY, _VALUE, _TEXT = 1, 1, 1, 1, 2, 1  # numbers of fields, from the outside in
_LARGE: Final = 64 << 10
_UNKNOWN: Final = UNKNOWN_SERVICE.encode()


def add(body: bytes, attributes: Mapping[str, bytes], charge: Callable[[int], object]) -> bytes:
    """Return an Export*ServiceRequest whose resources have these attributes, unless they had them already.

    `attributes` are KeyValue messages by their keys. `charge` is called with the bytes that each resource gets, and may
    refuse them. A default name of a service does not count as one. Raises TooDense.
    """
    return _Adding(body, attributes, charge).request()


class _Adding:
    """One pass over one request."""

    def __init__(self, body: bytes, attributes: Mapping[str, bytes], charge: Callable[[int], object]) -> None:
        self._body = body
        self._added = {key.encode(): wire.length_delimited(_ATTRIBUTE, one) for key, one in attributes.items()}
        self._charge = charge
        self._read = 0

    def request(self) -> bytes:
        pieces: list[bytes | memoryview] = []
        copied = 0
        for group in self._readable(0, len(self._body)):
            parts = self._group(group) if group.holds(_GROUP) else None
            if parts is not None:
                pieces += [self._cut(copied, group.tag), wire.length_head(_GROUP, sum(map(len, parts))), *parts]
                copied = group.end
        return b"".join([*pieces, self._cut(copied, len(self._body))]) if pieces else self._body

    def _group(self, group: wire.Field) -> list[bytes | memoryview] | None:
        """Return a resource with its scopes, in pieces, and with the attributes that it lacks; None: as it was."""
        resources = [field for field in self._readable(group.start, group.end) if field.holds(_RESOURCE)]
        there: set[bytes] = set()
        try:
            for resource in resources:
                there.update(self._keys(resource))
        except wire.NotWire:  # its items are refused later, with a reason
            return None
        added = b"".join(one for key, one in self._added.items() if key not in there)
        self._charge(len(added))
        if not resources:
            return [wire.length_delimited(_RESOURCE, added), self._cut(group.start, group.end)]
        last = resources[-1]
        own = wire.length_delimited(_RESOURCE, self._body[last.start : last.end] + added)
        return [self._cut(group.start, last.tag), own, self._cut(last.end, group.end)]

    def _cut(self, start: int, end: int) -> bytes | memoryview:
        """Return bytes of the request: what is large is not copied."""
        return (self._body if end - start < _LARGE else memoryview(self._body))[start:end]

    def _keys(self, resource: wire.Field) -> Iterator[bytes]:
        """Yield which of the attributes a resource has."""
        for attribute in self._fields(resource.start, resource.end):
            if attribute.holds(_ATTRIBUTE):
                parts = list(self._readable(attribute.start, attribute.end))
                key = next((self._bytes(part) for part in reversed(parts) if part.holds(_KEY)), b"")
                if key in self._added and not any(self._is_default(part) for part in parts):
                    yield key

    def _is_default(self, part: wire.Field) -> bool:
        """Return whether a part of an attribute is a value as SDKs give it to a service without a name."""
        return part.holds(_VALUE) and any(
            field.holds(_TEXT) and self._body.startswith(_UNKNOWN, field.start, field.end)
            for field in self._readable(part.start, part.end)
        )

    def _bytes(self, field: wire.Field) -> bytes:
        return self._body[field.start : field.end]

    def _fields(self, start: int, end: int) -> Iterator[wire.Field]:
        for field in wire.fields(self._body, start, end):
            self._read += 1
            if self._read > MOST_FIELDS:
                raise TooDense(f"more than {MOST_FIELDS} resources, scopes and attributes")
            yield field

    def _readable(self, start: int, end: int) -> Iterator[wire.Field]:
        """Yield fields up to the first that is none."""
        try:
            yield from self._fields(start, end)
        except wire.NotWire:
            return
