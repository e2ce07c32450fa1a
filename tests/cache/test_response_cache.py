"""The response cache, in Redis and in memory: the same calls give the same answers."""

import asyncio
import time
from decimal import Decimal
from typing import Any

import pytest
import redis

from otel_telemetry.cache import ResponseCache
from tests.cache.conftest import everything

PLANTED = "jane.roe@example.com"
SSN = "536-22-8412"


def test_a_value_comes_back_until_it_is_deleted(cache: ResponseCache, counted):
    assert cache.get("k") is None
    stored = cache.set("k", {"a": [1, 2.5, None, True, "ö"]}, ttl=60)
    assert stored is not None
    assert cache.get("k") == {"a": [1, 2.5, None, True, "ö"]}
    entry = cache.lookup("k")
    assert entry is not None
    assert 50 < entry.expires_at - time.time() <= 60
    assert entry.stored_at <= time.time() + 0.001
    assert cache.delete("k") is True
    assert cache.delete("k") is False
    assert cache.get("k", default="nothing") == "nothing"
    assert counted.hits_misses == (2, 2)
    assert counted.problems == {}


async def test_tasks_and_threads_see_the_same_values(cache: ResponseCache):
    assert await cache.aset("k", [1])
    assert cache.get("k") == [1]
    assert await cache.aget("k") == [1]
    assert await cache.adelete("k") is True
    assert await cache.aget("k", default=0) == 0
    await cache.aclose()


def test_a_kept_none_is_a_hit(cache: ResponseCache, counted):
    calls = []

    @cache.cached(tool="nothing")
    def nothing(x: int) -> None:
        calls.append(x)

    assert [nothing(1), nothing(1)] == [None, None]
    assert calls == [1]
    assert counted.hits_misses == (1, 1)


def test_a_call_is_made_once_however_its_arguments_are_written(cache: ResponseCache, counted):
    calls = []

    @cache.cached(tool="search", ttl=60)
    def search(query: str, top_k: int = 5, *, exact: bool = False) -> dict[str, Any]:
        calls.append((query, top_k, exact))
        return {"found": query}

    expected = {"found": "a"}
    assert search("a") == expected
    assert search("a", 5) == expected
    assert search(top_k=5, query="a") == expected
    assert search("a", exact=False) == expected
    assert calls == [("a", 5, False)]
    assert search("a", 6) == expected
    assert len(calls) == 2
    assert counted.hits_misses == (3, 2)
    with pytest.raises(TypeError, match="top_k"):
        search("a", 5, top_k=6)  # type: ignore[misc]  # on purpose
    assert search.__name__ == "search"


async def test_coroutine_functions_are_cached_too(cache: ResponseCache):
    calls = []

    @cache.cached(tool="search")
    async def search(query: str) -> list[str]:
        calls.append(query)
        await asyncio.sleep(0)
        return [query]

    assert [await search("a"), await search("a"), await search("b")] == [["a"], ["a"], ["b"]]
    assert calls == ["a", "b"]
    await cache.aclose()


def test_a_value_goes_when_its_time_is_over_and_a_little_before_at_random(make, where):
    cache = make(**where, ttl_jitter=0.5)
    times = set()
    for n in range(20):
        entry = cache.set(f"k{n}", n, ttl=0.2)
        times.add(entry.expires_at - entry.stored_at)
    assert all(0.09 <= seconds <= 0.201 for seconds in times)
    assert len(times) > 5
    time.sleep(0.25)
    assert [cache.get(f"k{n}") for n in range(20)] == [None] * 20


def test_values_are_redacted_before_they_are_stored(make, redis_server):
    cache: ResponseCache = make(url=redis_server.url)

    @cache.cached(tool="who is")
    def who(mail: str, ssn: str) -> dict[str, Any]:
        return {"mail": mail, "nested": [{"text": f"write to {mail}, number {ssn}"}], "n": 3}

    first = who(PLANTED, SSN)
    assert first["mail"] == PLANTED
    again = who(PLANTED, SSN)
    assert again["n"] == 3
    assert again["mail"] == "[REDACTED_EMAIL]"
    cache.set("plain", f"mail {PLANTED}")
    assert cache.get("plain") == "mail [REDACTED_EMAIL]"
    held = everything(redis_server.url)
    assert len(held) == 2
    for planted in (PLANTED, SSN, "jane_roe", "536_22", "8412"):
        assert planted.encode() not in b"".join(part for pair in held.items() for part in pair)


def test_values_in_memory_are_redacted_too(make):
    cache = make()
    cache.set("k", {"mail": PLANTED})
    assert cache.get("k") == {"mail": "[REDACTED_EMAIL]"}


def test_a_value_that_cannot_be_redacted_is_given_on_and_not_stored(make, where, counted):
    class Broken:
        def value(self, value: Any, key: str = "") -> Any:
            if isinstance(value, dict) and "secret" in value:
                raise RuntimeError("no")
            return value

    cache = make(**where, redactor=Broken())
    made = cache.cached(tool="t")(lambda x: {"secret": x})
    assert [made(1), made(1)] == [{"secret": 1}, {"secret": 1}]
    assert counted.problems == {("set", "redaction_failed"): 2}
    assert counted.hits_misses == (0, 2)


@pytest.mark.parametrize(
    "value",
    [(1, 2), {1: "a"}, {"a": (1,)}, {1, 2}, object(), float("nan"), b"x"],
    ids=lambda value: type(value).__name__,
)
def test_what_would_come_back_as_something_else_is_given_on_and_not_stored(cache: ResponseCache, counted, value):
    made = cache.cached(tool="t")(lambda: value)
    assert made() is value
    assert made() is value
    assert counted.problems == {("set", "value"): 2}


def test_a_value_that_is_too_large_is_given_on_and_not_stored(make, where, counted):
    cache = make(**where, max_value_bytes=100)
    assert cache.set("k", "x" * 98) is not None
    assert cache.set("l", "x" * 99) is None
    assert cache.get("l") is None
    assert counted.problems == {("set", "too_large"): 1}


def test_arguments_of_which_no_key_can_be_made_are_called_through(cache: ResponseCache, counted, caplog):
    calls = []

    @cache.cached(tool="t")
    def t(x: Any) -> int:
        calls.append(x)
        return 1

    thing = object()
    assert [t(thing), t(thing)] == [1, 1]
    assert calls == [thing, thing]
    assert counted.problems == {("key", "arguments"): 2}
    assert [record.message for record in caplog.records] == [
        "otel_telemetry: cache: t: no key can be made of object; its calls are not cached"
    ]


def test_what_a_function_raises_comes_through_and_is_not_kept(cache: ResponseCache):
    calls = []

    @cache.cached(tool="t")
    def failing(x: int) -> int:
        calls.append(x)
        raise KeyError(x)

    for _ in range(2):
        with pytest.raises(KeyError):
            failing(1)
    assert calls == [1, 1]


def test_a_stream_cannot_be_cached(make):
    cache = make()

    def stream():
        yield 1

    async def astream():
        yield 1

    for function in (stream, astream):
        with pytest.raises(TypeError, match="a stream cannot be cached"):
            cache.cached(tool="t")(function)
    with pytest.raises(ValueError, match="more than 0"):
        cache.cached(tool="t", ttl=0)


@pytest.mark.parametrize(
    "damaged",
    [b"", b"x", b"otc1", b'{"v":1}', b"otc1\0\0\0\0{}", "short", "flipped", "of another key"],
)
def test_a_damaged_value_is_a_miss_and_counted(make, redis_server, counted, damaged):
    cache = make(url=redis_server.url)
    cache.set("k", {"a": "b"})
    cache.set("other", {"a": "somebody else's"})
    with redis.Redis.from_url(redis_server.url) as client:
        good = client.get("k")
        replacement = {
            "short": good[:-1],
            "flipped": good.replace(b'"b"', b'"c"'),
            "of another key": client.get("other"),
        }.get(damaged, damaged)
        client.set("k", replacement)
    assert cache.get("k") is None
    assert counted.problems == {("get", "corrupt"): 1}
    assert cache.set("k", 1)
    assert cache.get("k") == 1


def test_memory_lets_the_least_recently_used_go(make):
    cache = make(max_items=3)
    for key in "abc":
        cache.set(key, key)
    assert cache.get("a") == "a"
    cache.set("d", "d")
    assert [cache.get(key) for key in "abcd"] == ["a", None, "c", "d"]


def test_memory_holds_no_more_bytes_than_it_may(make):
    cache = make(max_bytes=1000)
    for n in range(100):
        cache.set(f"k{n}", "x" * 100)
    cached = [n for n in range(100) if cache.get(f"k{n}") is not None]
    assert cached == [95, 96, 97, 98, 99]
    assert cache.set("huge", "x" * 2000) is None


def test_two_caches_in_one_redis_are_kept_apart_by_their_prefix(make, redis_server):
    one, other = make(url=redis_server.url, prefix="one:"), make(url=redis_server.url, prefix="other:")
    one.set("k", 1)
    assert other.get("k") is None
    assert list(everything(redis_server.url)) == [b"one:k"]


def test_what_a_value_cost_is_kept_with_it(make, where):
    from otel_telemetry.instrument import active

    cache: ResponseCache = make(**where, price=lambda spent: Decimal("0.0125") * len(spent))
    call = active.ModelUsage("openai", "gpt-4o", "chat", 10, 5, None, None, None, refused=False)

    @cache.cached(tool="ask")
    def ask(x: int) -> str:
        spending = active.spending.get()
        assert spending is not None
        spending.append(call)
        time.sleep(0.02)
        return "answer"

    ask(1)
    assert active.spending.get() is None
    entry = cache.lookup(str(cache.key("ask", {"x": 1})))
    assert entry is not None
    assert entry.took_ms is not None
    assert entry.cost_usd == Decimal("0.0125")
    assert 20 <= entry.took_ms < 2000
    cache.set("free", 1)
    free = cache.lookup("free")
    assert free is not None
    assert (free.cost_usd, free.took_ms) == (None, None)


def test_the_public_face_reads_the_settings(monkeypatch, redis_server, tmp_path):
    import otel_telemetry

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_TELEMETRY_CACHE__URL", redis_server.url)
    monkeypatch.setenv("OTEL_TELEMETRY_CACHE__PREFIX", "app:")
    monkeypatch.setenv("OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET", "a secret of the tests")
    cache = otel_telemetry.cache.ResponseCache(ttl=5)
    assert isinstance(cache, ResponseCache)
    entry = cache.set("k", f"mail {PLANTED}")
    assert entry is not None
    assert 4 < entry.expires_at - entry.stored_at <= 5
    assert list(everything(redis_server.url)) == [b"app:k"]
    assert cache.get("k") == "mail [REDACTED_EMAIL]"
    cache.close()
    with pytest.raises(otel_telemetry.base.errors.ConfigurationError, match=r"cache\.url"):
        otel_telemetry.cache.ResponseCache(url="http://localhost")
    with pytest.raises(otel_telemetry.base.errors.ConfigurationError, match=r"did you mean cache\.ttl"):
        otel_telemetry.cache.ResponseCache(ttll=3)
