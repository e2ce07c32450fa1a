"""A gateway in a container of 400 MB, and requests that take as much memory as they can within its limits.

`make test` runs some of them, `make faults` all.
"""

import asyncio
import gzip
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue

from otel_telemetry.processors.otlp.wire import length_delimited
from tests.faults.gateway_process import GatewayProcess
from tests.faults.memory_limit import MemoryLimit
from tests.long import fewer, only_in
from tests.waiting import eventually

LIMIT = 400 << 20
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
DIRTY = "mail jane@example.com and call +1 415 555 2671 now. " * 20
RUN = "x-chronicle-run-id"
METADATA = {RUN: "r" * 30_000, "x-chronicle-extra-meta": json.dumps({"m": "m" * 30_000})}  # together 64 kB at most
PROTOBUF, JSON = {"content-type": "application/x-protobuf"}, {"content-type": "application/json"}
IDS = length_delimited(1, b"t" * 16) + length_delimited(2, b"s" * 8)


def spans_of(size: int, text: str) -> bytes:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for _ in range(size // (len(text) + 60)):
        spans.add(
            trace_id=os.urandom(16), span_id=os.urandom(8), name=text, start_time_unix_nano=1, end_time_unix_nano=2
        )
    return bytes(request.SerializeToString())


def one_span(inner: bytes) -> bytes:
    return length_delimited(1, length_delimited(2, length_delimited(2, IDS + inner)))


def nested(count: int) -> bytes:
    value = AnyValue(string_value="x")
    for _ in range(30):
        value = AnyValue(array_value=ArrayValue(values=[value, AnyValue(int_value=1)]))
    attribute = length_delimited(9, length_delimited(1, b"deep") + length_delimited(2, value.SerializeToString()))
    return length_delimited(1, length_delimited(2, length_delimited(2, IDS + attribute) * count))


def texts_beyond_ascii(count: int) -> bytes:
    return b'{"x":[' + b",".join(b'"\xf0\x9f\x98\x80%d"' % number for number in range(count)) + b"]}"


def json_items(items: bytes) -> bytes:
    return b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + items + b"]}]}]}"


def one_histogram(bounds: bytes) -> bytes:
    point = b'{"histogram":{"dataPoints":[{"explicitBounds":[' + bounds + b"]}]}}"
    return b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[' + point + b"]}]}]}"


def json_spans(size: int) -> bytes:
    attributes = [{"key": f"http.key.{number}", "value": {"stringValue": f"value {number}"}} for number in range(10)]
    span = {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "GET /x", "kind": 2, "attributes": attributes}
    one = json.dumps(span).encode()
    return b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b",".join([one] * (size // len(one))) + b"]}]}]}"


#: What is sent, by how many senders at once, and the statuses that may come of it.
REQUESTS: dict[str, tuple[Callable[[], bytes], dict[str, str], int, set[int]]] = {
    "20 MB of clean spans": (lambda: spans_of(20_000_000, "x" * 1000), PROTOBUF, 4, {200, 429}),
    "60 MB of clean spans": (lambda: spans_of(60_000_000, "x" * 1000), PROTOBUF, 3, {200, 429}),
    "60 MB of small spans": (lambda: spans_of(60_000_000, "x" * 20), PROTOBUF, 2, {200, 429}),
    "15 MB of ordinary JSON": (lambda: json_spans(15_000_000), JSON, 3, {200, 429}),
    "15 MB of empty objects": (lambda: b'{"x":[' + b",".join([b"{}"] * 5_000_000) + b"]}", JSON, 3, {413, 429}),
    "empty objects within the bound": (lambda: b'{"x":[' + b",".join([b"{}"] * 950_000) + b"]}", JSON, 3, {200, 429}),
    "60 MB of empty spans": (lambda: empty_spans(30_000_000), PROTOBUF, 3, {413, 429}),
    "empty attributes within the bound": (lambda: one_span(b"\x4a\0" * 95_000) * 20, PROTOBUF, 3, {200, 429}),
    "addresses in one attribute": (lambda: one_span(addresses(49_000)), PROTOBUF, 4, {200, 429}),
    "one text full of addresses": (
        lambda: one_span(text(b"jane@example.com " * 900_000 + "\N{OIL DRUM}".encode())),
        PROTOBUF,
        3,
        {200, 429},
    ),
    "one text of JSON": (lambda: one_span(text(b"[" + b'"a@b.de",' * 1_600_000 + b"0]")), PROTOBUF, 3, {200, 429}),
    "nested values": (lambda: nested(60_000), PROTOBUF, 3, {200, 429}),
    "zeros of unknown JSON": (lambda: b'{"x":[' + b"0," * 1_990_000 + b"0]}", JSON, 3, {200, 429}),
    "zeros of one point": (lambda: one_histogram(b"0," * 1_990_000 + b"0"), JSON, 3, {200, 429}),
    "texts of JSON that are no ASCII": (lambda: texts_beyond_ascii(1_200_000), JSON, 3, {200, 413, 429}),
    "empty spans of JSON": (lambda: json_items(b"{}," * 980_000 + b"{}"), JSON, 3, {200, 400, 429}),
    "nested JSON": (lambda: b"[" * 15_000_000, JSON, 3, {413, 429}),
    "60 MB of spans, and headers": (lambda: spans_of(60_000_000, "x" * 1000), PROTOBUF | METADATA, 3, {413, 429}),
    "headers for 1000 resources": (lambda: b"\x0a\0" * 1000, PROTOBUF | METADATA, 3, {200, 429}),
    "headers for too many resources": (lambda: b"\x0a\0" * 97_000, PROTOBUF | METADATA, 3, {413, 429}),
    "a header for 97,000 resources": (lambda: b"\x0a\0" * 97_000, PROTOBUF | {RUN: "a"}, 3, {200, 429}),
    "a header and 8 million resources": (lambda: b"\x0a\0" * 8_000_000, PROTOBUF | {RUN: "a"}, 3, {413, 429}),
    "a header and a dense resource": (
        lambda: length_delimited(1, length_delimited(1, length_delimited(1, b"\x12\0" * 8_000_000))),
        PROTOBUF | {RUN: "a"},
        3,
        {413, 429},
    ),
}


#: The same for the other endpoints, whose bodies are JSON.
REST: dict[str, tuple[str, Callable[[], bytes], int, set[int]]] = {
    "events of two bytes": ("/events", lambda: listed(b"1", 1_900_000), 1, {413}),
    "the smallest events": ("/events", lambda: listed(b'{"type":"a"}', 600_000), 1, {413}),
    "events within the bound": (
        "/events",
        lambda: listed(b'{"type":"a","data":{"password":"x"}}', 10_000),
        3,
        {202, 429},
    ),
    "events with many values": (
        "/events",
        lambda: listed(b'{"type":"a","data":%s}' % addresses_in_json(13), 10_000),
        3,
        {202, 429},
    ),
    "one event with many values": (
        "/events",
        lambda: listed(b'{"type":"a","data":%s}' % addresses_in_json(49_000), 4),
        3,
        {202, 400, 429},
    ),
    "numbers": ("/telemetry", lambda: b'{"type":"a","data":%s}' % listed(b"0", 1_900_000), 3, {413, 429}),
    "addresses within the bound": (
        "/telemetry",
        lambda: b'{"type":"a","data":%s}' % addresses_in_json(99_000),
        3,
        {200, 429},
    ),
    "addresses": ("/feedback", lambda: b'{"verdict":"up","sources":%s}' % addresses_in_json(1_500_000), 3, {413, 429}),
    "objects": ("/log", lambda: b'{"event":"a","payload":{"d":%s}}' % listed(b"{}", 990_000), 3, {413, 429}),
}


def listed(item: bytes, count: int) -> bytes:
    return b"[" + b",".join([item] * count) + b"]"


def addresses_in_json(count: int) -> bytes:
    return listed(b'"a@b.de"', count)


def addresses(count: int) -> bytes:
    """Return an attribute whose value is a list of short texts, each of which is redacted."""
    value = length_delimited(5, length_delimited(1, length_delimited(1, b"a@b.de")) * count)
    return length_delimited(9, length_delimited(1, b"k") + length_delimited(2, value))


def text(value: bytes) -> bytes:
    return length_delimited(9, length_delimited(1, b"k") + length_delimited(2, length_delimited(1, value)))


def empty_spans(count: int) -> bytes:
    return length_delimited(1, length_delimited(2, b"\x12\0" * count))


@pytest.fixture
def limit() -> Iterator[MemoryLimit]:
    made = MemoryLimit(LIMIT)
    yield made
    made.close()


@pytest.fixture
def held(limit: MemoryLimit, gateway: Callable[..., GatewayProcess]) -> GatewayProcess:
    return gateway(within=limit.within)


async def post(
    running: GatewayProcess, body: bytes, headers: dict[str, str], senders: int, path: str = "/v1/traces"
) -> Counter[int]:
    async def send() -> int:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.http}", timeout=300) as client:
            return (await client.post(path, content=body, headers=headers)).status_code

    return Counter(await asyncio.gather(*(send() for _ in range(senders))))


@pytest.mark.parametrize("packed", [False, pytest.param(True, marks=only_in("faults"))], ids=["plain", "gzip"])
@pytest.mark.parametrize("what", fewer(REQUESTS, ("60 MB of small spans", "nested values", "nested JSON"), "faults"))
def test_no_request_within_the_limits_takes_more(
    held: GatewayProcess, limit: MemoryLimit, what: str, packed: bool
) -> None:
    make, headers, senders, expected = REQUESTS[what]
    body = gzip.compress(make(), 1) if packed else make()
    headers = headers | ({"content-encoding": "gzip"} if packed else {})
    path = "/v1/metrics" if what == "zeros of one point" else "/v1/traces"
    for _ in range(2):
        answers = asyncio.run(post(held, body, headers, senders, path))
        assert set(answers) <= expected, answers
    unharmed(held, limit)


@pytest.mark.parametrize("what", fewer(REST, (), "faults"))
def test_no_body_of_another_endpoint_takes_more(held: GatewayProcess, limit: MemoryLimit, what: str) -> None:
    path, make, senders, expected = REST[what]
    headers = JSON | {"content-encoding": "gzip"}
    for _ in range(2):
        answers = asyncio.run(post(held, gzip.compress(make(), 1), headers, senders, path))
        assert set(answers) <= expected, answers
    unharmed(held, limit)


def unharmed(held: GatewayProcess, limit: MemoryLimit) -> None:
    eventually(held.healthy, "the gateway is healthy")
    assert limit.killed == 0
    assert "was killed by" not in (held.folder / "log").read_text()
    assert limit.peak <= LIMIT


@only_in("faults")
@pytest.mark.timeout(900)
def test_dirty_batches_of_many_senders_do_not_take_more(held: GatewayProcess, limit: MemoryLimit) -> None:
    body = spans_of(20_000_000, DIRTY)
    answers = asyncio.run(post(held, body, PROTOBUF, 6))
    assert answers[200] >= 1
    assert set(answers) <= {200, 429}
    unharmed(held, limit)


async def bomb(running: GatewayProcess, calls: int) -> Counter[str]:
    """Send messages of 60 kB that unpack to 60 MiB, all at once."""
    body = length_delimited(
        1, length_delimited(2, length_delimited(2, IDS + length_delimited(5, b"x" * (15 << 20))) * 4)
    )
    codes: Counter[str] = Counter()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.grpc}") as channel:
        call = channel.unary_unary(EXPORT, bytes, bytes)

        async def send() -> None:
            try:
                await call(body, compression=grpc.Compression.Gzip, timeout=120)
            except grpc.aio.AioRpcError as error:
                codes[error.code().name] += 1
            else:
                codes["OK"] += 1

        await asyncio.gather(*(send() for _ in range(calls)))
    return codes


#: What each of many connections sends and leaves; none of it is a request that is accepted.
HEAD = b"Host: localhost\r\nContent-Type: application/json\r\n"
PARTS = {
    "a body for nobody": b"POST /nothing HTTP/1.1\r\n" + HEAD + b"Content-Length: 4000000\r\n\r\n" + b"x" * 250_000,
    "a part of a body": b"POST /log HTTP/1.1\r\n" + HEAD + b"Content-Length: 4000000\r\n\r\n" + b"x" * 250_000,
    "requests one behind the other": (b"POST /log HTTP/1.1\r\n" + HEAD + b"Content-Length: 4000\r\n\r\n" + b"x" * 4000)
    * 60,
    "many short headers": (b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"a:b\r\n" * 95 + b"\r\n") * 60,
    "half a head": b"POST /log HTTP/1.1\r\n" + HEAD + b"X: " + b"x" * 60_000,
}


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")


def field(name: bytes, value: bytes) -> bytes:
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value


CALL = b"".join(
    field(name, value)
    for name, value in (
        (b":method", b"POST"),
        (b":path", EXPORT.encode()),
        (b":scheme", b"http"),
        (b":authority", b"a"),
        (b"content-type", b"application/grpc"),
    )
)
ENDLESS = frame(1, 0, 3, b"\0\x01a\x01b" * 3_200) + frame(9, 0, 3, b"\0\x01a\x01b" * 3_200) * 18
#: The same over gRPC.
GRPC_PARTS = {
    "header fields without end": HELLO + ENDLESS,
    "header fields without end behind a call": HELLO + frame(1, 5, 1, CALL) + ENDLESS,
    "a part of a frame": HELLO + frame(1, 4, 1, CALL) + frame(0, 0, 1, b"x" * 65_536)[:65_000],
    "a part of a message": HELLO + frame(1, 4, 1, CALL) + frame(0, 0, 1, b"\0\0\x40\0\0" + b"x" * 60_000),
    "calls without messages": HELLO + b"".join(frame(1, 4, 2 * n + 1, CALL) for n in range(64)),
}


async def leave(port: int, part: bytes, count: int) -> None:
    """Open connections, send the part on each as far as it is read, and close them once all have."""

    async def one() -> asyncio.StreamWriter | None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(part)
            async with asyncio.timeout(2):
                await writer.drain()
        except TimeoutError:  # the gateway reads no more
            return writer
        except OSError:
            return None
        return writer

    for writer in await asyncio.gather(*(one() for _ in range(count))):
        if writer is not None:
            writer.transport.abort()


@pytest.mark.parametrize("what", fewer(PARTS, ("a part of a body", "many short headers"), "faults"))
def test_many_connections_that_each_hold_a_part_do_not_take_more(
    held: GatewayProcess, limit: MemoryLimit, what: str
) -> None:
    for _ in range(2):
        asyncio.run(leave(held.http, PARTS[what], 1500))
    unharmed(held, limit)


@pytest.mark.parametrize("what", fewer(GRPC_PARTS, ("a part of a message", "calls without messages"), "faults"))
def test_many_grpc_connections_that_each_hold_a_part_do_not_take_more(
    held: GatewayProcess, limit: MemoryLimit, what: str
) -> None:
    for _ in range(2):
        asyncio.run(leave(held.grpc, GRPC_PARTS[what], 1500))
    unharmed(held, limit)


def test_bombs_over_grpc_do_not_take_more(held: GatewayProcess, limit: MemoryLimit) -> None:
    codes = asyncio.run(bomb(held, 12))
    assert set(codes) <= {"OK", "UNAVAILABLE"}, codes
    unharmed(held, limit)
