"""What is stored is text and nothing else, strangers stay outside, and errors are words."""

import re
import sqlite3
from html.parser import HTMLParser
from pathlib import Path

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.ui.app import make_app
from otel_telemetry.ui.reading import Reading
from tests.ui.conftest import NOW, call, fill, request, serve

HOSTILE = (
    "<script>planted()</script>",
    '"><img src=x onerror=planted()>',
    "' onmouseover='planted()",
    "javascript:planted()",
    "{{ planted() }}",
    "</pre></title></textarea><svg onload=planted()>",
    "=cmd|'/c planted'!A1",
    "\u202eplanted\x1b[31m",
)
_TEXT = [name for name, column in schema.request_log.c.items() if type(column.type) is sa.Text]
_CALL_TEXT = [name for name, column in schema.llm_call.c.items() if type(column.type) is sa.Text]
_IDS = {"id", "trace_id", "span_id", "request_id", "cost_source"}


class _Tags(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        links = [value for name, value in attrs if name in {"href", "src", "action"}]
        if any(name.startswith("on") or name == "style" for name in names):
            self.found.append(f"{tag} {names}")
        if tag in {"img", "iframe", "style"} and "planted" in str(attrs):
            self.found.append(tag)
        if (tag == "script" and "src" not in names) or any(
            not str(link).startswith(("/ui/", "?", "#")) for link in links
        ):
            self.found.append(f"{tag} {links}")


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_stored_becomes_markup(tmp_path: Path, text: str):
    url = f"sqlite:///{tmp_path / 'rows.db'}"
    row = {name: text for name in _TEXT if name not in _IDS}
    json = {"stage_ms": {text: 5.0}, "meta": {text: text}, "models": {text: text}, "topk": [text]}
    own = {name: text for name in _CALL_TEXT if name not in _IDS}
    messages = {"chat_request": [{text: text}], "chat_response": text, "meta": {"stage": text, "unpriced": text}}
    fill(url, [request(1, **row, **json), request(2, id=text)], [call(1, **own, **messages)])
    with serve(url) as client:
        pages = ["/ui/", "/ui/requests", f"/ui/requests/{request(1).id}"]
        for address in pages:
            answer = client.get(address)
            assert answer.status_code == 200
            tags = _Tags()
            tags.feed(answer.text)
            assert not tags.found, (address, tags.found)
            assert "\u202e" not in answer.text
            assert "\x1b" not in answer.text
        cells = client.get("/ui/requests.csv").text
        assert not re.search(r'(^|,)"?=cmd', cells, re.MULTILINE)
        tried = client.post("/ui/privacy", data={"text": text, "key": text}, headers={"sec-fetch-site": "same-origin"})
        tags = _Tags()
        tags.feed(tried.text)
        assert not tags.found
        echoed = client.get("/ui/requests", params={"route": text})
        tags = _Tags()
        tags.feed(echoed.text)
        assert not tags.found


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("colour=red", "there is no filter"),
        ("range=3y", "range="),
        ("range=1h&since=2026-11-01", "either range"),
        ("since=yesterday", "write a date"),
        ("since=2026-11-03&until=2026-11-01", "before until"),
        ("tz=Mars/Olympus", "name a zone"),
        ("tz=../../etc/passwd", "name a zone"),
        ("min_ms=fast", "write a number"),
        ("min_ms=NaN", "write a number"),
        ("min_ms=5&max_ms=4", "no more than max_ms"),
        ("outcome=fine", "choose one of"),
        ("sort=colour", "choose one of"),
        ("after=time~never~x", "first page"),
        ("after=cost~1~x", "first page"),
        ("after=cost~1e999999~x&sort=cost", "first page"),
        ("after=latency~nan~x&sort=latency", "first page"),
        ("route=a&route=b", "give route once"),
        ("absent=query_text", "choose one of"),
        ("route=%00", "no stored value"),
    ],
)
@pytest.mark.parametrize("path", ["/ui/", "/ui/requests", "/ui/api/requests", "/ui/requests.csv"])
def test_a_bad_address_is_told_in_words(client, path: str, query: str, problem: str):
    answer = client.get(f"{path}?{query}")
    assert answer.status_code == 400
    assert problem in answer.text
    assert "Traceback" not in answer.text


def test_what_is_gone_is_not_found(client):
    for path in ("/ui/requests/0123456789", "/ui/api/requests/0123456789", "/ui/nothing", "/ui/assets/ui.css"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "next" in answer.text.lower()


def test_every_answer_has_the_headers(client):
    for path in ("/ui/", "/ui/nothing", "/ui/requests?range=x", "/ui/api/summary", "/ui/requests.csv"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
    style = re.search(r'href="(/ui/assets/ui\.[0-9a-f]{12}\.css)"', client.get("/ui/").text)
    assert style
    assert "immutable" in client.get(style[1]).headers["cache-control"]


def test_other_names_and_other_pages_are_refused(client):
    assert client.get("/ui/", headers={"host": "rebound.example"}).status_code == 421
    assert client.get("/ui/", headers={"host": "localhost:4320"}).status_code == 200
    foreign: tuple[dict[str, str], ...] = {"sec-fetch-site": "cross-site"}, {"origin": "http://evil.example"}, {}
    for headers in foreign:
        assert client.post("/ui/privacy", data={"text": "a"}, headers=headers).status_code == 403


#: What browsers say of an image, a frame, a script's request and a page fetched in advance, all of another site.
EMBEDDED: tuple[dict[str, str], ...] = (
    {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
    {"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
    {"sec-fetch-mode": "cors", "sec-fetch-dest": "empty", "origin": "http://evil.example"},
    {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "sec-purpose": "prefetch"},
    {},
)


def test_pages_of_other_sites_ask_the_database_nothing_and_links_of_theirs_work(client):
    for site in ("cross-site", "same-site"):
        for embedded in EMBEDDED:
            for path in ("/ui/", "/ui/requests?text=rope", "/ui/requests.csv", "/ui/api/summary"):
                answer = client.get(path, headers={"sec-fetch-site": site, **embedded})
                assert answer.status_code == 403, (path, embedded)
        followed = {"sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
        assert client.get("/ui/requests?text=rope", headers=followed).status_code == 200
    assert client.get("/ui/", headers={"origin": "http://evil.example"}).status_code == 403
    for typed in ("none", "same-origin"):
        assert client.get("/ui/", headers={"sec-fetch-site": typed, "sec-fetch-dest": "image"}).status_code == 200


def test_a_database_that_cannot_be_read_is_told_of(tmp_path: Path):
    with serve(f"sqlite:///{tmp_path / 'none.db'}") as client:
        answer = client.get("/ui/")
        assert answer.status_code == 503
        assert "there is no database" in answer.text
    path = tmp_path / "older.db"
    fill(f"sqlite:///{path}", [request(1)], [])
    with sqlite3.connect(path) as raw:
        raw.execute("ALTER TABLE llm_call RENAME COLUMN cost_source TO what")
    with serve(f"sqlite:///{path}") as client:
        answer = client.get("/ui/")
        assert answer.status_code == 409
        assert "another version" in answer.text


def test_a_question_that_takes_too_long_is_stopped(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'rows.db'}"
    fill(url, [request(n) for n in range(2_000)], [])
    application = make_app(Reading(url, seconds=0.0), RedactionSettings())
    with TestClient(application, base_url="http://127.0.0.1") as client:
        answer = client.get("/ui/")
    assert answer.status_code == 504
    assert "too long" in answer.text


def test_the_page_cannot_write(url: str):
    with Reading(url)._opened().connect() as connection, pytest.raises(sa.exc.OperationalError, match="readonly"):
        connection.execute(sa.update(schema.request_log).values(ts=NOW))


def test_a_fault_of_ours_is_a_page_with_the_headers(url: str, monkeypatch):
    monkeypatch.setattr("otel_telemetry.ui.overview.tiles", lambda *_: 1 / 0)
    application = make_app(Reading(url), RedactionSettings())
    with TestClient(application, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        answer = client.get("/ui/")
    assert answer.status_code == 500
    assert "something went wrong here" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "ZeroDivisionError" not in answer.text
