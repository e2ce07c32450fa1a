"""A request that takes a receiver down: it is refused when it comes again, and nothing else is."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.gateway.receive import suspects
from tests.faults.gateway_process import GatewayProcess
from tests.faults.load import EXPORT
from tests.faults.memory_limit import MemoryLimit
from tests.waiting import eventually

#: By the number of receivers beside a deliverer: less than it takes to work on what is deadly.
LIMITS = {"1": 220 << 20, "0": 160 << 20}
DIRTY = "mail jane@example.com and call +1 415 555 2671 now. " * 20
PROTOBUF = {"content-type": "application/x-protobuf"}
GONE = 0


def spans(count: int, text: str) -> bytes:
    request = ExportTraceServiceRequest()
    added = request.resource_spans.add().scope_spans.add().spans
    for _ in range(count):
        added.add(trace_id=os.urandom(16), span_id=os.urandom(8), name=text)
    return bytes(request.SerializeToString())


def post(running: GatewayProcess, body: bytes) -> tuple[int, bytes]:
    """Return the status and the body of the answer; GONE where the receiver went away over it."""
    try:
        answer = httpx.post(f"http://127.0.0.1:{running.http}/v1/traces", content=body, headers=PROTOBUF, timeout=120)
    except httpx.TransportError:
        return GONE, b""
    return answer.status_code, answer.content


def works_on(running: GatewayProcess, count: int) -> list[int]:
    """Return when the receivers work on so many requests, each of which takes seconds; which receivers, from 0."""
    slots, size = suspects._slots_at(0), suspects._SLOT.size

    def noted() -> list[int]:
        left = (running.spool / suspects._NAME).read_bytes()[slots:]
        used = [at // size // suspects._SLOTS for at in range(0, len(left), size) if left[at : at + 8] != bytes(8)]
        return used if len(used) == count else []

    eventually(noted, f"{count} requests are worked on")
    return noted()


def over_grpc(running: GatewayProcess, body: bytes) -> grpc.StatusCode:
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc}", options) as channel:
        try:
            channel.unary_unary(EXPORT)(body, timeout=60)  # type: ignore[call-arg]  # bytes in, bytes out
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@pytest.fixture(params=LIMITS)
def workers(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def limit(workers: str) -> Iterator[MemoryLimit]:
    made = MemoryLimit(LIMITS[workers])
    yield made
    made.close()


@pytest.fixture
def sending() -> Iterator[Callable[[GatewayProcess, bytes], Future[tuple[int, bytes]]]]:
    with ThreadPoolExecutor(4) as pool:
        yield lambda running, body: pool.submit(post, running, body)


def test_what_took_a_receiver_down_is_refused_the_second_time(
    limit: MemoryLimit, gateway: Callable[..., GatewayProcess], workers: str
) -> None:
    """Also where all of the gateway dies of it, and is started again by whoever watches over it."""
    running = gateway("--workers", workers, within=limit.within)
    deadly, harmless = spans(800_000, "x" * 20), spans(100, "x")
    assert post(running, deadly)[0] == GONE
    assert limit.killed == 1
    if workers == "0":
        assert running.process
        running.process.wait(10)
        running.restart()
    eventually(running.healthy, "the gateway is healthy again")

    status, body = post(running, deadly)
    assert status == 413
    assert b"took a receiver down" in body
    assert over_grpc(running, deadly) is grpc.StatusCode.INVALID_ARGUMENT
    assert post(running, harmless)[0] == 200
    assert limit.killed == 1
    assert running.total("otel_telemetry_refused_total", reason="took_receiver_down") == 2
    dead_letters = [line for line in running.spool_command("status").splitlines() if "took a receiver down" in line]
    assert len(dead_letters) == 1
    assert f"{len(deadly):,} bytes of traces" in dead_letters[0]
    assert running.logged.count("is refused: ") == 1


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_what_was_only_there_when_a_receiver_died_is_taken(
    gateway: Callable[..., GatewayProcess],
    sending: Callable[[GatewayProcess, bytes], Future[tuple[int, bytes]]],
    number: signal.Signals,
) -> None:
    """A crash: each of several requests is worked on alone. A kill by hand: nothing is suspected."""
    running = gateway()
    bodies = [spans(2_000, f"{name} {DIRTY}") for name in ("one", "two")]
    under_way = [sending(running, body) for body in bodies]
    works_on(running, 2)
    os.kill(running.receivers()[0], number)
    assert Counter(one.result()[0] for one in under_way) == {GONE: 2}
    eventually(running.healthy, "the gateway is healthy again")
    assert ("died over 2 requests" in running.logged) == (number == signal.SIGSEGV)

    for _ in range(2):
        again = [sending(running, body) for body in bodies]
        assert Counter(one.result()[0] for one in again) == {200: 2}
    assert running.total("otel_telemetry_refused_total", reason="took_receiver_down") == 0


def test_a_crash_over_one_request_refuses_it(
    gateway: Callable[..., GatewayProcess],
    sending: Callable[[GatewayProcess, bytes], Future[tuple[int, bytes]]],
) -> None:
    running = gateway()
    body = spans(2_000, DIRTY)
    under_way = sending(running, body)
    works_on(running, 1)
    os.kill(running.receivers()[0], signal.SIGABRT)
    assert under_way.result()[0] == GONE
    eventually(running.healthy, "the gateway is healthy again")
    assert post(running, body)[0] == 413


def test_what_one_receiver_died_of_is_refused_by_the_other(
    gateway: Callable[..., GatewayProcess],
    sending: Callable[[GatewayProcess, bytes], Future[tuple[int, bytes]]],
) -> None:
    """The one that died is stopped once it is back, so that the other one gets all that comes over HTTP."""
    running = gateway("--workers", "2")
    deadly = spans(2_000, DIRTY)
    under_way = sending(running, deadly)
    (place,) = works_on(running, 1)
    before = running.receivers()
    os.kill(before[place], signal.SIGABRT)
    assert under_way.result()[0] == GONE
    eventually(lambda: running.total("otel_telemetry_process_up") == 3, "it is back")
    (back,) = set(running.receivers()) - set(before)
    os.kill(back, signal.SIGSTOP)
    assert post(running, deadly)[0] == 413
    assert post(running, spans(100, "x"))[0] == 200
    os.kill(back, signal.SIGCONT)
    other = f"receiver-{2 - place}"
    assert running.total("otel_telemetry_refused_total", reason="took_receiver_down", process=other) == 1
    assert over_grpc(running, deadly) is grpc.StatusCode.INVALID_ARGUMENT
    assert running.total("otel_telemetry_refused_total", reason="took_receiver_down") == 2
