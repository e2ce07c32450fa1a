"""The cache endpoints, over HTTP: values redacted, for as long as was asked, in memory and in a real Redis."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import redis
from pydantic import SecretStr

from otel_telemetry.cache.config import CacheSettings
from otel_telemetry.cache.key_value import KeyValueCache
from otel_telemetry.cache.parts import Parts
from otel_telemetry.gateway.receive.rest import Rest
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor


@pytest.fixture(name="rest_on")
def rest_on_fixture():
    rules = Redactor(RedactionSettings())

    def rest_on(**settings: Any) -> Rest:
        return Rest(KeyValueCache(Parts(CacheSettings(**settings), rules, secret=b"0123456789abcdef")))

    return rest_on


@pytest.fixture(name="calling")
def calling_fixture(serving, rest_on):
    """Returns a context manager around a client of a gateway whose cache has these settings."""

    @asynccontextmanager
    async def calling(api_keys: tuple[str, ...] = (), **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
        async with (
            serving(rest=rest_on(**settings), api_keys=api_keys) as running,
            httpx.AsyncClient(base_url=running.http) as client,
        ):
            yield client

    return calling


@pytest.fixture(name="client", params=["memory", "redis"])
async def client_fixture(request, calling):
    url = {"url": request.getfixturevalue("redis_url")} if request.param == "redis" else {}
    async with calling(**url) as client:
        yield client


@pytest.fixture(name="redis_url")
def redis_url_fixture(redis_server) -> SecretStr:
    return SecretStr(redis_server.url)


async def test_what_is_set_is_found_until_it_is_deleted(client):
    before = datetime.now(UTC)
    given = {"key": "tool:search:q:tent", "data": {"results": [1, {"a": None}], "n": 2.5}, "ttl": 3600}
    answer = (await client.post("/cache/set", json=given)).json()
    assert (answer["status"], answer["key"]) == ("cached", given["key"])
    expires = datetime.fromisoformat(answer["expires_at"])
    assert timedelta(seconds=3590) < expires - before <= timedelta(seconds=3610)
    found = (await client.get("/cache/get", params={"key": given["key"]})).json()
    assert found["hit"] is True
    assert (found["data"]["results"], found["data"]["n"]) == ([1, {"a": None}], 2.5)
    assert 3590 <= found["data"]["ttl_remaining"] <= 3600
    assert abs(datetime.fromisoformat(found["data"]["timestamp"]) - before) < timedelta(minutes=1)
    deleted = await client.request("DELETE", "/cache", params={"key": given["key"]})
    assert deleted.json() == {"deleted": True}
    assert (await client.get("/cache/get", params={"key": given["key"]})).json() == {"hit": False}
    assert (await client.request("DELETE", "/cache", params={"key": given["key"]})).json() == {"deleted": False}


async def test_values_are_redacted_before_they_are_kept(client):
    await client.post("/cache/set", json={"key": "k", "data": {"mail": "bob@example.com", "password": "hunter2!"}})
    found = (await client.get("/cache/get", params={"key": "k"})).json()["data"]
    assert (found["mail"], found["password"]) == ("[REDACTED_EMAIL]", "[REDACTED_PASSWORD]")


async def test_a_value_goes_when_its_time_is_over(client):
    await client.post("/cache/set", json={"key": "short", "data": 1, "ttl": 0.2})
    assert (await client.get("/cache/get", params={"key": "short"})).json()["data"]["value"] == 1
    await asyncio.sleep(0.4)
    assert (await client.get("/cache/get", params={"key": "short"})).json() == {"hit": False}


@pytest.mark.parametrize("data", [None, "text", 17, [1, 2], True])
async def test_what_is_no_object_comes_back_as_value(client, data):
    await client.post("/cache/set", json={"key": "plain", "data": data})
    assert (await client.get("/cache/get", params={"key": "plain"})).json()["data"]["value"] == data


async def test_two_people_s_keys_never_meet_though_neither_is_kept(client):
    for name in ("anna", "bob"):
        await client.post("/cache/set", json={"key": f"profile:{name}@example.com", "data": {"of": name}})
    for name in ("anna", "bob"):
        found = await client.get("/cache/get", params={"key": f"profile:{name}@example.com"})
        assert found.json()["data"]["of"] == name


async def test_no_key_that_holds_an_address_reaches_redis(calling, redis_server):
    async with calling(url=SecretStr(redis_server.url)) as client:
        await client.post("/cache/set", json={"key": "profile:carol@example.com", "data": 1})
    with redis.Redis.from_url(redis_server.url) as connection:
        assert not [key for key in connection.keys("*") if b"carol" in key]


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("GET", "/cache/get", None, "key"),
        ("GET", "/cache/get?key=", None, "key"),
        ("DELETE", "/cache", None, "key"),
        ("POST", "/cache/set", {"data": 1}, "key"),
        ("POST", "/cache/set", {"key": "", "data": 1}, "key"),
        ("POST", "/cache/set", {"key": "k"}, "data"),
        ("POST", "/cache/set", {"key": "k", "data": 1, "ttl": 0}, "ttl"),
        ("POST", "/cache/set", {"key": "k", "data": 1, "ttl": "soon"}, "ttl"),
        ("POST", "/cache/set", {"key": ["k"], "data": 1}, "key"),
    ],
)
async def test_an_error_names_the_field(calling, method, path, body, field):
    async with calling() as client:
        answer = await client.request(method, path, json=body)
        assert answer.status_code == 400
        assert answer.json()["details"][0]["fieldViolations"][0]["field"] == field


async def test_where_redis_is_away_a_look_up_is_a_miss_and_a_value_that_is_not_kept_is_told(calling):
    async with calling(url=SecretStr("redis://127.0.0.1:1/0")) as client:
        assert (await client.get("/cache/get", params={"key": "k"})).json() == {"hit": False}
        answer = await client.post("/cache/set", json={"key": "k", "data": 1})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


async def test_a_value_that_is_too_large_is_not_kept_and_told(calling):
    async with calling(max_value_bytes=100) as client:
        answer = await client.post("/cache/set", json={"key": "k", "data": "x" * 1_000})
        assert answer.status_code == 413
        assert "retry-after" not in answer.headers
        assert "cache.max_value_bytes" in answer.json()["message"]
        assert answer.json()["details"][0]["fieldViolations"][0]["field"] == "data"


async def test_the_cache_needs_a_key_where_the_gateway_has_keys(calling):
    async with calling(api_keys=("k" * 32,)) as client:
        assert (await client.get("/cache/get", params={"key": "k"})).status_code == 401
        assert (await client.post("/cache/set", json={"key": "k", "data": 1})).status_code == 401
        assert (await client.request("DELETE", "/cache", params={"key": "k"})).status_code == 401
        allowed = {"x-api-key": "k" * 32}
        assert (await client.get("/cache/get", params={"key": "k"}, headers=allowed)).status_code == 200


async def test_health_tells_how_the_cache_is_and_a_cache_that_is_away_stops_nothing(calling, redis_server):
    async def health(**settings: Any) -> Any:
        async with calling(**settings) as client:
            return await client.get("/health")

    memory, redis_there = await health(), await health(url=SecretStr(redis_server.url))
    away = await health(url=SecretStr("redis://127.0.0.1:1/0"))
    assert memory.json()["parts"]["cache"] == {"status": "ok", "kind": "memory"}
    assert redis_there.json()["parts"]["cache"] == {"status": "ok", "kind": "redis"}
    assert away.json()["parts"]["cache"] == {"status": "away", "kind": "redis"}
    assert [answer.json()["status"] for answer in (memory, redis_there, away)] == ["ok", "ok", "degraded"]
    assert {answer.status_code for answer in (memory, redis_there, away)} == {200}


async def test_what_an_older_service_left_in_redis_is_a_hit_for_its_time(calling, redis_url, redis_server):
    left = redis.Redis.from_url(redis_server.url)
    value = {"answer": "ask jane@example.com", "n": 1, "timestamp": "2025-09-03T10:30:00Z"}
    for key in ("tool:search:q:tent", "of:bob@example.com"):
        left.set(key, json.dumps(value), ex=3_600)
    left.set("for-good", "[1, 2]")
    left.set("cut", b'{"answer": "as', ex=60)
    async with calling(url=redis_url) as client:
        for key in ("tool:search:q:tent", "of:bob@example.com"):
            found = (await client.get("/cache/get", params={"key": key})).json()
            data = found["data"]
            assert (found["hit"], data["answer"], data["n"]) == (True, "ask [REDACTED_EMAIL]", 1)
            assert data["timestamp"] == value["timestamp"]
            assert 3_500 < data["ttl_remaining"] <= 3_600
            assert (await client.request("DELETE", "/cache", params={"key": key})).json() == {"deleted": True}
            assert (await client.get("/cache/get", params={"key": key})).json() == {"hit": False}
        assert (await client.get("/cache/get", params={"key": "for-good"})).json()["data"]["value"] == [1, 2]
        assert (await client.get("/cache/get", params={"key": "cut"})).json() == {"hit": False}
    left.close()
