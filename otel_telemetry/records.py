"""The shapes that pass between components: typed data, no I/O.

`Span` is what the row builder reads, whether it came from the SDK or from OTLP. `LlmCall` and `Request` are what it
writes: field for column as the contract names them (a test holds them against the tables).
Times are integers, nanoseconds since the Unix epoch, unless a field says otherwise; ids are lower-case hex.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

AnyValue = str | bool | int | float | bytes | None | Sequence[Any] | Mapping[str, Any]
Attributes = Mapping[str, AnyValue]


@dataclass(slots=True, frozen=True)
class Event:
    """One event of a span."""

    name: str
    time_ns: int
    attributes: Attributes


@dataclass(slots=True, frozen=True)
class Span:
    """One finished span. `kind` and `status` are the OTLP names without prefix: SERVER, CLIENT; UNSET, OK, ERROR.

    `local_root` is true where the span has no parent, or one in another process.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None
    local_root: bool
    name: str
    kind: str
    start_ns: int
    end_ns: int
    status: str
    status_message: str
    attributes: Attributes
    events: Sequence[Event]
    resource: Attributes
    scope: str = ""
