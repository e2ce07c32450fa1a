"""Every route of every HTTP server of ours: no success for a body that was not read, and no body run as a request.

The routes are those of the applications that serve, so that one added later is among them.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from otel_telemetry.cache.config import CacheSettings
from otel_telemetry.cache.key_value import KeyValueCache
from otel_telemetry.cache.parts import Parts
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.store.store import open_store
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.receive.rest import Clients, Rest
from otel_telemetry.gateway.serve import manual
from otel_telemetry.gateway.serve.lifecycle import Process
from otel_telemetry.gateway.serve.redactor import RedactorProcess
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.ui.access import Access
from otel_telemetry.ui.app import make_page
from otel_telemetry.ui.config import UiSettings
from otel_telemetry.ui.reading import Reading
from tests.gateway.conftest import Running
from tests.gateway.raw_http import answers, head, post, talk

#: A body that does harm where it is run: nothing else that is sent here is valid.
BODY = head("DELETE", "/cache?key=kept") + post(
    "/log", b'{"event": "smuggled", "payload": {}}', content_type="application/json"
)
ALL = "all of it"  # pages, which take long to render, are asked in this way only
ASKS = {
    "h2c": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
    "websocket": ("Connection: keep-alive, upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    "expect": ("Expect: 100-continue",),
    "nothing": (),
    ALL: ("Connection: Upgrade", "Upgrade: h2c", "Expect: 100-continue"),
}
TYPES = ("application/x-protobuf", "application/json", "application/x-www-form-urlencoded")
AT_ONCE = 8
SUCCESS = range(200, 400)


class Target(NamedTuple):
    """A route, where it is served."""

    port: int
    method: str
    path: str


def routes_of(*apps: Any) -> list[tuple[str, str]]:
    """Return the (method, path) of the applications' routes, and one that is none."""
    found = {("POST", "/nowhere")}
    for app in apps:
        assert isinstance(app, Starlette)
        for route in app.routes:
            assert isinstance(route, Route)
            path = route.path.replace("{", "").replace("}", "").replace(":path", "")
            found |= {(method, path) for method in route.methods or ()}
    return sorted(found)


def app_of(process: Process) -> Any:
    assert process._targets
    assert process._targets.http
    return process._targets.http.config.app


@pytest.fixture(name="gateway")
async def gateway_fixture(serving: Any, tmp_path: Path) -> AsyncIterator[tuple[Running, list[Target]]]:
    """A gateway with all that it can serve, which asks for no keys."""
    reading = Reading(f"sqlite:///{tmp_path / 'rows.db'}")
    open_store(RequestLogSettings(url=f"sqlite:///{tmp_path / 'rows.db'}")).close()
    cache = KeyValueCache(Parts(CacheSettings(), Redactor(RedactionSettings()), secret=b"0123456789abcdef"))
    pages = []

    def page(keys: Any, insight: Any) -> Any:
        pages.append(make_page(reading, RedactionSettings(), UiSettings(), Access(keys, b"secret"), insight))
        return pages[0]

    async with serving(rest=Rest(cache, Clients(per_minute=0)), page=page) as running:
        found = routes_of(app_of(running.gateway), pages[0]._app)
        yield running, [Target(running.gateway.http_port, *one) for one in found]


@asynccontextmanager
async def redacting(redactor: OtlpRedactor) -> AsyncIterator[list[Target]]:
    """A redactor on a port."""
    process = RedactorProcess(GatewaySettings(role="redact", workers=0, http_port=0, socket="-"), redactor)
    await process.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(process.stop, 5)
        yield [Target(process.http_port, *one) for one in routes_of(app_of(process))]


def request_of(target: Target, number: int, asks: Sequence[str], length: int) -> bytes:
    """Return the head of a request to a route, with a body of so many bytes."""
    same_origin = "Sec-Fetch-Site: same-origin"  # as the page's forms have
    kind = f"Content-Type: {TYPES[number % len(TYPES)]}"
    return head(target.method, target.path, kind, f"Content-Length: {length}", same_origin, *asks)


async def of_each(targets: Sequence[Target], conversation: Any) -> None:
    """Have a conversation about each route in each way, some of them at one time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(target: Target, number: int, asks: Sequence[str]) -> None:
        async with gate:
            await conversation(target, number, asks)

    async with asyncio.TaskGroup() as group:
        for target in targets:
            for number, (way, asks) in enumerate(ASKS.items()):
                if way == ALL or not target.path.startswith(("/ui/", "/api/")):
                    group.create_task(one(target, number, asks))


async def body_apart(target: Target, number: int, asks: Sequence[str]) -> None:
    """Send the body in a packet of its own, then another request: there are two answers, or the connection ends."""
    begin = request_of(target, number, asks, len(BODY))
    received = await talk(target.port, begin, 0.03, BODY, head("GET", "/health"), end=True)
    got = answers(received, (target.method,))
    what = (*target, *asks, [one.status for one in got])
    assert 1 <= len(got) <= 2, what
    if target.method == "POST" and not target.path.startswith("/ui/"):  # forms there may have any text
        assert got[0].status >= 400, what
    if len(got) == 1:
        assert got[0].headers.get("connection") == "close", what
    else:
        assert got[1].status == 200, what
        assert b'"status"' in got[1].body, what


async def body_cut(target: Target, number: int, asks: Sequence[str]) -> None:
    """End before the body does: nothing that came is a success."""
    begin = request_of(target, number, asks, len(BODY) + 7)
    got = answers(await talk(target.port, begin, 0.03, BODY, end=True), (target.method,))
    assert not [one.status for one in got if one.status in SUCCESS], (*target, *asks)


@pytest.mark.parametrize("conversation", [body_apart, body_cut])
async def test_no_route_of_a_gateway_runs_a_body_or_answers_for_one_it_has_not_read(
    gateway: tuple[Running, list[Target]], conversation: Any
) -> None:
    running, targets = gateway
    set_first = post("/cache/set", b'{"key": "kept", "data": {"n": 1}, "ttl": 600}', content_type="application/json")
    port = running.gateway.http_port
    assert [one.status for one in answers(await talk(port, set_first, end=True))] == [200]
    assert {path for _, path in {one[1:] for one in targets}} >= {
        path.replace("{", "").replace("}", "") for path in manual.document()["paths"]
    }
    await of_each(targets, conversation)
    (kept,) = answers(await talk(port, head("GET", "/cache/get?key=kept"), end=True))
    assert b'"hit":true' in kept.body
    assert not [one for one in running.spooled() if b"smuggled" in one.body]


@pytest.mark.parametrize("conversation", [body_apart, body_cut])
async def test_no_route_of_a_redactor_runs_a_body_or_answers_for_one_it_has_not_read(
    redactor: OtlpRedactor, conversation: Any
) -> None:
    async with redacting(redactor) as targets:
        assert {one.path for one in targets} >= {"/v1/redact/traces", "/health", "/metrics"}
        await of_each(targets, conversation)
