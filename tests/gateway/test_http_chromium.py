"""Pages of other origins in a real browser: what Chromium lets them do with the gateway."""

import asyncio
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from otel_telemetry.gateway.receive.rest import Clients, Rest
from tests.backends import programs

PAGE = """<!doctype html><meta charset=utf-8><body><script>
const span = {traceId: "ab".repeat(16), spanId: "cd".repeat(8), name: "page"};
const spans = {resourceSpans: [{scopeSpans: [{spans: [span]}]}]};
const seen = type => JSON.stringify({type, sid: "s-1"});
const post = (path, body, type, more) =>
  fetch(GATEWAY + path, {method: "POST", body, headers: {"content-type": type}, ...more})
  .then(async answer => `${answer.status} ${await answer.text()}`, () => "blocked");
const json = body => new Blob([body], {type: "application/json"});
async function run() {
  const found = {};
  found.cookie = document.cookie = "session=private";
  found.text = await post("/telemetry" + KEY, seen("fetch_text"), "text/plain");
  found.json = await post("/telemetry" + KEY, seen("fetch_json"), "application/json", {credentials: "include"});
  found.feedback = await post("/feedback" + KEY, JSON.stringify({verdict: "up"}), "application/json");
  found.otlp = await post("/v1/traces" + KEY, JSON.stringify(spans), "application/json");
  found.log = await post("/log", JSON.stringify({event: "stranger", payload: {}}), "text/plain");
  found.simple = await post("/log", JSON.stringify({event: "stranger", payload: {}}), "text/plain", {mode: "no-cors"});
  found.health = await fetch(GATEWAY + "/health").then(answer => answer.text(), () => "blocked");
  found.beacons = [navigator.sendBeacon(GATEWAY + "/telemetry" + KEY, seen("beacon_text")),
    navigator.sendBeacon(GATEWAY + "/telemetry" + KEY, json(seen("beacon_json"))),
    navigator.sendBeacon(GATEWAY + "/v1/traces" + KEY, json(JSON.stringify(spans)))];
  await new Promise(done => setTimeout(done, 1500));
  await fetch("/found", {method: "POST", body: JSON.stringify(found)});
}
run();
</script>"""


class Site(BaseHTTPRequestHandler):
    """Serves the page, and takes what it found."""

    page = b""
    found: dict[str, Any]
    done: threading.Event

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(self.page)

    def do_POST(self) -> None:
        self.found.update(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(204)
        self.end_headers()
        self.done.set()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(name="site")
def site_fixture() -> Iterator[tuple[ThreadingHTTPServer, type[Site]]]:
    kind = type("TheSite", (Site,), {"found": {}, "done": threading.Event()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server, kind
    server.shutdown()
    server.server_close()


async def visit(site: Any, folder: Path, gateway: int, key: str) -> dict[str, Any]:
    """Open the page in Chromium and return what it found."""
    chromium = programs.program("chromium", "chromium")
    server, kind = site
    begin = f"<script>const GATEWAY = 'http://127.0.0.1:{gateway}', KEY = '{key}';</script>"
    kind.page = (begin + PAGE).encode()
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={folder}")
    browser = await asyncio.create_subprocess_exec(
        str(chromium), *options, f"http://localhost:{server.server_port}/",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert await asyncio.to_thread(kind.done.wait, 60), "the page sent nothing"
    finally:
        browser.terminate()
        await browser.wait()
    return dict(kind.found)


def stored(running: Any) -> set[str]:
    """Return which of the page's records are spooled."""
    names = ("fetch_text", "fetch_json", "beacon_text", "beacon_json", "feedback", "page", "stranger")
    everything = b"".join(batch.body for batch in running.spooled())
    return {name for name in names if name.encode() in everything}


@pytest.mark.parametrize("key", ["", "?api_key=pub"], ids=["no keys", "a public key"])
async def test_a_listed_page_sends_by_fetch_and_beacon_and_reaches_nothing_else(
    serving: Any, site: Any, tmp_path: Path, key: str
) -> None:
    origin = f"http://localhost:{site[0].server_port}"
    keys = ("public:pub", "all") if key else ()
    make = partial(serving, rest=Rest(clients=Clients(0)), api_keys=keys, allowed_origins=(origin,))
    async with make() as running:
        found = await visit(site, tmp_path / "browser", running.gateway.http_port, key)
        assert found["text"] == found["json"] == '200 {"ok":true}'
        assert found["feedback"].startswith('200 {"ok":true')
        assert found["otlp"] == "200 {}"
        assert found["beacons"] == [True, True, True]
        assert (found["log"], found["health"]) == ("blocked", "blocked")
        assert stored(running) == {"fetch_text", "fetch_json", "beacon_text", "beacon_json", "feedback", "page"}
        assert b"private" not in b"".join(batch.body for batch in running.spooled())


async def test_a_page_that_is_not_listed_writes_and_reads_nothing(serving: Any, site: Any, tmp_path: Path) -> None:
    async with serving(allowed_origins=("http://localhost:1",)) as running:
        found = await visit(site, tmp_path / "browser", running.gateway.http_port, "")
        for way in ("text", "json", "feedback", "otlp", "log", "health"):
            assert found[way] == "blocked", way
        assert running.spooled() == []
