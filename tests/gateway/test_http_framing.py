"""Where a request ends: never a success for bytes that were not read, never a request made of another one's body."""

import asyncio
import gc
import gzip
import json
import threading
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.requests import Request

from otel_telemetry.gateway.receive import bodies
from otel_telemetry.gateway.receive.cleaning import Room
from otel_telemetry.gateway.receive.http_protocol import HttpProtocol
from otel_telemetry.gateway.receive.status import RefusedError
from tests.gateway.loops import both_loops
from tests.gateway.raw_http import PROTOBUF, answers, ask, head, post, talk

UPGRADES = {
    "curl --http2": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
    "java.net.http": ("Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAEAAEAAAAIAAAAB", "Upgrade: h2c"),
    "websocket": ("Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    "tls": ("Connection: keep-alive, UPGRADE", "Upgrade: TLS/1.2, HTTP/1.1"),
    "two headers": ("Connection: keep-alive", "Connection: Upgrade", "Upgrade: h2c"),
    "no protocol": ("Connection: Upgrade", "Upgrade:"),
    "not meant": ("Upgrade: h2c",),
    "no such header": ("Connection: Upgrade",),
}
JSON_ENDPOINTS = {
    "/log": {"event": "tool_execution", "payload": {"n": 1}},
    "/feedback": {"verdict": "up"},
    "/telemetry": {"type": "page_view"},
    "/events": {"type": "approval", "run_id": "run-7"},
}


@pytest.fixture(name="port")
def port_fixture(running: Any) -> int:
    return int(running.gateway.http_port)


def stored(running: Any) -> list[str]:
    """Return the names of all spans that are spooled, in order."""
    requests = [ExportTraceServiceRequest.FromString(one.body) for one in running.spooled() if one.signal == "traces"]
    return [
        span.name
        for one in requests
        for part in one.resource_spans
        for scope in part.scope_spans
        for span in scope.spans
    ]


def chunked(body: bytes, size: int = 7) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n"


# --- Upgrade --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", ["at once", "body apart", "byte by byte", "chunked", "gzip"])
async def test_who_asks_for_another_protocol_is_read_and_stored_all_the_same(
    running: Any, port: int, make_request: Any, way: str
) -> None:
    for name, asks in UPGRADES.items():
        body = make_request(name)
        whole = post("/v1/traces", body, *asks, "Connection: close")
        begin = head("POST", "/v1/traces", f"Content-Type: {PROTOBUF}", "Transfer-Encoding: chunked", *asks)
        parts: dict[str, tuple[bytes | float, ...]] = {
            "at once": (whole,),
            "body apart": (whole[: -len(body)], 0.03, body),
            "byte by byte": tuple(whole[at : at + 1] for at in range(len(whole))),
            "chunked": (begin, 0.03, chunked(body), head("GET", "/nowhere", "Connection: close")),
            "gzip": (post("/v1/traces", gzip.compress(body), "Content-Encoding: gzip", "Connection: close", *asks),),
        }
        assert (await ask(port, *parts[way]))[0] == 200, name
    assert stored(running) == list(UPGRADES)


async def test_a_body_is_never_run_as_a_request(running: Any, port: int) -> None:
    inner = head("DELETE", "/cache?key=k") + post("/log", b'{"event": "smuggled", "payload": {}}', content_type="")
    for headers in UPGRADES.values():
        assert await ask(port, post("/v1/traces", inner, *headers), head("GET", "/health"), end=True) == [400, 200]
        apart = post("/v1/traces", inner, *headers)
        assert await ask(port, apart[: -len(inner)], 0.03, inner, head("GET", "/health"), end=True) == [400, 200]
    assert running.spooled() == []


@pytest.mark.parametrize("path", JSON_ENDPOINTS)
async def test_the_other_endpoints_ignore_upgrade_too(running: Any, port: int, path: str) -> None:
    body = json.dumps(JSON_ENDPOINTS[path]).encode()
    received = answers(await talk(port, post(path, body, *UPGRADES["java.net.http"]), end=True))
    assert [one.status // 100 for one in received] == [2]
    assert len(running.spooled()) == 1


async def test_requests_without_a_body_ignore_upgrade_and_answer_in_their_order(port: int) -> None:
    asks = UPGRADES["websocket"]
    requests = head("GET", "/health", *asks) + head("HEAD", "/health", *asks) + head("GET", "/nowhere", *asks)
    got = answers(await talk(port, requests, end=True), ("GET", "HEAD", "GET"))
    assert [one.status for one in got] == [200, 200, 404]
    assert json.loads(got[0].body)["status"] == "ok"


@both_loops
async def test_many_upgrades_on_one_connection_and_between_other_requests(
    running: Any, port: int, make_request: Any
) -> None:
    asks = UPGRADES["curl --http2"]
    requests = [post("/v1/traces", make_request(f"n{n}"), *(asks if n % 2 else ())) for n in range(6)]
    assert await ask(port, b"".join(requests), end=True) == [200] * 6
    assert stored(running) == [f"n{n}" for n in range(6)]


# --- lengths --------------------------------------------------------------------------------------------------------
def with_lengths(*headers: str) -> bytes:
    return head("POST", "/v1/traces", "Content-Type: application/json", *headers)


UNCLEAR = (
    with_lengths("Content-Length: 2", "Content-Length: 3") + b"{} ",
    with_lengths("Content-Length: 2", "Content-Length: 2") + b"{}",
    with_lengths("Content-Length: 2, 2") + b"{}",
    with_lengths("Content-Length: +2") + b"{}",
    with_lengths("Content-Length: -2") + b"{}",
    with_lengths("Content-Length: 0x2") + b"{}",
    with_lengths("Content-Length: 2 2") + b"{}",
    with_lengths("Content-Length:") + b"{}",
    with_lengths("Content-Length: 1e1") + b"{}        ",
    with_lengths("Content-Length: ²") + b"{}",
    with_lengths("Content-Length: 18446744073709551618") + b"{}",
    with_lengths("Content-Length : 2") + b"{}",
    with_lengths("Content-Length: 2", "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n\r\n",
    with_lengths("Transfer-Encoding: chunked", "Content-Length: 2") + b"2\r\n{}\r\n0\r\n\r\n",
    with_lengths("Transfer-Encoding: chunked", "Transfer-Encoding: identity") + b"2\r\n{}\r\n0\r\n\r\n",
    with_lengths("Transfer-Encoding: chunked, identity") + b"2\r\n{}\r\n0\r\n\r\n",
    with_lengths("Transfer-Encoding: gzip, chunked") + b"2\r\n{}\r\n0\r\n\r\n",
    with_lengths("Transfer-Encoding: identity") + b"{}",
    with_lengths("Transfer-Encoding: xchunked") + b"2\r\n{}\r\n0\r\n\r\n",
    with_lengths("Transfer-Encoding:\r\n chunked") + b"2\r\n{}\r\n0\r\n\r\n",
    with_lengths("Transfer-Encoding : chunked") + b"2\r\n{}\r\n0\r\n\r\n",
    with_lengths("Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n",
    with_lengths("Transfer-Encoding: chunked") + b"2 \r\n{}\r\n0\r\n\r\n",
    with_lengths("Transfer-Encoding: chunked") + b"-2\r\n{}\r\n0\r\n\r\n",
    with_lengths("Transfer-Encoding: chunked") + b"2\n{}\n0\n\n",
    with_lengths("Transfer-Encoding: chunked") + b"1\r\n{}\r\n0\r\n\r\n",
    with_lengths("Transfer-Encoding: chunked") + b"10000000000000002\r\n{}\r\n0\r\n\r\n",
    with_lengths() + b"{}",
    head("POST", "/v1/traces", "Content-Type: application/json", "Transfer-Encoding: chunked", version="1.0")
    + b"2\r\n{}\r\n0\r\n\r\n",
    head("POST", "/v1/traces", "Content-Length: 2", "Content-Type: application/json", version="2.0") + b"{}",
    head("POST", "/v1/traces", "Content-Length: 2", "X-A: a\0b") + b"{}",
    head("POST", "/v1/traces", "Content-Length: 2", "X-A: a\nX-B: b") + b"{}",
    b"POST /v1/traces HTTP/1.1\nHost: a\nContent-Type: application/json\nContent-Length: 2\n\n{}",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 32,
    head("CONNECT", "evil.example:80"),
    head("GET", "/health", host=""),
    head("GET", "/health", "Host: two"),
    head("GET", "/health", "Host:", host=""),
    *(
        head("GET", "/health", host=host)
        for host in ("a b", "a, b", "a/ui/assets/?", "a#b", "b@a", "a\\b", "\u00e9.localhost", "a:port", "a:999999")
    ),
    *(head("GET", "/health", host=host) for host in ("a:b:c", "::1", "[", "[::1", "a]")),
)


@pytest.mark.parametrize("upgrade", [False, True], ids=["plain", "upgrade"])
async def test_what_does_not_say_clearly_where_it_ends_is_refused_and_the_connection_closed(
    running: Any, port: int, upgrade: bool
) -> None:
    for sent in UNCLEAR:
        line, _, rest = sent.partition(b"\r\n")
        asking = line + b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n" + rest
        got = await ask(port, asking if upgrade else sent, head("GET", "/health"))
        assert len(got) == 1, sent  # nothing more is read from this connection
        assert 400 <= got[0] <= 505, sent
    assert running.spooled() == []


async def test_a_body_that_ends_early_is_not_stored_and_not_acknowledged(
    running: Any, port: int, make_request: Any
) -> None:
    body = make_request("half")
    whole = post("/v1/traces", body)
    pieces = head("POST", "/v1/traces", f"Content-Type: {PROTOBUF}", "Transfer-Encoding: chunked") + chunked(body)
    for cut in (whole[:-1], whole[: -len(body)], pieces[:-2], pieces[:-5], pieces[:-20]):
        for headers in (b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"):
            line, _, rest = cut.partition(b"\r\n")
            assert 200 not in await ask(port, line + b"\r\n" + headers + rest, end=True)
    assert running.spooled() == []


async def test_a_client_that_has_said_all_may_stop_sending_and_still_hears_the_answer(
    running: Any, port: int, make_request: Any
) -> None:
    assert await ask(port, post("/v1/traces", make_request("last")), end=True) == [200]
    assert stored(running) == ["last"]


async def test_every_form_that_is_allowed_is_read(running: Any, port: int, make_request: Any) -> None:
    kind = f"Content-Type: {PROTOBUF}"
    bodies_sent = [make_request(f"b{n}") for n in range(5)]
    requests = [
        head("POST", "/v1/traces", kind, "Transfer-Encoding: Chunked") + chunked(bodies_sent[0], 1),
        head("POST", "/v1/traces", kind, "Transfer-Encoding: chunked")
        + b"%X;name=value\r\n%b\r\n" % (len(bodies_sent[1]), bodies_sent[1])
        + b"000\r\nX-Trailer: 1\r\n\r\n",
        head("POST", "/v1/traces", kind, f"content-length:  {len(bodies_sent[2])}\t ") + bodies_sent[2],
        head("POST", "http://localhost/v1/traces", kind, f"Content-Length: {len(bodies_sent[3])}") + bodies_sent[3],
    ]
    assert await ask(port, b"".join(requests), end=True) == [200] * 4
    old = head("POST", "/v1/traces", kind, f"Content-Length: {len(bodies_sent[4])}", version="1.0", host="")
    assert await ask(port, old + bodies_sent[4]) == [200]
    assert stored(running) == ["b0", "b1", "b2", "b3", "b4"]


async def test_an_error_never_overtakes_the_answer_of_an_earlier_request(
    running: Any, port: int, make_request: Any
) -> None:
    good = post("/v1/traces", make_request("first"))
    got = await ask(port, good + b"NOT HTTP\r\n\r\n")
    assert got[0] == 200
    assert stored(running) == ["first"]


async def test_trailers_are_not_headers_of_this_request_or_the_next(serving: Any) -> None:
    async with serving(api_keys=("right",)) as running:
        port = running.gateway.http_port
        begin = head("POST", "/v1/traces", "Content-Type: application/json", "Transfer-Encoding: chunked")
        sent = begin + b"2\r\n{}\r\n0\r\nx-api-key: right\r\nauthorization: Bearer right\r\n\r\n"
        next_one = head("POST", "/v1/traces", "Content-Type: application/json", "Content-Length: 2") + b"{}"
        assert await ask(port, sent + next_one, 0.1, next_one, end=True) == [401, 401, 401]


async def test_a_head_without_end_is_refused(port: int) -> None:
    long = head("POST", "/v1/traces", "X-A: " + "a" * 70_000)
    many = head("GET", "/health", *(f"X-{n}: {n}" for n in range(9_000)))
    short = head("GET", "/health", *(["a:"] * 300))  # each of which costs more than its bytes
    for sent in (long, many, short, long[:-4]):
        assert await ask(port, sent) in ([431], [])
    for target in ("/health?" + "a" * 70_000, "/" + "%41" * 3_000):
        assert await ask(port, head("GET", target)) in ([414], [])
    assert await ask(port, head("GET", "/health?" + "a" * 8_000), end=True) == [200]


async def test_nothing_is_kept_of_a_request_that_was_answered(port: int) -> None:
    """Its connection may be idle: a thousand of them with all their headers would take a hundred megabytes."""
    gc.collect()
    sent = head("HEAD", "/health?" + "q" * 8_000, "X-A: " + "a" * 50_000)
    clients: list[asyncio.StreamWriter] = []
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        clients.append(writer)
        for _ in range(2):
            writer.write(sent)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    await asyncio.sleep(0.05)
    protocols = [each for each in gc.get_objects() if isinstance(each, HttpProtocol) and each.served == 2]
    assert len(protocols) == 3
    for each in protocols:
        assert not any((each.scope, each.headers, each.url, each.cycle.scope))
    for writer in clients:
        writer.close()


async def test_a_request_that_begins_before_the_answer_keeps_its_head(port: int) -> None:
    two = head("GET", "/health", "X-A: 1") + head("GET", "/nowhere", "X-A: 2")
    for cut in range(len(two) // 2, len(two), 7):
        assert await ask(port, two[:cut], 0.01, two[cut:], end=True) == [200, 404]


async def test_a_body_in_small_chunks_without_end_is_refused(running: Any, port: int, make_request: Any) -> None:
    """Each chunk takes time, however short it is, also where the answer is there and the body is only passed over."""
    begin = head("POST", "/v1/traces", f"Content-Type: {PROTOBUF}", "Transfer-Encoding: chunked")
    assert await ask(port, begin + chunked(b"a" * 1_500, 1)) == [413]
    assert await ask(port, begin + chunked(make_request("one") * 800, 33), end=True) == [200]
    nowhere = head("POST", "/nowhere", "Transfer-Encoding: chunked")
    assert await ask(port, nowhere + chunked(b"a" * 900, 1) + head("GET", "/health"), end=True) == [404, 200]
    assert await ask(port, nowhere + b"1\r\na\r\n" * 9, 0.1, b"1\r\na\r\n" * 1_500, head("GET", "/health")) == [404]
    large = chunked(b"a" * 120_000, 80)
    assert await ask(port, nowhere, 0.1, large, 0.1, head("GET", "/health")) == [404]
    assert len(running.spooled()) == 1


# --- Expect ---------------------------------------------------------------------------------------------------------
async def test_a_client_that_waits_for_100_is_told_to_go_on(running: Any, port: int, make_request: Any) -> None:
    whole = post("/v1/traces", make_request("waited"), "Expect: 100-continue")
    begin, body = whole.split(b"\r\n\r\n", 1)
    received = await talk(port, begin + b"\r\n\r\n", 0.2, body, end=True)
    assert received.startswith(b"HTTP/1.1 100 ")
    assert [one.status for one in answers(received)] == [200]
    assert stored(running) == ["waited"]


@pytest.mark.parametrize(
    ("path", "length", "status"), [("/v1/traces", 1 << 40, 413), ("/nowhere", 30, 404), ("/health", 30, 405)]
)
async def test_after_a_refusal_instead_of_100_the_next_request_is_not_taken_for_the_body(
    running: Any, port: int, path: str, length: int, status: int
) -> None:
    headers = (f"Content-Type: {PROTOBUF}", f"Content-Length: {length}", "Expect: 100-continue")
    received = await talk(port, head("POST", path, *headers), 0.1, head("DELETE", "/cache?key=a"))
    assert [one.status for one in answers(received)] == [status]
    assert b"connection: close" in received


# --- whatever server is below ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("headers", "chunks", "reason"),
    [
        ({"content-length": "5"}, (b"",), "incomplete"),
        ({"content-length": "5"}, (b"abc",), "incomplete"),
        ({"content-length": "5"}, (b"abc", b"defg"), "incomplete"),
        ({}, (b"abc",), "no_length"),
        ({"content-length": "3", "transfer-encoding": "chunked"}, (b"abc",), "ambiguous_length"),
        ({"content-length": "three"}, (b"abc",), "ambiguous_length"),
        ({"content-length": "0", "upgrade": "h2c", "connection": "Upgrade"}, (b"",), "ambiguous_length"),
        ({"transfer-encoding": "chunked", "upgrade": "h2c", "connection": "x, upgrade"}, (b"",), "ambiguous_length"),
    ],
)
async def test_a_body_that_the_server_below_has_cut_or_changed_is_refused(
    headers: dict[str, str], chunks: tuple[bytes, ...], reason: str
) -> None:
    messages = [{"type": "http.request", "body": one, "more_body": True} for one in chunks]
    messages[-1]["more_body"] = False

    async def receive() -> Any:
        await asyncio.sleep(0)
        return messages.pop(0)

    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": encoded}, receive)
    with pytest.raises(RefusedError) as caught:
        await bodies.read(request, 100, Room(_Unbounded()))  # type: ignore[arg-type] # only its two numbers are used
    assert caught.value.refusal.reason == reason


class _Unbounded:
    counting = threading.Lock()
    pending = 0
    max_pending = 1 << 30
