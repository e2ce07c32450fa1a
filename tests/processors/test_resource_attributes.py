"""Attributes for every resource of a request: added on the wire, charged before, and nothing else is changed."""

from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_telemetry.base.errors import TooDense
from otel_telemetry.processors.otlp import resources
from otel_telemetry.processors.otlp.wire import length_delimited


def attribute(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


ADDED = {key: attribute(key, "new").SerializeToString() for key in ("service.name", "run_id")}


def add(body: bytes) -> Any:
    return ExportTraceServiceRequest.FromString(resources.add(body, ADDED, int))


def values(group: Any) -> list[tuple[str, str]]:
    return [(each.key, each.value.string_value) for each in group.resource.attributes]


def test_each_resource_gets_what_it_lacks_and_keeps_all_else() -> None:
    request = ExportTraceServiceRequest()
    for name in ("", "shop", "unknown_service:python"):
        group = request.resource_spans.add(schema_url=f"of {name}")
        group.scope_spans.add().spans.add(name=name)
        if name:
            group.resource.attributes.append(attribute("service.name", name))
    found = add(request.SerializeToString())
    new = [("service.name", "new"), ("run_id", "new")]
    assert [values(group) for group in found.resource_spans] == [
        new, [("service.name", "shop"), new[1]], [("service.name", "unknown_service:python"), *new],
    ]  # fmt: skip
    for group, before in zip(found.resource_spans, request.resource_spans, strict=True):
        group.resource.CopyFrom(before.resource)
        group.ClearField("resource") if not before.HasField("resource") else None
    assert found == request


def test_a_resource_in_two_parts_is_one() -> None:
    part = length_delimited(1, length_delimited(1, attribute("run_id", "old").SerializeToString()))
    (group,) = add(length_delimited(1, part + length_delimited(1, b""))).resource_spans
    assert values(group) == [("run_id", "old"), ("service.name", "new")]


@pytest.mark.parametrize("broken", [b"\x0a\x7f", b"\xff\xff", b"\x0b"])
def test_what_cannot_be_read_stays_as_it_is(broken: bytes) -> None:
    in_a_resource = length_delimited(1, length_delimited(1, broken))
    assert resources.add(in_a_resource, ADDED, int) == in_a_resource
    assert resources.add(length_delimited(1, b"") + broken, ADDED, int).endswith(broken)


def test_nothing_is_added_that_was_not_charged() -> None:
    charged: list[int] = []

    def charge(size: int) -> None:
        charged.append(size)
        if len(charged) > 3:
            raise MemoryError

    with pytest.raises(MemoryError):
        resources.add(length_delimited(1, b"") * 1000, ADDED, charge)
    assert charged == [sum(len(length_delimited(1, one)) for one in ADDED.values())] * 4


@pytest.mark.parametrize("dense", [b"\x0a\x00", b"\x12\x00"])
def test_what_has_too_many_parts_is_refused(dense: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "MOST_FIELDS", 100)
    with pytest.raises(TooDense):
        resources.add(length_delimited(1, dense * 101), ADDED, int)
