"""Large requests are worked on slice by slice: nothing is lost, and what would take too much memory is refused."""

import json
import random
from typing import Any

import httpx
import pytest
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from otel_telemetry.base.errors import Overloaded, TooDense
from otel_telemetry.gateway.receive.cleaning import Cleaning
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.otlp import slices
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.otlp.slices import Slice, cut
from otel_telemetry.processors.otlp.wire import length_delimited
from otel_telemetry.processors.redact.redactor import Redactor

PROTOBUF = {"content-type": "application/x-protobuf"}
IDS = length_delimited(1, b"t" * 16) + length_delimited(2, b"s" * 8)


def made(shape: list[list[list[int]]]) -> Any:
    """Return a request: for each resource its scopes, for each scope the sizes of its spans."""
    request = ExportTraceServiceRequest()
    number = 0
    for index, scopes in enumerate(shape):
        group = request.resource_spans.add(schema_url=f"resource {index}")
        group.resource.attributes.add(key="service.name").value.string_value = f"service-{index}"
        for at, sizes in enumerate(scopes):
            scope = group.scope_spans.add(schema_url=f"scope {index}.{at}")
            scope.scope.name = f"library-{index}-{at}"
            for size in sizes:
                number += 1
                text = f"span {number} ".ljust(size, ".")
                scope.spans.add(trace_id=b"t" * 16, span_id=number.to_bytes(8, "big"), name=text)
    return request


def span_names(request: Any) -> list[tuple[str, str, str, str, str]]:
    """Return each span's name with all that belongs to it."""
    return [
        (
            group.resource.attributes[0].value.string_value,
            group.schema_url,
            scope.scope.name,
            scope.schema_url,
            span.name,
        )
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


@pytest.mark.parametrize("seed", range(6))
def test_slices_hold_all_of_a_request_in_its_order(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - the same each time
    sizes = (10, 1000, 40_000, 700_000, 1_500_000)
    shape = [
        [[rng.choice(sizes) for _ in range(rng.randrange(30))] for _ in range(rng.randrange(1, 6))]
        for _ in range(rng.randrange(1, 5))
    ]
    request = made(shape)
    body = request.SerializeToString()
    pieces = cut(ExportTraceServiceRequest, body)
    parsed = [ExportTraceServiceRequest.FromString(piece.body) for piece in pieces]
    assert [span for one in parsed for span in span_names(one)] == span_names(request)
    assert all(len(piece.body) <= slices.SLICE_BYTES + 2_000_000 for piece in pieces)
    assert len(pieces) == 1 or max(len(piece.body) for piece in pieces) < len(body)
    for piece, one in zip(pieces, parsed, strict=True):
        for group_at, group in enumerate(one.resource_spans):
            for scope_at, scope in enumerate(group.scope_spans):
                for at, span in enumerate(scope.spans):
                    path = piece.path(f"resource_spans[{group_at}].scope_spans[{scope_at}].spans[{at}].name: bad")
                    assert found(request, path) == span


def found(request: Any, path: str) -> Any:
    group, scope, span = (int(part.partition("]")[0]) for part in path.split("[")[1:])
    assert path.endswith(".name: bad")
    return request.resource_spans[group].scope_spans[scope].spans[span]


@pytest.mark.parametrize(
    ("at", "problem", "expected"),
    [
        ((0, 0, 0), "spans[3]: x", "spans[3]: x"),
        ((2, 1, 5), "resource_spans[0].scope_spans[0].spans[4].a: x", "resource_spans[2].scope_spans[1].spans[9].a: x"),
        ((2, 1, 5), "resource_spans[0].scope_spans[1].spans[4]: x", "resource_spans[2].scope_spans[2].spans[4]: x"),
        ((2, 1, 5), "resource_spans[1].scope_spans[1].spans[4]: x", "resource_spans[3].scope_spans[1].spans[4]: x"),
        ((2, 1, 5), "resource_spans[0]: dropped", "resource_spans[2]: dropped"),
        ((2, 1, 5), "not valid", "not valid"),
    ],
)  # fmt: skip
def test_paths_are_those_of_the_whole_request(at: tuple[int, int, int], problem: str, expected: str) -> None:
    assert Slice(b"", 0, 0, at).path(problem) == expected


def spans(inner: bytes) -> bytes:
    return length_delimited(1, length_delimited(2, inner))


MANY = 600_000  # two bytes each: more than a slice
DENSE = {
    "empty spans": spans(b"\x12\0" * MANY),
    "empty resources": b"\x0a\0" * MANY,
    "empty scopes": length_delimited(1, b"\x12\0" * MANY),
    "empty attributes of a resource": length_delimited(1, length_delimited(1, b"\x0a\0" * MANY)),
    "empty attributes of a scope": length_delimited(1, length_delimited(2, length_delimited(1, b"\x1a\0" * MANY))),
}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bound parts at what is quickly counted."""
    monkeypatch.setattr(slices, "MOST_ITEMS", 20_000)
    monkeypatch.setattr(slices, "MOST_PARTS", 20_000)


@pytest.mark.parametrize("what", DENSE)
def test_what_takes_many_times_its_size_is_refused_before_it_is_parsed(few: None, what: str) -> None:
    with pytest.raises(TooDense, match="send smaller batches"):
        cut(ExportTraceServiceRequest, DENSE[what])


@pytest.mark.parametrize("what", ["empty spans", "empty attributes of a resource"])
async def test_a_dense_request_is_refused_for_good_in_any_encoding(running: Any, few: None, what: str) -> None:
    async with httpx.AsyncClient(base_url=running.http) as client:
        answer = await client.post("/v1/traces", content=DENSE[what], headers=PROTOBUF, timeout=60)
    assert answer.status_code == 413
    assert running.spooled() == []
    assert running.gateway.receiver.pending == 0


@pytest.mark.parametrize("text", ["[" + ",".join(["{}"] * 1_100_000) + "]", '{"a":' + "[" * 2_100_000, ":" * 2_100_000])
@pytest.mark.parametrize("path", ["/v1/traces", "/log", "/feedback"])
async def test_json_counts_by_its_parts(running: Any, path: str, text: str) -> None:
    async with httpx.AsyncClient(base_url=running.http) as client:
        answer = await client.post(
            path, content=text.encode(), headers={"content-type": "application/json"}, timeout=60
        )
        assert answer.status_code in {413, 404}  # 404: this gateway has no rows for that path
    assert running.gateway.receiver.pending == 0


LARGE = {
    "empty attributes": b"\x4a\0" * MANY,
    "empty values in a list": length_delimited(9, length_delimited(2, length_delimited(5, b"\x0a\0" * MANY))),
    "a long name": length_delimited(5, b"x" * (17 << 20)),
}


@pytest.mark.parametrize("what", LARGE)
async def test_an_item_that_takes_too_much_is_left_out_and_the_others_are_kept(
    running: Any, few: None, what: str
) -> None:
    good, bad = (length_delimited(2, IDS + rest) for rest in (length_delimited(5, b"good"), LARGE[what]))
    body = spans(good) + length_delimited(1, length_delimited(2, good) + length_delimited(2, good + bad + good))
    async with httpx.AsyncClient(base_url=running.http) as client:
        answer = await client.post("/v1/traces", content=body, headers=PROTOBUF, timeout=60)
    assert answer.status_code == 200
    partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert partial.rejected_spans == 1
    assert partial.error_message.startswith("resource_spans[1].scope_spans[1].spans[1]: ")
    assert sum(batch.items for batch in running.spooled()) == 4


def histogram(points: int, counts: int) -> bytes:
    """Return a metric with points of an exponential histogram that have so many buckets each."""
    buckets = length_delimited(8, length_delimited(2, b"\1" * counts))
    return length_delimited(1, b"size") + length_delimited(10, length_delimited(1, buckets) * points)


@pytest.mark.parametrize(("points", "counts", "taken"), [(1, 4_000_000, False), (5_000, 160, True)])
def test_numbers_that_are_a_byte_each_count_by_what_they_take_in_memory(points: int, counts: int, taken: bool) -> None:
    pieces = cut(ExportMetricsServiceRequest, spans(length_delimited(2, histogram(points, counts))))
    assert [not piece.problem for piece in pieces] == [taken]


async def test_invalid_spans_of_a_large_request_are_told_by_their_paths_and_the_rest_is_kept(running: Any) -> None:
    request = made([[[400_000] * 4], [[400_000] * 4, [400_000] * 6]])
    request.resource_spans[1].scope_spans[1].spans[4].name = "to be broken".ljust(400_000, ".")
    body = request.SerializeToString().replace(b"to be broken", b"to be \xff\xfeoken")
    with pytest.raises(DecodeError):
        ExportTraceServiceRequest.FromString(body)
    async with httpx.AsyncClient(base_url=running.http) as client:
        answer = await client.post("/v1/traces", content=body, headers=PROTOBUF, timeout=60)
    assert answer.status_code == 200
    partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert partial.rejected_spans == 1
    assert partial.error_message.startswith("resource_spans[1].scope_spans[1].spans[4].name: ")
    spooled = [ExportTraceServiceRequest.FromString(batch.body) for batch in running.spooled()]
    expected = [name for name in span_names(request) if not name[4].startswith("to be")]
    assert [name for one in spooled for name in span_names(one)] == expected


async def test_what_comes_cut_off_is_kept_as_far_as_it_can_be_told_apart(running: Any) -> None:
    request = made([[[400_000] * 9]])
    body = request.SerializeToString()
    async with httpx.AsyncClient(base_url=running.http) as client:
        answer = await client.post("/v1/traces", content=body[:-100], headers=PROTOBUF, timeout=60)
        whole = await client.post("/v1/traces", content=body[:-100] + bytes(100), headers=PROTOBUF, timeout=60)
    assert answer.status_code == 400
    assert whole.status_code in {200, 400}


async def test_a_large_request_of_another_signal_is_kept_whole_or_not_at_all(running: Any, monkeypatch: Any) -> None:
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for number in range(3000):
        records.add().body.string_value = f"line {number} of somebody@example.com".ljust(1000, ".")
    body = request.SerializeToString()
    append = running.gateway.receiver._spool.append_all
    counts: list[int] = []

    def counted(signal: Any, batches: Any) -> Any:
        counts.append(len(batches))
        return append(signal, batches)

    monkeypatch.setattr(running.gateway.receiver._spool, "append_all", counted)
    async with httpx.AsyncClient(base_url=running.http) as client:
        answer = await client.post("/v1/logs", content=body, headers=PROTOBUF, timeout=60)
    assert answer.status_code == 200
    assert counts == [len(running.spooled())]
    assert counts[0] > 2
    bodies = b"".join(batch.body for batch in running.spooled())
    assert bodies.count(b"line ") == 3000
    assert b"somebody@example.com" not in bodies
    assert json.loads(await health(running))["status"] == "ok"


async def health(running: Any) -> bytes:
    async with httpx.AsyncClient(base_url=running.http) as client:
        return (await client.get("/health")).content


def test_a_request_that_takes_all_room_leaves_some_for_small_ones() -> None:
    cleaning = Cleaning(OtlpRedactor(Redactor(RedactionSettings())), 64 << 10)
    with cleaning.room() as large, cleaning.room() as small, cleaning.room() as second:
        large.grow(64 << 10)
        small.grow(512)
        with pytest.raises(Overloaded):
            small.grow(1)  # it is none any more
        with pytest.raises(Overloaded):
            second.grow(1 << 10)
    assert cleaning.pending == 0
    cleaning.close()


EMPTY, KB = length_delimited(2, b""), length_delimited(2, b"\xfa\x3f\x80\x08" + b"x" * 1024)


@pytest.mark.parametrize("dense", [length_delimited(1, b"") * 60, length_delimited(1, EMPTY * 60)])
def test_too_many_resources_or_scopes_of_a_small_request_are_refused(
    dense: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "MOST_GROUPS", 50)
    with pytest.raises(TooDense, match="resources and scopes"):
        OtlpRedactor(Redactor(RedactionSettings())).redact("traces", dense)


@pytest.mark.parametrize("dense", [length_delimited(1, b"") * 60, length_delimited(1, KB * 600)])
def test_too_many_resources_or_scopes_of_a_large_request_are_refused_before_it_is_parsed(
    dense: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "MOST_GROUPS", 50)
    with pytest.raises(TooDense, match="resources and scopes"):
        cut(ExportTraceServiceRequest, dense)
