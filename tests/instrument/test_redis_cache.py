"""Lookups in a real Redis: hits, misses, families, bytes and time, on spans and in metrics, and never a key."""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
import redis.asyncio
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_telemetry.instrument import afterwards
from otel_telemetry.instrument.config import InstrumentSettings
from otel_telemetry.instrument.families import LIMIT, Families
from otel_telemetry.instrument.redis import RedisCacheInstrumentor
from tests.backends.process import free_port
from tests.backends.redis_server import RedisServer, running

WHO, VALUE = "janeroe-8231", "a value of hers"  # neither may leave
KEYS = (f"user:{WHO}", f"user:{WHO}:2", f"user:{WHO}:hash")
MISSING = f"user:{WHO}:missing"

Call = Callable[[Any], Any]
#: name -> (call, hits, misses, bytes) on what `filled` stores; VALUE has 15 bytes
CASES: dict[str, tuple[Call, int, int, int]] = {
    "GET there": (lambda r: r.get(KEYS[0]), 1, 0, 15),
    "GET not there": (lambda r: r.get(MISSING), 0, 1, 0),
    "GETEX there": (lambda r: r.getex(KEYS[0], ex=60), 1, 0, 15),
    "GETEX not there": (lambda r: r.getex(MISSING), 0, 1, 0),
    "MGET some": (lambda r: r.mget([KEYS[0], MISSING, KEYS[1]]), 2, 1, 30),
    "MGET none": (lambda r: r.mget(MISSING, MISSING), 0, 2, 0),
    "HGET there": (lambda r: r.hget(KEYS[2], WHO), 1, 0, 15),
    "HGET no field": (lambda r: r.hget(KEYS[2], "other"), 0, 1, 0),
    "HGET not there": (lambda r: r.hget(MISSING, "other"), 0, 1, 0),
    "HMGET some": (lambda r: r.hmget(KEYS[2], [WHO, "other", "n"]), 2, 1, 16),
    "HMGET not there": (lambda r: r.hmget(MISSING, ["a", "b"]), 0, 2, 0),
    "HGETALL there": (lambda r: r.hgetall(KEYS[2]), 1, 0, 15 + len(WHO) + 2),
    "HGETALL not there": (lambda r: r.hgetall(MISSING), 0, 1, 0),
    "EXISTS some": (lambda r: r.exists(KEYS[0], KEYS[1], MISSING), 2, 1, 0),
    "EXISTS not there": (lambda r: r.exists(MISSING), 0, 1, 0),
}


@pytest.fixture
def filled(redis_server: RedisServer) -> RedisServer:
    with suppress_instrumentation(), redis.Redis.from_url(redis_server.url) as client:
        client.mset({KEYS[0]: VALUE, KEYS[1]: VALUE})
        client.hset(KEYS[2], mapping={WHO: VALUE, "n": 1})
    return redis_server


@pytest.fixture
def seen(uninstrumented: Any) -> Iterator[Any]:
    """Spans of OpenTelemetry's instrumentation, and lookups of ours."""
    RedisInstrumentor().instrument(tracer_provider=uninstrumented.tracers)
    RedisCacheInstrumentor().instrument(meter_provider=uninstrumented.meters)
    yield uninstrumented
    RedisCacheInstrumentor().uninstrument()
    RedisInstrumentor().uninstrument()
    assert uninstrumented.faults() == 0


def counted(seen: Any) -> tuple[int, int, int]:
    points = seen.points()
    names = ("cache_hits", "cache_misses", "read")
    return tuple(sum(p.value for p in points.get(f"telemetry_cache.{name}", ())) for name in names)


def labels(seen: Any, name: str = "cache_hits") -> set[tuple[str, str, str]]:
    points = seen.points()[f"telemetry_cache.{name}"]
    return {(p.attributes["cache"], p.attributes["command"], p.attributes["family"]) for p in points}


def attributes_of(seen: Any) -> dict[str, Any]:
    attributes = dict(seen.exporter.get_finished_spans()[-1].attributes)
    return {name: value for name, value in attributes.items() if name.startswith("cache.")}


def nothing_leaks(seen: Any) -> None:
    assert afterwards.flush()
    left = encode_spans(seen.exporter.get_finished_spans()).SerializeToString()
    metrics = seen.reader.get_metrics_data()
    left += encode_metrics(metrics).SerializeToString() if metrics else b""
    assert b"redis" in left
    for planted in (*KEYS, WHO, "janeroe", "8231", VALUE):
        assert planted.encode() not in left, planted


def expect(seen: Any, name: str) -> None:
    _, hits, misses, size = CASES[name]
    assert counted(seen) == (hits, misses, size)
    found = attributes_of(seen)
    duration = found.pop("cache.duration_ms")
    assert 0 < duration < 60_000
    alone = {"cache.hit": hits == 1} if hits + misses == 1 else {}
    expected = {"cache.hits": hits, "cache.misses": misses, "cache.family": "user", "cache.bytes": size, **alone}
    assert found == expected
    nothing_leaks(seen)


@asynccontextmanager
async def client(url: str, kind: str, **options: Any) -> AsyncIterator[Any]:
    if kind == "async":
        async with redis.asyncio.Redis.from_url(url, **options) as found:
            yield found
    else:
        with redis.Redis.from_url(url, **options) as found:
            yield found


async def awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "text"])
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("case", CASES)
async def test_a_single_command_says_what_it_found(seen, filled, case, kind, decode):
    async with client(filled.url, kind, decode_responses=decode) as found:
        await awaited(CASES[case][0](found))
    expect(seen, case)
    assert labels(seen) == {("redis", case.split()[0], "user")}


@pytest.mark.parametrize("transaction", [False, True], ids=["plain", "transaction"])
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("case", CASES)
async def test_a_command_in_a_pipeline_says_the_same(seen, filled, case, kind, transaction):
    async with client(filled.url, kind) as found:
        pipeline = found.pipeline(transaction=transaction)
        CASES[case][0](pipeline)
        answers = await awaited(pipeline.execute())
    assert len(answers) == 1
    expect(seen, case)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_pipeline_adds_up_what_its_commands_found(seen, filled, kind):
    async with client(filled.url, kind) as found:
        pipeline = found.pipeline()
        pipeline.set(f"order:{WHO}:1", VALUE)
        for call, *_ in CASES.values():
            call(pipeline)
        pipeline.get(f"order:{WHO}:1")
        pipeline.incr("counter")
        answers = await awaited(pipeline.execute())
    assert len(answers) == len(CASES) + 3
    expected = [sum(column) for column in zip(*(case[1:] for case in CASES.values()), strict=True)]
    assert counted(seen) == (expected[0] + 1, expected[1], expected[2] + 15)
    found = attributes_of(seen)
    assert found["cache.family"] == ("order", "user")
    assert (found["cache.hits"], found["cache.misses"]) == (expected[0] + 1, expected[1])
    assert "cache.hit" not in found
    assert seen.exporter.get_finished_spans()[-1].name == "PIPELINE"
    nothing_leaks(seen)


def test_a_pipeline_of_one_command_many_times_has_a_short_name(seen, filled):
    with redis.Redis.from_url(filled.url) as found, found.pipeline() as pipeline:
        for _ in range(100):
            pipeline.get(KEYS[0])
        pipeline.execute()
    assert seen.span().name == "PIPELINE GET"
    assert counted(seen) == (100, 0, 1500)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_watching_pipeline_that_reads_at_once_is_seen(seen, filled, kind):
    async with client(filled.url, kind) as found:
        pipeline = found.pipeline()
        await awaited(pipeline.watch(KEYS[0]))
        assert await awaited(pipeline.get(KEYS[0])) == VALUE.encode()
        pipeline.multi()
        pipeline.get(MISSING)
        assert await awaited(pipeline.execute()) == [None]
        await awaited(pipeline.reset())
    assert counted(seen) == (1, 1, 15)
    nothing_leaks(seen)


@pytest.fixture(scope="module")
def json_server() -> Iterator[RedisServer]:
    """A Redis whose HGET is called JSON.GET: the wire looks the same, and a path's answer is what we store for it."""
    with running("--rename-command", "HGET", "JSON.GET") as server:
        with suppress_instrumentation(), redis.Redis.from_url(server.url) as found:
            found.hset(f"doc:{WHO}", mapping={".": '{"name":"' + WHO + '","n":[1,2]}', "$..x": "[]", "$.n": "[[1,2]]"})
            found.hset(f"doc:{WHO}:empty", mapping={".": "[]"})
        yield server


@pytest.mark.parametrize("kind", ["sync", "async", "pipeline"])
@pytest.mark.parametrize(
    ("key", "path", "hit"),
    [
        (f"doc:{WHO}", ".", True),
        (f"doc:{WHO}", "$.n", True),
        (f"doc:{WHO}", "$..x", False),
        (f"doc:{WHO}:empty", ".", True),
        (f"doc:{WHO}:missing", ".", False),
    ],
)
async def test_a_json_document_or_path_that_is_not_there_is_a_miss(seen, json_server, *, kind, key, path, hit):
    async with client(json_server.url, kind) as found:
        if kind == "pipeline":
            with found.json().pipeline() as pipeline:
                pipeline.get(key, path)
                pipeline.execute()
        else:
            await awaited(found.json().get(key, path))
    hits, misses, size = counted(seen)
    assert (hits, misses) == ((1, 0) if hit else (0, 1))
    assert (size > 0) is hit
    assert attributes_of(seen)["cache.family"] == "doc"
    assert labels(seen) == {("redis", "JSON.GET", "doc")}
    nothing_leaks(seen)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisServer]:
    with running("--cluster-enabled", "yes") as server:
        with suppress_instrumentation(), redis.Redis.from_url(server.url) as found:
            found.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            while found.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                time.sleep(0.05)
            found.set(KEYS[0], VALUE)
        yield server


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_cluster_is_seen_too(seen, cluster, kind):
    make: Any = redis.RedisCluster if kind == "sync" else redis.asyncio.RedisCluster
    client = make("127.0.0.1", cluster.port)
    assert await awaited(client.get(KEYS[0])) == VALUE.encode()
    pipeline = client.pipeline()
    pipeline.get(KEYS[0])
    pipeline.get(KEYS[1])
    assert await awaited(pipeline.execute()) == [VALUE.encode(), None]
    assert (attributes_of(seen)["cache.hits"], attributes_of(seen)["cache.misses"]) == (1, 1)
    await awaited(client.close() if kind == "sync" else client.aclose())
    assert counted(seen) == (2, 1, 30)
    nothing_leaks(seen)


def test_the_order_of_the_two_instrumentations_does_not_matter(uninstrumented, filled):
    ours, theirs = RedisCacheInstrumentor(), RedisInstrumentor()
    plain = vars(redis.Redis)["execute_command"]
    for first, second in ((ours, theirs), (theirs, ours)):
        for undo_first, undo_second in ((first, second), (second, first)):
            for one in (first, second):
                one.instrument(tracer_provider=uninstrumented.tracers, meter_provider=uninstrumented.meters)
            with redis.Redis.from_url(filled.url) as found:
                found.get(KEYS[0])
            assert attributes_of(uninstrumented)["cache.hit"] is True
            undo_first.uninstrument()
            undo_second.uninstrument()
            assert vars(redis.Redis)["execute_command"] is plain


def test_without_the_other_instrumentation_lookups_are_counted_all_the_same(uninstrumented, filled):
    RedisCacheInstrumentor().instrument(meter_provider=uninstrumented.meters)
    try:
        with (
            redis.Redis.from_url(filled.url) as found,
            uninstrumented.tracers.get_tracer("app").start_as_current_span("app"),
        ):
            found.get(KEYS[0])
            with found.pipeline() as pipeline:
                pipeline.get(MISSING)
                pipeline.execute()
    finally:
        RedisCacheInstrumentor().uninstrument()
    assert counted(uninstrumented) == (1, 1, 15)
    assert attributes_of(uninstrumented) == {}
    assert dict(uninstrumented.span().attributes) == {}  # the app's own span is left alone


def test_switched_off_or_suppressed_nothing_is_seen(uninstrumented, filled):
    RedisCacheInstrumentor().instrument(
        meter_provider=uninstrumented.meters, config=InstrumentSettings(redis_cache=False)
    )
    RedisCacheInstrumentor().uninstrument()
    RedisCacheInstrumentor().instrument(meter_provider=uninstrumented.meters)
    with suppress_instrumentation(), redis.Redis.from_url(filled.url) as found:
        found.get(KEYS[0])
    RedisCacheInstrumentor().uninstrument()
    with redis.Redis.from_url(filled.url) as found:
        found.get(KEYS[0])
    assert counted(uninstrumented) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_error_reaches_the_app_as_it_is_and_the_span_without_its_message(seen, filled, kind):
    async with client(filled.url, kind) as found:
        pipeline = found.pipeline()
        pipeline.hget(KEYS[0], WHO)  # no hash
        with pytest.raises(redis.ResponseError, match=WHO):  # redis-py quotes the command
            await awaited(pipeline.execute())
        with pytest.raises(redis.ResponseError, match=WHO):  # and Redis the arguments of one it does not know
            await awaited(found.execute_command("NO.SUCH", KEYS[0], VALUE))
        pipeline = found.pipeline()
        pipeline.hget(KEYS[0], WHO)
        pipeline.get(KEYS[0])
        wrong, right = await awaited(pipeline.execute(raise_on_error=False))
    assert isinstance(wrong, redis.ResponseError)
    assert right == VALUE.encode()
    assert counted(seen) == (1, 0, 15)  # an error is neither
    failed = [span for span in seen.exporter.get_finished_spans() if span.attributes.get("error.type")]
    assert [span.attributes["error.type"] for span in failed] == ["ResponseError"] * 2
    assert all(span.status.description == "ResponseError" for span in failed)
    assert all(span.events[0].attributes == {"exception.type": "ResponseError"} for span in failed)
    nothing_leaks(seen)


def test_a_connection_error_keeps_its_message(seen):
    port = free_port()
    with redis.Redis(port=port) as found, pytest.raises(redis.ConnectionError):
        found.get(KEYS[0])
    span = seen.span()
    assert str(port) in span.status.description
    assert counted(seen) == (0, 0, 0)
    nothing_leaks(seen)


def test_the_text_and_documents_of_a_search_stay_off_the_span(seen):
    with running("--rename-command", "LRANGE", "FT.SEARCH", "--rename-command", "RPUSH", "PUT") as server:
        with redis.Redis.from_url(server.url) as found:
            found.execute_command("PUT", "idx", 1, f"doc:{WHO}", VALUE)
            found.execute_command("FT.SEARCH", "idx", 0, -1)
        with redis.Redis.from_url(server.url) as found, pytest.raises(redis.ResponseError):
            found.execute_command("FT.SEARCH", "idx", f"@name:{WHO}")
    assert [span.name for span in seen.spans(2, "FT.SEARCH")] == ["FT.SEARCH"] * 2
    nothing_leaks(seen)


def test_a_command_written_as_one_text_leaves_no_key_in_the_name(seen, filled):
    with redis.Redis.from_url(filled.url) as found:
        assert found.execute_command(f"GET {KEYS[0]}") == VALUE.encode()
        found.execute_command("CONFIG GET", "maxmemory")
    assert [span.name for span in seen.spans(2)] == ["GET", "CONFIG GET"]
    nothing_leaks(seen)


async def test_many_tasks_and_threads_are_counted_exactly(seen, filled):
    def thread() -> None:
        with redis.Redis.from_url(filled.url) as found:
            for _ in range(20):
                found.get(KEYS[0])

    async with redis.asyncio.Redis.from_url(filled.url) as found:
        threads = [asyncio.to_thread(thread) for _ in range(5)]
        tasks = [found.mget(KEYS[0], MISSING) for _ in range(50)]
        await asyncio.gather(*threads, *tasks)
    assert counted(seen) == (150, 50, 150 * 15)


@pytest.mark.parametrize(
    ("key", "family"),
    [
        ("user:8231:profile", "user"),
        (b"user:8231:profile", "user"),
        ("session-data:x", "session-data"),
        ("v2:user:1", "v*"),
        ("user", "none"),
        ("jane.roe@example.com", "none"),
        ("jane.roe@example.com:profile", "*"),
        ("8231:profile", "*"),
        ("deadbeefcafe:profile", "*"),
        ("550e8400-e29b-41d4-a716-446655440000:profile", "*"),
        ("tool:web_search:q:hello", "tool:web_search"),
        ("tool:web_search", "tool"),
        ("", "none"),
        (":", "none"),
        (":x:y", "none"),
        (b"\xff\xfe:x", "*"),
        (7, "none"),
        (None, "none"),
        ("x" * 1000 + ":y", "none"),
    ],
)
def test_a_family_holds_nothing_of_a_key_but_its_first_word(key, family):
    assert Families().of(key) == family


def test_families_are_bounded_and_the_rest_is_other():
    families = Families()
    names = {families.of(f"{chr(97 + n // 26)}{chr(97 + n % 26)}word:{n}") for n in range(500)}
    assert len(names) == LIMIT + 1
    assert "other" in names
    assert Families(parts=2).of("app:user:8231") == "app:user"
    assert Families(parts=0).of("app:user:8231") == "none"
