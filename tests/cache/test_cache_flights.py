"""Calls at the same time: one makes the value, in one process and in several, and the others wait for it."""

import asyncio
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis

from otel_telemetry.cache import ResponseCache
from tests.cache.conftest import everything


def test_of_fifty_threads_one_makes_the_value_and_each_gets_its_own_copy(cache: ResponseCache, counted):
    calls, gate = [], threading.Barrier(50)

    @cache.cached(tool="slow")
    def slow(x: int) -> dict[str, list[int]]:
        calls.append(x)
        time.sleep(0.1)
        return {"x": [x]}

    def run(_: int) -> Any:
        gate.wait(20)
        return slow(7)

    with ThreadPoolExecutor(50) as pool:
        results = list(pool.map(run, range(50)))
    assert calls == [7]
    assert results == [{"x": [7]}] * 50
    assert len({id(result["x"]) for result in results}) == 50
    assert counted.hits_misses == (49, 1)


async def test_of_two_hundred_tasks_one_makes_each_value(cache: ResponseCache, counted):
    calls: dict[int, int] = defaultdict(int)

    @cache.cached(tool="slow")
    async def slow(x: int) -> list[int]:
        calls[x] += 1
        await asyncio.sleep(0.05)
        return [x]

    results = await asyncio.gather(*(slow(n % 4) for n in range(200)))
    assert results == [[n % 4] for n in range(200)]
    assert calls == {0: 1, 1: 1, 2: 1, 3: 1}
    assert counted.hits_misses == (196, 4)
    await cache.aclose()


def test_when_the_one_fails_each_of_the_others_goes_on_its_own(cache: ResponseCache):
    calls, gate = [], threading.Barrier(4)

    @cache.cached(tool="t")
    def t(x: int) -> int:
        calls.append(x)
        time.sleep(0.05)
        if len(calls) == 1:
            time.sleep(0.1)
            raise KeyError(x)
        return x

    def run(_: int) -> Any:
        gate.wait(10)
        try:
            return t(1)
        except KeyError:
            return "failed"

    with ThreadPoolExecutor(4) as pool:
        assert sorted(map(str, pool.map(run, range(4)))) == ["1", "1", "1", "failed"]
    assert len(calls) == 4


async def test_when_the_one_is_cancelled_another_takes_over_and_the_rest_wait_for_it(cache: ResponseCache):
    calls = []

    @cache.cached(tool="t")
    async def t(x: int) -> int:
        calls.append(x)
        await asyncio.sleep(0.2)
        return x

    tasks = [asyncio.create_task(t(1)) for _ in range(20)]
    await asyncio.sleep(0.05)
    tasks[0].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [1] * 19
    assert calls == [1, 1]
    await cache.aclose()


def test_a_function_may_call_itself(cache: ResponseCache):
    depth = []

    @cache.cached(tool="t")
    def t(x: int) -> int:
        depth.append(x)
        return t(x) if len(depth) < 3 else x

    assert t(1) == 1
    assert len(depth) == 3


def test_nobody_waits_longer_than_the_bound_for_the_same_call(make, where):
    cache: ResponseCache = make(**where, flight_wait=0.05)
    calls, release = [], threading.Event()

    @cache.cached(tool="t")
    def t(x: int) -> int:
        calls.append(x)
        if len(calls) == 1:
            release.wait(20)
        return x

    first = threading.Thread(target=t, args=(1,))
    first.start()
    while not calls:
        time.sleep(0.001)
    assert t(1) == 1  # while the first is still under way
    assert first.is_alive()
    release.set()
    first.join(10)
    assert len(calls) == 2


def test_two_processes_do_not_make_the_same_value_at_the_same_time(make, redis_server, counted):
    """Two caches are to each other what two processes are: they share nothing but Redis."""
    calls = []

    def slow(x: int) -> int:
        calls.append(x)
        time.sleep(0.15)
        return x

    one, other = (make(url=redis_server.url).cached(tool="t")(slow) for _ in range(2))
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda function: function(1), (one, other))) == [1, 1]
    assert calls == [1]
    assert list(everything(redis_server.url)) == [next(iter(everything(redis_server.url)))]  # the lock is gone
    assert not any(key.startswith(b"lock:") for key in everything(redis_server.url))


async def test_two_event_loops_do_not_make_the_same_value_at_the_same_time(make, redis_server):
    calls = []

    async def slow(x: int) -> int:
        calls.append(x)
        await asyncio.sleep(0.15)
        return x

    caches = [make(url=redis_server.url) for _ in range(2)]
    one, other = (cache.cached(tool="t")(slow) for cache in caches)
    assert list(await asyncio.gather(one(1), other(1))) == [1, 1]
    assert calls == [1]
    for cache in caches:
        await cache.aclose()


def test_the_lock_of_another_process_is_not_waited_for_beyond_the_bound(make, redis_server):
    cache = make(url=redis_server.url, lock_wait=0.1)
    key = cache.key("t", {"x": 1})
    with redis.Redis.from_url(redis_server.url) as client:
        client.set(f"lock:{key}", "somebody", px=60_000)
        made = cache.cached(tool="t")(lambda x: x)
        assert made(x=1) == 1
        assert client.get(f"lock:{key}") == b"somebody"  # and is left to its owner
    assert cache.get(key) == 1
