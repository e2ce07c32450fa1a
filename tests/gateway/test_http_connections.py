"""Who opens connections and leaves them, or is slow on purpose, keeps nobody else out."""

import asyncio
import contextlib
import json
import logging
import resource
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from otel_telemetry.cache.config import CacheSettings
from otel_telemetry.cache.key_value import KeyValueCache
from otel_telemetry.cache.parts import Parts
from otel_telemetry.gateway.receive import connections, descriptors, http_protocol
from otel_telemetry.gateway.receive.rest import Rest
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor
from tests.gateway.certificates import Certificates
from tests.gateway.loops import both_loops
from tests.gateway.raw_http import answers, ask, head, post, talk

UNFINISHED = {
    "silent": b"",
    "half a head": b"POST /v1/traces HTTP/1.1\r\nHost: a\r\nX-",
    "half a request line": b"POS",
    "half an upgrade": b"GET /health HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgr",
}


@pytest.fixture(name="hurry")
def hurry_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all limits of time short."""
    for name in ("HEAD_SECONDS", "BODY_SECONDS", "WRITE_SECONDS"):
        monkeypatch.setattr(http_protocol, name, 0.4)
    monkeypatch.setattr(connections, "HANDSHAKE_SECONDS", 0.4)
    monkeypatch.setattr(connections, "_SWEEP_SECONDS", 0.1)


@asynccontextmanager
async def held(port: int, count: int, sent: bytes = b"") -> AsyncIterator[list[asyncio.StreamReader]]:
    """Hold connections open that have sent so much."""
    pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    for _, writer in pairs:
        writer.write(sent)
    try:
        yield [reader for reader, _ in pairs]
    finally:
        for _, writer in pairs:
            await closed(writer)


def established(port: int) -> int:
    """Return how many connections the server's side of a port has open."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close a connection."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def ended(readers: list[asyncio.StreamReader]) -> int:
    """Return how many were closed by the other side within two seconds."""

    async def end_of(reader: asyncio.StreamReader) -> bool:
        try:
            async with asyncio.timeout(2):
                await reader.read()
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    return sum(await asyncio.gather(*map(end_of, readers)))


async def test_a_gateway_runs_on_its_own_loop_in_tests() -> None:
    uvloop = pytest.importorskip("uvloop")
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)


@pytest.mark.parametrize("sent", UNFINISHED.values(), ids=UNFINISHED)
@pytest.mark.usefixtures("hurry")
async def test_a_connection_without_a_whole_head_is_closed_in_time(running: Any, sent: bytes) -> None:
    async with held(running.gateway.http_port, 3, sent) as readers:
        assert await ended(readers) == 3


@pytest.mark.usefixtures("hurry")
async def test_a_head_that_trickles_in_is_closed_in_time_also_after_a_good_request(running: Any) -> None:
    port = running.gateway.http_port
    trickle = [part for byte in b"POST /v1/traces HTTP/1.1" * 4 for part in (bytes([byte]), 0.05)]
    before = time.monotonic()
    assert await ask(port, *trickle) == []
    assert await ask(port, head("GET", "/health"), *trickle) == [200]
    assert time.monotonic() - before < 30


@pytest.mark.usefixtures("hurry")
async def test_a_body_that_nobody_reads_must_end_in_time_too(running: Any) -> None:
    port = running.gateway.http_port
    for begin in (
        head("GET", "/health", "Content-Length: 100"),
        head("POST", "/nowhere", "Content-Length: 1000000"),
        head("POST", "/nowhere", "Transfer-Encoding: chunked") + b"1\r\n",
    ):
        async with held(port, 2, begin) as readers:
            assert await ended(readers) == 2


@pytest.mark.usefixtures("hurry")
async def test_who_does_not_read_answers_is_cut_off(serving: Any) -> None:
    cache = KeyValueCache(Parts(CacheSettings(), Redactor(RedactionSettings()), secret=b"0123456789abcdef"))
    large = json.dumps({"key": "k", "data": "tent " * 150_000}).encode()
    async with serving(rest=Rest(cache)) as running:
        port = running.gateway.http_port
        assert await ask(port, post("/cache/set", large, "Connection: close")) == [200]
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            client.sendall(head("GET", "/cache/get?key=k") * 10)
            await asyncio.sleep(0.1)
            assert established(port)
            for _ in range(100):
                await asyncio.sleep(0.1)
                if not established(port):
                    break
            else:
                pytest.fail("the connection is still open")


async def test_no_more_than_some_requests_wait_on_one_connection(running: Any) -> None:
    got = await ask(running.gateway.http_port, head("GET", "/health") * 5_000, seconds=5)
    assert 0 < len(got) < 200
    assert set(got) == {200}


@both_loops
@pytest.mark.parametrize(
    "sent", [b"", UNFINISHED["half a head"], head("GET", "/health")], ids=["silent", "half", "kept"]
)
async def test_at_the_bound_the_longest_waiting_make_room(
    serving: Any, make_request: Any, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "otel_telemetry.gateway")
    async with serving(max_connections=16) as running:
        port = running.gateway.http_port
        async with held(port, 100, sent):
            for _ in range(20):
                assert await ask(port, head("GET", "/health", "Connection: close")) == [200]
            assert await ask(port, post("/v1/traces", make_request("in"), "Connection: close")) == [200]
        assert len(running.spooled()) == 1
    lines = [record.getMessage() for record in caplog.records]
    assert len([one for one in lines if "gateway.max_connections" in one]) == 1


async def test_a_body_behind_an_answer_keeps_no_place(serving: Any) -> None:
    async with serving(max_connections=8) as running:
        port = running.gateway.http_port
        for begin in (
            head("GET", "/health", "Content-Length: 1000000000"),
            head("POST", "/nowhere", "Transfer-Encoding: chunked") + b"1\r\n",
        ):
            async with held(port, 60, begin):
                assert await ask(port, head("GET", "/health", "Connection: close"), seconds=5) == [200]


async def test_requests_under_way_are_not_closed_for_new_ones_and_health_is_still_answered(
    serving: Any, make_request: Any
) -> None:
    body = make_request("slow but honest")
    async with serving(max_connections=8) as running:
        port = running.gateway.http_port
        whole = post("/v1/traces", body, "Connection: close")
        pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        for _, writer in pairs:
            writer.write(whole[:-3])
        await asyncio.sleep(0.2)
        (refused,) = answers(await talk(port, post("/v1/traces", body)))
        assert (refused.status, "retry-after" in refused.headers) == (503, True)
        assert await ask(port, head("GET", "/health", "Connection: close")) == [200]
        assert await ask(port, head("GET", "/metrics?x=1", "Connection: close")) == [200]
        for reader, writer in pairs:
            writer.write(whole[-3:])
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            await closed(writer)
        assert len(running.spooled()) == 8


async def test_where_even_the_extra_connections_are_busy_new_ones_wait_and_are_served_later(
    serving: Any, make_request: Any
) -> None:
    async with serving(max_connections=8) as running:
        port = running.gateway.http_port
        async with held(port, 60, head("POST", "/v1/traces", "Content-Length: 10", "Content-Type: application/json")):
            late = asyncio.create_task(talk(port, post("/v1/traces", make_request("late")), seconds=8))
            await asyncio.sleep(0.3)
        assert [one.status for one in answers(await late)] in ([200], [503])
        assert await ask(port, head("GET", "/health", "Connection: close")) == [200]


@pytest.mark.usefixtures("hurry")
@both_loops
async def test_half_a_tls_handshake_is_closed_in_time_and_counts(serving: Any, certificates: Certificates) -> None:
    pair = {"tls_certificate": certificates["server.pem"], "tls_key": certificates["server.key"]}
    async with serving(max_connections=16, **pair) as running:
        port = running.gateway.http_port
        for sent in (b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 20):
            async with held(port, 60, sent) as readers:
                reader, writer = await asyncio.open_connection("localhost", port, ssl=certificates.context())
                writer.write(head("GET", "/health", "Connection: close"))
                assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
                await closed(writer)
                assert await ended(readers) == 60
        async with held(port, 2, b"GET /health HTTP/1.1\r\n\r\n") as readers:
            assert await ended(readers) == 2


def test_the_limit_of_open_files_is_raised_and_shared_out() -> None:
    code = (
        "import resource, sys; from otel_telemetry.gateway.receive import descriptors as d\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))\n"
        "print(d.raise_limit(), d.connections(10**6), d.connections(50))"
    )
    for soft, hard in ((64, 64), (256, 1024), (1024, 4096)):
        command = [sys.executable, "-c", code, str(soft), str(hard)]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        limit, most, few = map(int, out.split())
        assert limit == hard
        assert few == min(50, most)
        assert 8 <= most < hard // 2  # two listeners, and something is kept back
        assert hard - 2 * most >= min(128, hard // 4)


def test_without_a_limit_of_open_files_the_setting_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    infinite = resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda _: (infinite, infinite))
    assert descriptors.connections(777) == 777


async def test_a_connection_that_was_just_accepted_when_the_gateway_stops_is_served(
    serving: Any, monkeypatch: Any
) -> None:
    """Its socket is ours by then: closed, it would take a request with it that is on its way."""
    import asyncio

    from otel_telemetry.gateway.receive.connections import Connections

    connect = Connections._connect
    stopped = asyncio.Event()

    async def slowly(self: Any, *given: Any) -> None:
        await stopped.wait()
        await connect(self, *given)

    monkeypatch.setattr(Connections, "_connect", slowly)
    async with serving() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.gateway.http_port)
        writer.write(b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await asyncio.sleep(0.2)
        stopping = asyncio.create_task(running.gateway.stop(5))
        await asyncio.sleep(0.1)
        stopped.set()
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 200")
        writer.close()
        await stopping
