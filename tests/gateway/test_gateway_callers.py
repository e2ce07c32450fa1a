"""A sender that leaves in mid-wait and sends the same again: stored once, answered; and gRPC's deadlines."""

import asyncio
import gc
import struct
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from typing import Any

import grpc
import pytest

from otel_telemetry.base.errors import DiskFull, TelemetryError
from otel_telemetry.gateway.receive import callers
from otel_telemetry.gateway.receive.callers import AbandonedRequests, Caller
from otel_telemetry.gateway.spool.writer import Spool
from tests.gateway.raw_http2 import EXPORT, Client, message

HEAD = (
    b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\ncontent-length: %d\r\n\r\n"
)
DEADLINE = str(grpc.StatusCode.DEADLINE_EXCEEDED.value[0])


class SlowDisk:
    """Holds back what goes to the spool until a test lets it go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        loop = asyncio.get_running_loop()
        commit = Spool._commit

        def held(spool: Spool, group: Any) -> None:
            loop.call_soon_threadsafe(self.asked.set)
            asyncio.run_coroutine_threadsafe(self.go_on.wait(), loop).result(20)
            commit(spool, group)

        monkeypatch.setattr(Spool, "_commit", held)


@pytest.fixture(name="running")
async def running_with_raw_clients(serving: Any) -> AsyncIterator[Any]:
    async with serving(sinks=()) as running:
        running.clients = []
        yield running
        for writer in running.clients:
            writer.close()


@pytest.fixture
async def slow(running: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SlowDisk]:
    assert running
    disk = SlowDisk(monkeypatch)
    yield disk
    disk.go_on.set()


async def grpc_leaving(running: Any, body: bytes) -> str:
    """Send a call that stops to wait when its time is over; return how it ended."""
    async with grpc.aio.insecure_channel(running.grpc) as channel:
        try:
            await channel.unary_unary(EXPORT, bytes, bytes)(body, timeout=0.5)
        except grpc.aio.AioRpcError as error:
            return error.code().name
    return "OK"


async def http_leaving(running: Any, body: bytes) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.gateway.http_port)
    writer.write(HEAD % len(body) + body)
    await writer.drain()
    assert reader
    await asyncio.sleep(0.2)
    writer.transport.abort()
    return "left"


async def http_again(running: Any, body: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.gateway.http_port)
    writer.write(HEAD % len(body) + body)
    line = await reader.readline()
    writer.close()
    return int(line.split()[1])


async def test_a_grpc_call_sent_again_after_its_deadline_is_kept_once(
    running: Any, slow: SlowDisk, make_request: Any
) -> None:
    body = make_request("one", "two")
    assert await grpc_leaving(running, body) == "DEADLINE_EXCEEDED"
    assert slow.asked.is_set()
    again = asyncio.create_task(grpc_leaving(running, body))
    other = asyncio.create_task(grpc_leaving(running, make_request("other")))
    await asyncio.sleep(0.1)
    slow.go_on.set()
    assert await again == "OK"
    assert await other == "OK"
    assert await grpc_leaving(running, body) == "OK"
    assert [batch.body for batch in running.spooled()] == [body, make_request("other")]
    assert running.gateway.receiver.pending == 0


async def test_an_http_request_sent_again_after_its_sender_left_is_kept_once(
    running: Any, slow: SlowDisk, make_request: Any
) -> None:
    body = make_request("one", "two")
    await http_leaving(running, body)
    again = asyncio.create_task(http_again(running, body))
    await asyncio.sleep(0.1)
    slow.go_on.set()
    assert await again == 200
    assert await http_again(running, body) == 200
    assert [batch.body for batch in running.spooled()] == [body]


async def test_a_sender_that_leaves_behind_much_is_seen(running: Any, slow: SlowDisk, make_request: Any) -> None:
    """Its last piece pauses reading; while it was paused, nobody would see the sender leave."""
    body = make_request(*map(str, range(20_000)))
    await http_leaving(running, body)
    again = asyncio.create_task(http_again(running, body))
    await asyncio.sleep(0.5)
    slow.go_on.set()
    assert await again == 200
    assert len(running.spooled()) == 1


async def test_who_waits_may_send_the_same_twice(running: Any, make_request: Any) -> None:
    body = make_request("one")
    assert [await http_again(running, body) for _ in range(2)] == [200, 200]
    assert len(running.spooled()) == 2


async def test_what_failed_is_worked_on_again(running: Any, make_request: Any, monkeypatch: Any) -> None:
    body = make_request("one")
    redact = running.gateway.receiver._redactor.redact
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def fail(*given: Any) -> Any:
        loop.call_soon_threadsafe(asked.set)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.8), loop).result(5)
        monkeypatch.setattr(running.gateway.receiver._redactor, "redact", redact)
        raise ValueError

    monkeypatch.setattr(running.gateway.receiver._redactor, "redact", fail)
    assert await grpc_leaving(running, body) == "DEADLINE_EXCEEDED"
    await asyncio.sleep(0.5)
    assert await grpc_leaving(running, body) == "OK"
    assert len(running.spooled()) == 1


async def test_a_call_that_is_not_complete_at_its_deadline_is_told(running: Any) -> None:
    client = await Client.connect(running)
    stream = client.begin(**{"grpc-timeout": "100m"})
    await client.send(stream, message(bytes(1000))[:-1], end=False)
    assert await client.answered(stream) == [DEADLINE]
    assert running.gateway.receiver.pending == 0


@pytest.mark.parametrize("given", ["1", "S", "-1S", "123456789S", "1.5S", "1x", ""])
async def test_a_deadline_that_is_none_is_refused(running: Any, given: str) -> None:
    client = await Client.connect(running)
    stream = client.begin(**{"grpc-timeout": given})
    await client.flush()
    assert await client.answered(stream) == [str(grpc.StatusCode.INVALID_ARGUMENT.value[0])]


async def test_data_behind_the_end_of_a_request_is_refused_by_its_stream(
    running: Any, slow: SlowDisk, make_request: Any
) -> None:
    """The work that is under way keeps its room, and goes on."""
    client = await Client.connect(running)
    stream = client.begin()
    await client.send(stream, message(make_request("one")))
    await slow.asked.wait()
    assert running.gateway.receiver.pending > 0
    frame = struct.pack(">I", 5)[1:] + b"\0\0" + struct.pack(">I", stream) + b"later"
    client.writer.write(frame)
    await client.writer.drain()
    slow.go_on.set()
    while stream not in client.resets and not client.closed:
        await client.read()
    assert stream in client.resets or client.closed


async def test_calls_that_are_waited_for_pay_for_the_pings_between_them(running: Any, make_request: Any) -> None:
    client = await Client.connect(running)
    for _ in range(400):
        stream = client.begin()
        for _ in range(3):
            client.h2.ping(b"12345678")
        await client.send(stream, message(b""))
        assert await client.answered(stream) == ["0"]


class Watched(bytes):
    """A body whose end can be seen."""

    @classmethod
    def alive(cls) -> int:
        return sum(type(each) is cls for each in gc.get_objects())


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("why", ["malformed", "malformed slices", "disk", "redaction", "no room"])
async def test_a_request_that_fails_is_let_go_at_once(
    running: Any, make_request: Any, monkeypatch: Any, why: str, *, leaves: bool
) -> None:
    """Also where its sender left, whose repetition would be answered: nothing but a digest stays."""
    receiver = running.gateway.receiver
    whole = {"malformed": b"\xff" * 1000, "malformed slices": b"\xff" * (3 << 20)}
    body, caller = Watched(whole.get(why) or make_request("one")), Caller()
    if why == "disk":
        failed: Future[int] = Future()
        failed.set_exception(DiskFull("the disk is full"))
        monkeypatch.setattr(receiver._spool, "append", lambda *_: failed)
    elif why == "redaction":
        monkeypatch.setattr(receiver._redactor, "redact", lambda *_: 1 / 0)
    elif why == "no room":
        monkeypatch.setattr(receiver._spool, "expect", lambda _: receiver.room().grow(1 << 60))
        receiver.pending = 1
    if leaves:
        caller.leave()
    assert Watched.alive() == 1
    for _ in range(2):
        with pytest.raises(TelemetryError) as error, receiver.room() as room:
            await receiver.accept("traces", body, room, caller=caller)
        receiver.refuse("traces", error.value)
        del error, room
    del body, caller
    monkeypatch.undo()
    await asyncio.sleep(0)
    assert Watched.alive() == 0
    assert len(receiver._abandoned) == 2 * leaves


def test_requests_whose_senders_left_are_remembered_up_to_a_number_whatever_their_lengths(monkeypatch: Any) -> None:
    monkeypatch.setattr(callers, "_MOST", 100)
    known: AbandonedRequests[int] = AbandonedRequests()
    bodies = [b"%d" % number * (1 + number % 7) for number in range(1000)]
    for number, body in enumerate(bodies):
        answer: Future[int | None] = Future()
        answer.set_result(number)
        known.remember("traces", body, answer)
    assert len(known) == 100
    found = [known.answer("traces", body) for body in bodies]
    assert [one.result() if one else None for one in found] == [None] * 900 + list(range(900, 1000))
    monkeypatch.setattr(time, "monotonic", lambda: 1e12)
    known.remember("logs", b"new", Future())
    assert (len(known), known.answer("traces", bodies[-1])) == (1, None)
