"""Who has no secret key gets a share of the CPU, and nobody's text holds up the thread that serves all."""

import asyncio
import json
import threading
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from otel_telemetry.gateway.receive.allowance import Allowances, Purse
from otel_telemetry.gateway.receive.rest import batching
from otel_telemetry.gateway.receive.status import RefusedError
from tests.waiting import eventually

KEYS = (SecretStr("public:page"), SecretStr("public:other"), SecretStr("ingest:secret"), SecretStr("read:watch"))
DIRTY = "mail jane@example.com and call +1 415 555 2671 now. "
PAGE, SECRET = {"x-api-key": "page"}, {"x-api-key": "secret"}
SECONDS = 15.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Recording:
    """Redacts, and notes where, and how often others had a turn before."""

    def __init__(self, redactor: Any) -> None:
        self._redactor = redactor
        self.threads: list[threading.Thread] = []
        self.turns: list[int] = []
        self.turn = 0
        self.ticking: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._redactor, name)

    def redact(self, signal: Any, body: bytes) -> Any:
        self.threads.append(threading.current_thread())
        self.turns.append(self.turn)
        return self._redactor.redact(signal, body)


def feedback(size: int) -> bytes:
    return json.dumps({"verdict": "up", "note": (DIRTY * (size // len(DIRTY) + 1))[:size]}).encode()


def purse(allowances: Allowances, who: str = "a page") -> Purse:
    made = allowances.purse(who)
    assert made is not None
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_request_holds_what_it_may_take_and_gives_back_what_it_did_not(clock: Clock) -> None:
    allowances = Allowances(SECONDS, clock)
    first, second = purse(allowances), purse(allowances)
    first.expect(1_000_000)  # ten of the 15 seconds
    with pytest.raises(RefusedError, match="CPU time") as refused:
        second.expect(1_000_000)
    assert refused.value.refusal.http_status == 429
    assert refused.value.refusal.retry_after == pytest.approx(20)  # the five that are missing
    purse(allowances, "another page").expect(1_000_000)
    first.close()
    second.expect(1_000_000)


def test_what_was_taken_comes_back_within_a_minute(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    allowances = Allowances(SECONDS, clock)
    used = purse(allowances)
    used.expect(100)
    takes(monkeypatch, 14.0)
    assert used.run(len, "abc") == 3
    used.close()
    used.close()
    assert allowances.used_up() == []
    with pytest.raises(RefusedError):
        purse(allowances).expect(200_000)
    clock.now += 4.0
    purse(allowances).expect(200_000)
    assert allowances.used_up() == ["a page"]
    clock.now += 1.0
    assert allowances.used_up() == []


def test_one_request_that_takes_more_than_all_is_refused_for_good_and_still_paid(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowances = Allowances(SECONDS, clock)
    used = purse(allowances)
    used.expect(64 << 20)
    takes(monkeypatch, SECONDS + 5)
    with pytest.raises(RefusedError, match="smaller batches") as refused:
        used.run(len, "abc")
    assert refused.value.refusal.http_status == 413
    used.close()
    clock.now += 19.0
    assert allowances.used_up() == ["a page"]
    clock.now += 2.0
    assert allowances.used_up() == []


def takes(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Make any work take so many seconds."""
    ticks = iter((0.0, seconds))
    monkeypatch.setattr("time.thread_time", lambda: next(ticks))


def test_work_that_waited_is_not_begun_once_nothing_is_left(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    allowances = Allowances(SECONDS, clock)
    working, waiting = purse(allowances), purse(allowances)
    for one in (working, waiting):
        one.expect(100_000)  # a second of the 15
    takes(monkeypatch, SECONDS - 0.5)
    working.run(len, "abc")
    begun: list[int] = []
    with pytest.raises(RefusedError, match="CPU time"):
        waiting.run(begun.append, 1)
    assert not begun
    clock.now += 10
    takes(monkeypatch, 0.1)
    waiting.run(begun.append, 1)
    assert begun == [1]


def test_who_has_a_secret_key_does_not_pay(clock: Clock) -> None:
    assert Allowances(SECONDS, clock).purse("") is None
    assert Allowances(0, clock).purse("a page") is None


async def until_refused(client: httpx.AsyncClient, path: str, body: bytes, **how: Any) -> tuple[int, httpx.Response]:
    """Return how many requests were taken, and the answer to the first that was not."""
    for taken in range(100):
        answer = await client.post(path, content=body, **how)
        if not answer.is_success:
            return taken, answer
    raise AssertionError("all were taken")


async def test_a_public_key_that_took_its_time_is_refused_and_all_others_are_served(serving: Any) -> None:
    async with (
        serving(api_keys=KEYS, public_cpu_seconds=0.5) as running,
        httpx.AsyncClient(base_url=running.http) as client,
    ):
        taken, refused = await until_refused(client, "/feedback", feedback(40_000), params={"api_key": "page"})
        assert taken
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "gateway.public_cpu_seconds" in refused.json()["message"]
        assert (await client.post("/feedback", content=feedback(40_000), headers=SECRET)).status_code == 200
        other = await client.post("/feedback", content=feedback(100), headers={"x-api-key": "other"})
        assert other.status_code == 200
        logs = await client.post("/v1/logs", content=b" " * 49_000, headers=PAGE | {"content-type": "application/json"})
        assert logs.status_code == 429
        assert len(running.spooled()) == taken + 2
        running.gateway.receiver.allowances.purse("the public key abcd…")._allowance.take(1.0)
        shown = (await client.get("/health", headers={"x-api-key": "watch"})).json()
        assert shown["status"] == "ok"
        assert "the public key abcd…" in shown["parts"]["redaction"]["cpu_time_used_up"]


async def test_callers_of_an_open_endpoint_share_an_allowance_of_their_own(serving: Any) -> None:
    event = json.dumps({"type": "x", "data": DIRTY * 800}).encode()
    async with (
        serving(api_keys=KEYS, open_endpoints=("/events",), public_cpu_seconds=0.5) as running,
        httpx.AsyncClient(base_url=running.http) as client,
    ):
        assert (await until_refused(client, "/events", event))[1].status_code == 429
        assert (await client.post("/events", content=event, headers=SECRET)).status_code == 202
        assert (await client.post("/feedback", content=feedback(10), headers=PAGE)).status_code == 200


@pytest.mark.parametrize(("headers", "size"), [(PAGE, 100), (SECRET, 20_000)])
async def test_what_may_take_long_is_not_redacted_in_the_thread_that_serves_all(
    serving: Any, redactor: Any, headers: dict[str, str], size: int
) -> None:
    engine = Recording(redactor)
    async with (
        serving(engine=engine, api_keys=KEYS) as running,
        httpx.AsyncClient(base_url=running.http, headers=headers) as client,
    ):
        assert (await client.post("/feedback", content=feedback(size))).status_code == 200
    assert engine.threads
    assert threading.current_thread() not in engine.threads


async def test_others_have_their_turn_between_groups_of_small_requests(
    serving: Any, redactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "_MOST_BYTES", 4_000)
    engine = Recording(redactor)
    loop = asyncio.get_running_loop()

    def turn() -> None:
        engine.turn += 1
        engine.ticking = loop.call_soon(turn)

    async with (
        serving(engine=engine) as running,
        httpx.AsyncClient(base_url=running.http) as client,
    ):
        engine.threads.clear()  # of /health, and the like
        engine.turns.clear()
        turn()
        answers = await asyncio.gather(*(client.post("/feedback", content=feedback(3_000)) for _ in range(12)))
        engine.ticking.cancel()
    assert {answer.status_code for answer in answers} == {200}
    turns = [
        turn for turn, thread in zip(engine.turns, engine.threads, strict=True) if thread is threading.main_thread()
    ]
    assert len(turns) == 12
    assert len(set(turns)) == 12


async def test_a_large_request_that_takes_its_time_leaves_room_for_small_ones(serving: Any) -> None:
    async with serving(max_pending_bytes=1 << 20) as running, httpx.AsyncClient(base_url=running.http) as client:
        port = running.gateway.http_port
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        head = b"POST /log HTTP/1.1\r\nhost: localhost\r\ncontent-length: 900000\r\n\r\n"
        writer.write(head + b"x" * 800_000)  # takes all of the room, and does not end
        await writer.drain()
        receiver = running.gateway.receiver
        await asyncio.to_thread(eventually, lambda: receiver.pending > 900_000, "the room is taken")
        assert (await client.post("/feedback", content=feedback(1_000))).status_code == 200
        assert (await client.post("/feedback", content=feedback(30_000))).status_code == 429
        writer.close()


async def test_bodies_without_a_secret_key_that_do_not_end_leave_room_for_all_others(serving: Any) -> None:
    head = b"POST /feedback?api_key=page HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100001\r\n\r\n"
    async with (
        serving(api_keys=KEYS, max_pending_bytes=1 << 20) as running,
        httpx.AsyncClient(base_url=running.http, headers=SECRET) as client,
    ):
        receiver, writers, refused = running.gateway.receiver, [], []
        for _ in range(12):
            reader, writer = await asyncio.open_connection("127.0.0.1", running.gateway.http_port)
            writers.append(writer)
            refused.append(asyncio.create_task(reader.readline()))
            writer.write(head + b"x" * 100_000)
        await asyncio.to_thread(
            eventually, lambda: receiver.pending_public > 199_000, "they hold their part of the room"
        )
        await asyncio.sleep(0.2)
        assert receiver.pending == receiver.pending_public <= (1 << 20) // 4
        for size in (100, 10_000, 300_000):
            assert (await client.post("/feedback", content=feedback(size))).status_code == 200
        assert {(await task).split()[1] for task in refused if task.done()} == {b"429"}
        for task, writer in zip(refused, writers, strict=True):
            task.cancel()
            writer.close()
        await asyncio.to_thread(eventually, lambda: receiver.pending_public == 0, "it is given back")


async def test_a_body_that_comes_slowly_keeps_no_time_from_others_with_its_key(serving: Any) -> None:
    head = b"POST /feedback?api_key=page HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n{"
    async with (
        serving(api_keys=KEYS, public_cpu_seconds=15) as running,
        httpx.AsyncClient(base_url=running.http, headers=PAGE) as client,
    ):
        _, writer = await asyncio.open_connection("127.0.0.1", running.gateway.http_port)
        writer.write(head)
        await asyncio.sleep(0.2)
        assert (await client.post("/feedback", content=feedback(60_000))).status_code == 200
        writer.close()
