"""Redis away, frozen, restarted, or no Redis at all: a miss and a counter, no error, and it finds its way back."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from otel_telemetry.cache import ResponseCache
from otel_telemetry.cache.breaker import FAILURES, Breaker
from otel_telemetry.cache.redis_store import RedisStore
from tests.waiting import eventually


def recorded(cache: ResponseCache, make: Callable[[int], Any]) -> tuple[list[int], Callable[[int], Any]]:
    """Return a cached function and the calls that reach what it decorates."""
    calls: list[int] = []

    @cache.cached(tool="t")
    def made(x: int) -> Any:
        calls.append(x)
        return make(x)

    return calls, made


def test_while_redis_is_away_calls_are_made_and_afterwards_kept_again(make, own_redis, counted):
    cache = make(url=own_redis.url, cooldown=0.05)
    calls, made = recorded(cache, lambda x: {"x": x})
    assert [made(1), made(1)] == [{"x": 1}] * 2
    assert calls == [1]
    own_redis.stop()
    assert [made(1), made(1), made(1)] == [{"x": 1}] * 3
    assert calls == [1] * 4
    assert cache.get("k") is None
    assert cache.set("k", 1) is None
    assert cache.delete("k") is False
    reasons = {reason for _, reason in counted.problems}
    assert reasons <= {"away", "open"}
    assert "away" in reasons
    own_redis.start()
    eventually(lambda: cache.set("k", 1))
    before = len(calls)
    eventually(lambda: made(2) and made(2) and len(calls) == before + 1)
    assert cache.get("k") == 1


async def test_tasks_find_their_way_back_to_a_restarted_redis(make, own_redis, counted):
    cache = make(url=own_redis.url, cooldown=0.05)
    assert await cache.aset("k", 1)
    own_redis.stop()
    assert await cache.aget("k") is None
    assert await cache.aset("k", 1) is None
    own_redis.start()
    for _ in range(500):
        if await cache.aset("k", 2):
            break
        await asyncio.sleep(0.02)
    assert await cache.aget("k") == 2
    assert {reason for _, reason in counted.problems} <= {"away", "open"}
    await cache.aclose()


def test_a_frozen_redis_is_waited_for_once_and_then_left_alone(make, own_redis, counted):
    cache = make(url=own_redis.url, timeout=0.1, cooldown=600)
    calls, made = recorded(cache, lambda x: x)
    made(1)
    own_redis.freeze()
    assert [made(1) for _ in range(10)] == [1] * 10  # it is frozen until the end of this test
    assert len(calls) == 11
    assert counted.problems[("get", "timeout")] == 1
    assert sum(count for (_, reason), count in counted.problems.items() if reason == "timeout") == 1
    assert sum(count for (_, reason), count in counted.problems.items() if reason == "open") >= 9


async def test_tasks_are_not_held_up_by_a_frozen_redis(make, own_redis, counted):
    cache = make(url=own_redis.url, timeout=0.1, cooldown=600)
    assert await cache.aset("k", 1)
    own_redis.freeze()
    assert await asyncio.gather(*(cache.aget("k") for _ in range(20))) == [None] * 20
    assert {reason for _, reason in counted.problems} <= {"timeout", "open"}
    assert await cache.aget("k") is None
    await cache.aclose()


def test_threads_that_meet_a_frozen_redis_get_their_answers_and_later_hits_again(make, own_redis, counted):
    cache = make(url=own_redis.url, timeout=0.2, cooldown=0.05)
    made = cache.cached(tool="t")(lambda x: [x])
    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(made, range(20))) == [[n] for n in range(20)]
        own_redis.freeze()
        assert list(pool.map(made, range(20))) == [[n] for n in range(20)]
        own_redis.thaw()
    assert ("get", "timeout") in counted.problems
    hits = counted.total("cache_hits")
    eventually(lambda: made(3) and counted.total("cache_hits") > hits)


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_server_that_says_nothing_is_a_miss(make, deaf_port, counted):
    cache = make(url=f"redis://127.0.0.1:{deaf_port}/0", timeout=0.05, cooldown=600)
    assert cache.cached(tool="t")(lambda x: x)(1) == 1
    assert counted.problems[("get", "timeout")] == 1
    assert counted.hits_misses == (0, 1)


def test_a_server_that_is_no_redis_is_a_miss(make, counted):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        cache = make(url=f"redis://127.0.0.1:{port}/0", timeout=0.2, lock_wait=0)
        assert cache.get("k", default="none") == "none"
        thread.join(10)
    assert sum(counted.problems.values()) == 1


def test_a_key_that_holds_something_else_is_a_miss_and_redis_is_not_left_alone(make, redis_server, counted):
    cache = make(url=redis_server.url)
    with redis.Redis.from_url(redis_server.url) as client:
        client.rpush("list", 1)
    for _ in range(FAILURES + 1):
        assert cache.get("list") is None
    assert counted.problems == {("get", "refused"): FAILURES + 1}
    cache.set("k", 1)
    assert cache.get("k") == 1


def test_a_full_redis_refuses_and_the_call_goes_on(make, own_redis, counted):
    cache = make(url=own_redis.url)
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory", 1)
    assert cache.cached(tool="t")(lambda x: x)(1) == 1
    assert counted.problems[("set", "refused")] == 1


async def test_a_cancelled_lookup_does_not_give_its_answer_to_the_next_one(make, own_redis):
    cache = make(url=own_redis.url, timeout=5)
    await cache.aset("mine", "mine")
    await cache.aset("yours", "yours")
    own_redis.freeze()
    lookup = asyncio.create_task(cache.aget("mine"))
    await asyncio.sleep(0.05)
    lookup.cancel()
    with pytest.raises(asyncio.CancelledError):
        await lookup
    own_redis.thaw()
    assert [await cache.aget("yours") for _ in range(3)] == ["yours"] * 3
    await cache.aclose()


def test_the_process_that_held_the_lock_died_and_the_next_makes_the_value(make, redis_server):
    cache = make(url=redis_server.url, lock_wait=60)
    key = cache.key("t", {"x": 1})
    assert isinstance(cache._handler.store, RedisStore)
    with redis.Redis.from_url(redis_server.url) as client:
        client.set(f"lock:{key}", "dead", px=100)
    assert cache.cached(tool="t")(lambda x: x)(x=1) == 1  # as soon as the lock has run out


def test_the_breaker_lets_one_try_in_each_pause(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("otel_telemetry.cache.breaker.time.monotonic", lambda: now[0])
    breaker = Breaker(cooldown=1.0)
    for _ in range(FAILURES):
        assert breaker.allows()
        breaker.failed(timed_out=False)
    assert not breaker.allows()
    now[0] += 1.0
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    now[0] += 1.0
    assert breaker.allows()
    breaker.succeeded()
    assert [breaker.allows() for _ in range(3)] == [True] * 3
    breaker.failed(timed_out=True)
    assert not breaker.allows()
