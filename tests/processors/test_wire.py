"""The wire reader agrees with protobuf, and a splice changes only what it is meant to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_telemetry.processors.otlp import wire
from otel_telemetry.processors.otlp.fields import Hits

SPAN = Span(
    trace_id=b"t" * 16,
    span_id=b"s" * 8,
    name="n" * 300,
    kind=Span.SPAN_KIND_CLIENT,
    start_time_unix_nano=1,
    end_time_unix_nano=2**63,
    attributes=[KeyValue(key="a", value=AnyValue(double_value=1.5))],
    dropped_attributes_count=3,
    flags=0x301,
)

FIELDS = st.one_of(
    st.builds(wire.length_delimited, st.integers(1, 3000), st.binary(max_size=200)),
    st.builds(lambda number, value: wire.encode_varint(number << 3) + wire.encode_varint(value),
              st.integers(1, 3000), st.integers(0, 2**64 - 1)),
    st.builds(lambda number, value: wire.encode_varint(number << 3 | wire.FIXED64) + value,
              st.integers(1, 3000), st.binary(min_size=8, max_size=8)),
    st.builds(lambda number, value: wire.encode_varint(number << 3 | wire.FIXED32) + value,
              st.integers(1, 3000), st.binary(min_size=4, max_size=4)),
)  # fmt: skip


def test_fields_are_those_that_protobuf_wrote() -> None:
    data = SPAN.SerializeToString()
    numbers = [field.number for field in wire.fields(data, 0, len(data))]
    assert sorted(numbers) == sorted(field.number for field, _ in SPAN.ListFields())


def test_replacing_a_field_changes_that_field_only() -> None:
    data = SPAN.SerializeToString()
    splice = wire.Splice(data, 0, len(data))
    splice.replace(next(f for f in wire.fields(data, 0, len(data)) if f.number == 5), b"short")
    expected = Span()
    expected.CopyFrom(SPAN)
    expected.name = "short"
    assert Span.FromString(splice.result() or b"") == expected


def test_a_splice_without_replacements_has_no_result() -> None:
    data = SPAN.SerializeToString()
    assert wire.Splice(data, 0, len(data)).result() is None


@given(st.integers(min_value=0, max_value=2**64 - 1))
def test_a_number_is_read_as_it_was_written(number: int) -> None:
    data = wire.encode_varint(number)
    assert wire.varint(data, 0, len(data)) == (number, len(data))


@given(st.binary(max_size=200))
def test_any_bytes_are_either_fields_to_their_very_end_or_refused(data: bytes) -> None:
    try:
        fields = list(wire.fields(data, 0, len(data)))
    except wire.NotWire:
        return
    assert [field.tag for field in fields[1:]] + [len(data)] == ([field.end for field in fields] or [0])


@pytest.mark.parametrize(
    "group", [b"\x0b" * 1001 + b"\x0c" * 1001, b"\x0b" + b"\x08\x01" * 10_000 + b"\x0c"], ids=["deep", "long"]
)
def test_a_group_that_costs_much_is_not_read_to_its_end(group: bytes) -> None:
    with pytest.raises(wire.NotWire):
        list(wire.fields(group, 0, len(group)))
    shorter = group[1:-1] if group.startswith(b"\x0b\x0b") else group[:-3] + b"\x0c"
    assert [field.end for field in wire.fields(shorter, 0, len(shorter))] == [len(shorter)]


def test_a_group_is_passed_over_as_a_whole() -> None:
    group = b"\x0b" + b"\x12\x03abc" + b"\x0c"  # field 1: start, field 2 "abc", field 1: end
    data = group + b"\x12\x01z"
    assert [(f.number, f.wire_type, f.end) for f in wire.fields(data, 0, len(data))] == [(1, 3, 7), (2, 2, 10)]


def test_a_length_beyond_the_end_is_refused() -> None:
    with pytest.raises(wire.NotWire):
        list(wire.fields(b"\x0a\x05ab", 0, 4))


@given(st.lists(FIELDS, max_size=12), st.binary(max_size=30), st.data())
def test_fields_with_marks_are_those_in_whose_payload_a_mark_lies(
    parts: list[bytes], before: bytes, data: st.DataObject
) -> None:
    buffer = before + b"".join(parts) + before
    start, end = len(before), len(buffer) - len(before)
    marks = sorted(data.draw(st.sets(st.integers(start + 1, max(start + 1, end)), min_size=1, max_size=6)))
    wanted = [f for f in wire.fields(buffer, start, end) if any(f.start < mark <= f.end for mark in marks)]
    assert list(wire.fields(buffer, start, end, marks)) == wanted


@given(st.lists(FIELDS, min_size=1, max_size=12), st.data())
def test_touched_fields_are_those_with_a_hit_also_where_a_large_buffer_is_scanned_in_pieces(
    parts: list[bytes], data: st.DataObject
) -> None:
    before = data.draw(st.sampled_from([b"", bytes((1 << 20) + 5)]))
    buffer = before + b"".join(parts)
    place = len(before), len(buffer)
    places = data.draw(st.sets(st.integers(1, len(buffer) - len(before)), max_size=6))
    hits = sorted(len(before) + one for one in places)

    def scan(piece: bytes) -> tuple[list[int], None]:
        offset = len(buffer) - len(piece) if before else 0
        return [hit - offset for hit in hits if offset < hit], None

    looked_at = Hits(scan, buffer)
    wanted = [f for f in wire.fields(buffer, *place) if any(f.start < hit <= f.end for hit in hits)]
    for _ in range(2):  # before anything was scanned, and after
        assert list(looked_at.touched(*place)) == wanted
