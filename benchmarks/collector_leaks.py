"""What each side lets through: values of our rules planted all over spans, and texts that were changed for nothing.

The values are the canaries of `otel-telemetry verify`, drawn from the rules' own examples, of those rules only that
both sides have. Places: every field of OTLP's spans that holds text, in each way that it stands in an attribute.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.processors.detect.ruleset import Rule
from otel_telemetry.processors.verify.canaries import Canaries, Canary
from otel_telemetry.processors.verify.planting_otlp import CLIENT, ID, KEY, SAFE, STRING, UNKNOWN, Slot, fields_of

TAG: Final = "benchmark.request"
"""The resource attribute that tells which request a body was."""
_NOT_PLANTED: Final = {CLIENT, ID, SAFE, UNKNOWN}
"""Shapes that names or numbers decide about, and fields that no version of OTLP has."""
_STRINGS: Final = {"string", "JSON", "message content"}


@dataclass(slots=True)
class Planted:
    """One request, and what stands where in it."""

    tag: str
    body: bytes
    canaries: list[tuple[str, Canary]]


def planted(rules: Sequence[Rule]) -> Iterator[Planted]:
    """Yield a request for each type of value that has one for each field."""
    canaries = Canaries(rules)
    fields = {slot: field for field in fields_of("traces") for slot in field.slots() if not field.own_id}
    slots = [slot for slot in fields if not slot.by_name and slot.shape not in _NOT_PLANTED]
    for type_ in canaries.types:
        request, tag = ExportTraceServiceRequest(), f"planted-{type_.lower()}"
        pairs = [(slot, canaries.of(type_)) for slot in slots]
        if not all(canary.unique for _, canary in pairs):  # too few values are known for each place to have its own
            continue
        for slot, canary in pairs:
            fields[slot].plant(request, slot, canary.text)
        for group in request.resource_spans:
            group.resource.attributes.add(key=TAG).value.string_value = tag
        yield Planted(tag, request.SerializeToString(), [(row_of(slot), canary) for slot, canary in pairs])


def row_of(slot: Slot) -> str:
    """Return the row of the table that a field belongs to."""
    *_, owner, last = ("", *slot.path.split("."))
    if slot.shape == STRING:
        return "names, messages, trace state, other text"
    if slot.shape == KEY:
        return "attribute keys"
    whose = {"resource": "resource and scope", "scope": "resource and scope"}.get(owner, owner.removesuffix("s"))
    kind = "string" if slot.shape in _STRINGS else "array, map, bytes"
    return f"{whose} {last}: {kind}"


def left(
    requests: Iterable[Planted], outputs: Collection[bytes], beside: bytes = b""
) -> tuple[Counter[str], Counter[str]]:
    """Return by field how many values were planted, and how many of them came out, or are in the bytes `beside`."""
    total, found = Counter[str](), Counter[str]()
    for request in requests:
        own = b"\n".join(body for body in outputs if request.tag.encode() in body)
        if not own:
            raise LookupError(f"{request.tag} never came out")
        own += beside
        for where, canary in request.canaries:
            if canary.found_in(request.body):
                total[where] += 1
                found[where] += canary.found_in(own)
    return total, found


def look_alikes(rules: Iterable[Rule]) -> bytes:
    """Return a request with what our rules' files call no match, one text an attribute."""
    texts = {text for rule in rules for text in rule.no_match if "{" not in text}
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key=TAG).value.string_value = "look-alikes"
    spans = group.scope_spans.add().spans
    for number, text in enumerate(sorted(texts)):
        span = spans.add(trace_id=b"\x01" * 16, span_id=(number + 1).to_bytes(8, "big"), name="look-alike")
        span.attributes.add(key="note").value.string_value = text
    return request.SerializeToString()


def changed(sent: Iterable[str], came: Iterable[str]) -> int:
    """Return how many of the texts sent did not come out as they were."""
    return (Counter(sent) - Counter(came)).total()


def strings(bodies: Iterable[bytes], tag: str = "") -> list[str]:
    """Return the string attributes of all spans, of the bodies that hold the tag."""
    return [
        attribute.value.string_value
        for body in bodies
        if tag.encode() in body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        for attribute in span.attributes
    ]
