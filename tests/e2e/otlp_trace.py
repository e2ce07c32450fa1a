"""A trace as Jaeger's API v3 tells it (OTLP as JSON), as plain values."""

import json
from dataclasses import dataclass
from typing import Any, Final

#: Jaeger's remarks on a span: clocks that disagree, for example.
_REMARKS: Final = "@jaeger@warnings"


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a span."""

    name: str
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Link:
    """A link of a span."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Span:
    """A span with its resource's and scope's attributes."""

    span_id: str
    parent: str
    name: str
    kind: int
    attributes: dict[str, Any]
    events: list[Event]
    links: list[Link]
    status: dict[str, Any]
    resource: dict[str, Any]
    scope: tuple[str, str, dict[str, Any]]


def spans(answer: bytes) -> list[Span]:
    """Return the spans of an answer."""
    return [
        Span(
            span_id=span["spanId"],
            parent=span.get("parentSpanId", ""),
            name=span["name"],
            kind=span.get("kind", 0),
            attributes=attributes(span),
            events=[Event(event["name"], attributes(event)) for event in span.get("events", ())],
            links=[Link(link["traceId"], link["spanId"], attributes(link)) for link in span.get("links", ())],
            status=span["status"],
            resource=attributes(of_resource["resource"]),
            scope=(*(of_scope["scope"].get(key, "") for key in ("name", "version")), attributes(of_scope["scope"])),
        )
        for of_resource in json.loads(answer)["result"]["resourceSpans"]
        for of_scope in of_resource["scopeSpans"]
        for span in of_scope["spans"]
    ]


def attributes(holder: dict[str, Any]) -> dict[str, Any]:
    """Return attributes as a dict of plain values, without the remarks that Jaeger adds when it answers."""
    pairs = {pair["key"]: _value(pair["value"]) for pair in holder.get("attributes", ())}
    pairs.pop(_REMARKS, None)
    return pairs


def _value(value: dict[str, Any]) -> Any:
    ((kind, held),) = value.items()
    if kind == "intValue":
        return int(held)
    if kind == "arrayValue":
        return [_value(item) for item in held.get("values", ())]
    return held
