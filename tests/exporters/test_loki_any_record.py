"""Whatever a log record holds, it becomes a line that Loki can read, and requests split without loss."""

import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_telemetry.exporters.loki import client, lines
from otel_telemetry.exporters.otlp.split import split

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PLAIN = st.one_of(
    TEXT.map(lambda text: AnyValue(string_value=text)),
    st.integers(-(1 << 63), (1 << 63) - 1).map(lambda number: AnyValue(int_value=number)),
    st.floats().map(lambda number: AnyValue(double_value=number)),
    st.booleans().map(lambda flag: AnyValue(bool_value=flag)),
    st.binary(max_size=9).map(lambda raw: AnyValue(bytes_value=raw)),
    st.just(AnyValue()),
)


def _pair(key: str, value: AnyValue) -> KeyValue:
    return KeyValue(key=key, value=value)


VALUE = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda values: AnyValue(array_value=ArrayValue(values=values))),
        st.lists(st.builds(_pair, TEXT, inner), max_size=4).map(
            lambda values: AnyValue(kvlist_value=KeyValueList(values=values))
        ),
    ),
    max_leaves=12,
)
RECORD = st.builds(
    LogRecord,
    time_unix_nano=st.integers(1, (1 << 63) - 1),
    body=VALUE,
    attributes=st.lists(st.builds(_pair, TEXT, VALUE), max_size=6),
    severity_text=TEXT,
    event_name=TEXT,
    trace_id=st.binary(max_size=16),
    span_id=st.binary(max_size=8),
)


@st.composite
def requests(draw: Any) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    for _ in range(draw(st.integers(0, 3))):
        group = request.resource_logs.add(schema_url=draw(TEXT))
        group.resource.attributes.extend(draw(st.lists(st.builds(_pair, TEXT, VALUE), max_size=3)))
        for _ in range(draw(st.integers(0, 2))):
            scope = group.scope_logs.add()
            scope.scope.name = draw(TEXT)
            scope.log_records.extend(draw(st.lists(RECORD, max_size=5)))
    return request


def records(request: ExportLogsServiceRequest) -> list[Any]:
    """Return every record with what is around it, as bytes."""
    return [
        (
            group.resource.SerializeToString(),
            group.schema_url,
            scope.scope.SerializeToString(),
            record.SerializeToString(),
        )
        for group in request.resource_logs
        for scope in group.scope_logs
        for record in scope.log_records
    ]


@settings(max_examples=150, deadline=None)
@given(requests())
def test_every_record_becomes_one_line_with_names_that_loki_takes(request: ExportLogsServiceRequest) -> None:
    found = list(lines.from_request(request, 0))
    assert len(found) == len(records(request))
    pushed = json.loads(client.encode(found))
    values = [value for stream in pushed["streams"] for value in stream["values"]]
    assert len(values) == len(found)
    for when, text, metadata in values:
        assert int(when) > 0
        assert isinstance(text, str)
        assert all(re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", name) and isinstance(v, str) for name, v in metadata.items())
    for stream in pushed["streams"]:
        assert stream["stream"].keys() <= {"service_name", "environment", "level"}
        assert all(stream["stream"].values())


@settings(max_examples=150, deadline=None)
@given(requests(), st.integers(1, 2000))
def test_a_request_in_pieces_is_the_request(request: ExportLogsServiceRequest, max_bytes: int) -> None:
    pieces = list(split("logs", request.SerializeToString(), max_bytes))
    parsed = [ExportLogsServiceRequest.FromString(piece.body) for piece in pieces]
    assert [each for part in parsed for each in records(part)] == records(request)
    assert sum(piece.items for piece in pieces) == len(records(request))
    for piece in pieces:
        assert len(piece.body) <= max_bytes or piece.items <= 1
