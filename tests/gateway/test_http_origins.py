"""Web pages: strangers are kept out of a gateway without keys, and those that are listed may send."""

import json
import logging
from typing import Any

import grpc
import httpx
import pytest
from pydantic import SecretStr

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.receive.auth import Keys
from otel_telemetry.gateway.receive.origins import Origins
from tests.gateway.raw_http import ask, head

APP = "https://app.example.com"
EVIL = "http://evil.example"
PLAIN = {"content-type": "text/plain;charset=UTF-8"}
JSON = {"content-type": "application/json"}
SPANS = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "ab" * 16, "spanId": "cd" * 8}]}]}]})
BODIES = {
    "/log": '{"event": "policy_violation", "payload": {"n": 1}}',
    "/feedback": '{"verdict": "down"}',
    "/telemetry": '{"type": "page_view"}',
    "/events": '{"type": "approval", "run_id": "r"}',
    "/v1/event": '{"type": "approval", "run_id": "r"}',
    "/cache/set": '{"key": "k", "data": "poison"}',
    "/v1/traces": SPANS,
}
FOR_BROWSERS = ("/feedback", "/telemetry", "/v1/traces")
#: What browsers say of a page of another site: a form, a script without and with Origin, an image, a rebound name.
FOREIGN: tuple[dict[str, str], ...] = (
    {"origin": EVIL, "sec-fetch-site": "cross-site"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:3000"},
    {"origin": "http://localhost"},
    {"origin": APP.upper()},
    {"origin": f"{APP}.evil.example"},
    {"origin": f"{APP}:444"},
    {"origin": APP.replace("https", "http")},
    {"origin": ""},
    {"origin": "file://"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
)


async def post(client: httpx.AsyncClient, path: str, headers: dict[str, str]) -> httpx.Response:
    return await client.post(path, content=BODIES[path.partition("?")[0]], headers=headers)


# --- without keys ---------------------------------------------------------------------------------------------------
async def test_a_page_of_another_origin_neither_writes_nor_reads(running: Any) -> None:
    async with httpx.AsyncClient(base_url=running.http) as client:
        for headers in FOREIGN:
            for path in BODIES:
                if path != "/cache/set":
                    assert (await post(client, path, PLAIN | headers)).status_code == 403, (path, headers)
            for path in ("/health", "/metrics", "/cache/get?key=k", "/api/summary", "/ui/api/summary"):
                answer = await client.get(path, headers=headers)
                assert answer.status_code == 403, (path, headers)
                assert "access-control-allow-origin" not in answer.headers
    assert running.spooled() == []


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:4318",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "localhost@evil.example",
        "evil.example#localhost",
        "2130706433.example",
        "0.0.0.0",
        "192.168.1.7:4318",
        "[2001:db8::1]:80",
    ],
)
async def test_a_name_that_is_not_of_this_machine_is_misdirected(running: Any, host: str) -> None:
    refused = 400 if set("@#") & set(host) else 421  # what stands in no Host is no HTTP
    same = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    async with httpx.AsyncClient(base_url=running.http) as client:
        for path in ("/health", "/metrics", "/docs", "/openapi.json", "/nowhere"):
            assert (await client.get(path, headers={"host": host})).status_code == refused
        assert (await client.delete("/cache?key=k", headers=same)).status_code == refused
        for path in ("/log", "/v1/traces"):
            assert (await post(client, path, JSON | same)).status_code == refused
    absolute = head("GET", f"http://{host.partition('@')[2] or host}/health", "Connection: close", host="localhost")
    assert await ask(running.gateway.http_port, absolute) in ([421], [400])
    assert running.spooled() == []


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "localhost.", "a.localhost:99", "127.0.0.1", "127.8.9.1:7", "[::1]:4318"]
)
async def test_names_of_this_machine_and_its_own_pages_are_served(running: Any, host: str) -> None:
    async with httpx.AsyncClient(base_url=running.http, headers={"host": host}) as client:
        assert (await client.get("/health")).status_code == 200
        own = {"origin": f"http://{host}", "sec-fetch-site": "same-origin"}
        if host == host.lower():
            assert (await post(client, "/log", JSON | own)).status_code == 200
        assert (await client.get("/health", headers={"sec-fetch-site": "none"})).status_code == 200
        assert (await client.get("/docs", headers={"sec-fetch-site": "cross-site"})).status_code == 200


async def test_a_name_that_is_listed_is_served(serving: Any) -> None:
    async with serving(allowed_hosts=("telemetry.internal",)) as running, httpx.AsyncClient() as client:
        url = f"{running.http}/health"
        assert (await client.get(url, headers={"host": "telemetry.internal"})).status_code == 200
        assert (await client.get(url, headers={"host": "telemetry.internal.example"})).status_code == 421


# --- listed origins -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", FOR_BROWSERS)
async def test_a_page_that_is_listed_may_ask_and_send_text_and_json(serving: Any, path: str) -> None:
    async with (
        serving(allowed_origins=(APP, "http://localhost:3000")) as running,
        httpx.AsyncClient(base_url=running.http) as client,
    ):
        asks = {
            "origin": APP,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type,x-api-key,traceparent",
            "access-control-request-private-network": "true",
        }
        preflight = await client.options(path, headers=asks)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == APP
        assert preflight.headers["access-control-allow-credentials"] == "true"
        assert preflight.headers["access-control-allow-methods"] == "POST"
        assert preflight.headers["access-control-allow-headers"] == "content-type,x-api-key,traceparent"
        assert preflight.headers["access-control-allow-private-network"] == "true"
        assert preflight.headers["vary"] == "Origin"
        for kind in (PLAIN, JSON):
            cookie = {"cookie": "session=secret", "sec-fetch-site": "cross-site"}
            answer = await post(client, path, kind | cookie | {"origin": APP})
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == APP
            assert answer.headers["access-control-allow-credentials"] == "true"
            assert "set-cookie" not in answer.headers
        wrong = await client.post(path, content="{", headers=JSON | {"origin": APP})
        assert (wrong.status_code, wrong.headers["access-control-allow-origin"]) == (400, APP)
        for headers in FOREIGN:
            if headers.get("origin") == "http://localhost:3000":
                continue
            refused = await client.options(path, headers={**asks, "origin": EVIL, **headers})
            assert refused.status_code in {403, 405}
            assert "access-control-allow-origin" not in refused.headers
        assert len(running.spooled()) == 2


async def test_a_listed_page_reaches_nothing_else(serving: Any) -> None:
    async with serving(allowed_origins=(APP,)) as running, httpx.AsyncClient(base_url=running.http) as client:
        for path in ("/log", "/events", "/v1/event"):
            assert (await post(client, path, JSON | {"origin": APP})).status_code == 403
        for path in ("/cache/get?key=k", "/health", "/metrics"):
            assert (await client.get(path, headers={"origin": APP})).status_code == 403
        asks = {"origin": APP, "access-control-request-method": "DELETE"}
        assert (await client.options("/cache", headers=asks)).status_code == 403
        assert (await client.options("/telemetry", headers=asks)).status_code == 405
        hostile = asks | {"access-control-request-method": "POST", "access-control-request-headers": "a b;c" * 10}
        assert "access-control-allow-headers" not in (await client.options("/telemetry", headers=hostile)).headers
        # without a listed origin text is no OTLP
        assert (await client.post("/v1/traces", content=SPANS, headers=PLAIN)).status_code == 415


@pytest.mark.parametrize("bad", ["*", "null", "app.example.com", f"{APP}/", "https://App.example.com", "https://*.a.b"])
def test_an_origin_that_no_browser_sends_stops_start_up(bad: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Origins(GatewaySettings(allowed_origins=(bad,)))
    assert caught.value.key == "gateway.allowed_origins"


# --- public keys ----------------------------------------------------------------------------------------------------
KEYS = ("public:pub", "ingest:ing", "read:red", "all")


async def test_a_public_key_is_good_for_what_browsers_send_and_nothing_else(serving: Any) -> None:
    async with serving(api_keys=KEYS, allowed_origins=(APP,)) as running:
        async with httpx.AsyncClient(base_url=running.http) as client:
            for path in FOR_BROWSERS:
                origin = {"origin": APP}
                assert (await post(client, f"{path}?api_key=pub", JSON | origin)).status_code == 200
                assert (await post(client, path, JSON | origin | {"x-api-key": "pub"})).status_code == 200
                assert (await post(client, f"{path}?api_key=pub", JSON)).status_code == 200
                assert (await post(client, f"{path}?api_key=pub", PLAIN | {"origin": EVIL})).status_code == 403
                for key in ("ing", "all", "red", "wrong", ""):
                    refused = await post(client, f"{path}?api_key={key}", JSON | origin)
                    assert refused.status_code == 401, key
                    assert refused.headers["www-authenticate"].startswith("Bearer")
                    assert refused.headers["access-control-allow-origin"] == APP
                    assert key not in refused.text or not key
            for path in ("/log", "/events", "/cache/set"):
                if path != "/cache/set":
                    assert (await post(client, f"{path}?api_key=pub", JSON)).status_code == 401
                    assert (await post(client, path, JSON | {"x-api-key": "pub"})).status_code == 403
            assert (await client.get("/metrics?api_key=pub")).status_code == 401
            assert (await client.get("/metrics", headers={"x-api-key": "pub"})).status_code == 403
            assert "parts" not in (await client.get("/health?api_key=pub")).json()
            # who has a key that is no public one is no web page, whatever it says
            assert (await post(client, "/log", JSON | {"origin": EVIL, "x-api-key": "all"})).status_code == 200
        async with grpc.aio.insecure_channel(running.grpc) as channel:
            export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export", bytes, bytes)
            with pytest.raises(grpc.aio.AioRpcError) as refused_call:
                await export(b"", metadata=(("x-api-key", "pub"),))
            assert refused_call.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_key_in_the_query_is_in_no_log(serving: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(api_keys=KEYS) as running, httpx.AsyncClient(base_url=running.http) as client:
        logging.getLogger("httpx").setLevel(logging.WARNING)
        for query in ("api_key=pub", "api_key=wrong", "api_key=pub&a=%zz"):
            await post(client, f"/telemetry?{query}", JSON)
        await client.post("/telemetry?api_key=pub", content=b"{", headers=JSON)
        await ask(running.gateway.http_port, b"POST /telemetry?api_key=pub HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    ours = [one.getMessage() for one in caplog.records if not one.name.startswith(("httpcore", "httpx", "asyncio"))]
    assert not [line for line in ours if "api_key" in line]


def test_a_public_key_has_no_other_role() -> None:
    with pytest.raises(ConfigurationError, match="public"):
        Keys((SecretStr("public+ingest:k"),))


# --- open endpoints -------------------------------------------------------------------------------------------------
async def test_an_endpoint_is_opened_one_by_one(serving: Any) -> None:
    opened = ("/events", "/metrics")
    async with (
        serving(api_keys=("all",), open_endpoints=opened, allowed_origins=(APP,), host="0.0.0.0") as running,
        httpx.AsyncClient(base_url=running.http) as client,
    ):
        for path in ("/events", "/v1/event"):
            assert (await post(client, path, JSON)).status_code == 202
            answer = await post(client, path, JSON | {"origin": APP})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (202, APP)
            assert (await post(client, path, PLAIN | {"origin": EVIL})).status_code == 403
            asks = {"origin": APP, "access-control-request-method": "POST"}
            assert (await client.options(path, headers=asks)).status_code == 204
        assert (await client.get("/metrics", headers={"host": "gateway.example"})).status_code == 200
        for path in ("/log", "/telemetry", "/v1/traces"):
            assert (await post(client, path, JSON)).status_code == 401
        assert (await client.get("/cache/get?key=k")).status_code in {401, 404}


def test_only_endpoints_that_may_be_opened_can_be() -> None:
    for bad in ("/cache/get", "/health", "*"):
        with pytest.raises(ValueError, match="open_endpoints"):
            GatewaySettings(open_endpoints=(bad,))  # type: ignore[arg-type] # that is what is tried
