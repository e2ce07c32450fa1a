"""The page of a gateway: keys and sessions, what each role may see, and that nobody else gets in."""

import asyncio
import html
import re
import secrets
from functools import partial

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.receive.auth import Keys
from otel_telemetry.gateway.receive.origins import BrowserGuard, Origins
from otel_telemetry.instrument.client_address import client_address, networks
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.ui.access import Access
from otel_telemetry.ui.app import make_page
from otel_telemetry.ui.config import UiSettings
from otel_telemetry.ui.reading import Reading
from tests.ui.conftest import request

READ, ADMIN, INGEST = (f"{role}-key-{secrets.token_hex(8)}" for role in ("read", "admin", "ingest"))
OWN = {"sec-fetch-site": "same-origin"}


class Clock:
    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def keys():
    return Keys([SecretStr(f"read:{READ}"), SecretStr(f"admin:{ADMIN}"), SecretStr(f"ingest:{INGEST}")])


def browser(url, keys, clock, base="http://127.0.0.1:4318", prefix=""):
    page = make_page(Reading(url), RedactionSettings(), UiSettings(prefix=prefix), Access(keys, b"s" * 32, clock))
    guarded = BrowserGuard(page, Origins(GatewaySettings()), keys)

    async def proxy(scope, receive, send):
        assert scope["path"].startswith(f"{prefix}/"), "a link leads out of what the proxy shows"
        await guarded({**scope, "path": scope["path"].removeprefix(prefix)}, receive, send)

    return TestClient(proxy if prefix else guarded, base_url=base, follow_redirects=False)


def sign_in(client, key, following="/ui/"):
    return client.post("/ui/login", data={"key": key, "next": following}, headers=OWN)


def test_under_a_path_of_a_proxy_every_link_leads_to_a_page(url, keys, clock):
    client = browser(url, keys, clock, prefix="/tools/llm")
    first = client.get("/tools/llm/ui/requests?route=chat").headers["location"]
    assert first == "/tools/llm/ui/login?next=%2Ftools%2Fllm%2Fui%2Frequests%3Froute%3Dchat"
    answer = client.post("/tools/llm/ui/login", data={"key": ADMIN, "next": "/tools/llm/ui/requests"}, headers=OWN)
    assert answer.headers["location"] == "/tools/llm/ui/requests"
    assert "Path=/tools/llm/ui;" in answer.headers["set-cookie"]
    assert client.get("/tools/llm/ui").headers["location"] == "/tools/llm/ui/"
    seen, left = {"/tools/llm/ui/"}, ["/tools/llm/ui/"]
    while left and len(seen) < 30:
        page = client.get(left.pop())
        assert page.status_code == 200, page.url
        for link in re.findall(r'(?:href|src|action)="([^"#]+)"', page.text):
            found = html.unescape(link) if link[0] == "/" else page.url.path + html.unescape(link)
            if found not in seen and not found.endswith("/logout") and "/assets/" not in found:
                seen.add(found)
                left.append(found)
    assert len(seen) >= 30
    assert client.post("/tools/llm/ui/logout", headers=OWN).headers["location"] == "/tools/llm/ui/login"
    for wrong in ("tools", "/tools/", "//evil.example"):
        with pytest.raises(ValueError, match="it is no path"):
            UiSettings(prefix=wrong)


def test_without_a_key_there_is_the_form_and_nothing_else(url, keys, clock):
    client = browser(url, keys, clock)
    for path in ("/ui/", "/ui/requests?route=chat", "/ui/privacy", "/ui/requests.csv", "/ui"):
        answer = client.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/ui/login?next=")
        assert not answer.content
    for path in ("/api/summary", "/api/requests", f"/api/requests/{request(1).id}", "/ui/api/summary"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (401, 16)
        assert client.get(path, headers={"x-api-key": INGEST}).status_code == 403
        assert client.get(path, headers={"x-api-key": READ}).status_code == 200
    page = client.get("/ui/login")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_a_session_begins_with_a_key_goes_on_and_ends(url, keys, clock):
    client = browser(url, keys, clock)
    assert sign_in(client, INGEST).status_code == 401
    entered = sign_in(client, READ, "/ui/requests?route=chat")
    assert (entered.status_code, entered.headers["location"]) == (303, "/ui/requests?route=chat")
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/ui" in cookie
    assert "Secure" not in cookie
    assert READ not in cookie
    page = client.get("/ui/requests?route=chat")
    assert page.status_code == 200
    assert READ not in page.text
    assert "set-cookie" not in page.headers
    clock.now += 3_000
    assert "set-cookie" in client.get("/ui/").headers
    clock.now += 3_000
    assert client.get("/ui/").status_code == 200
    clock.now += 3_700
    assert client.get("/ui/").status_code == 303


def test_a_session_ends_half_a_day_after_it_began(url, keys, clock):
    client = browser(url, keys, clock)
    sign_in(client, READ)
    for _ in range(24):
        assert client.get("/ui/").status_code == 200
        clock.now += 1_800
    assert client.get("/ui/").status_code == 200
    clock.now += 1
    assert client.get("/ui/").status_code == 303


def test_a_session_ends_with_its_key_and_when_it_is_left(url, keys, clock):
    client = browser(url, keys, clock)
    sign_in(client, READ)
    left = client.post("/ui/logout", headers=OWN)
    assert (left.status_code, left.headers["location"]) == (303, "/ui/login")
    assert client.get("/ui/").status_code == 303
    sign_in(client, READ)
    keys.become([SecretStr(f"admin:{ADMIN}")])
    assert client.get("/ui/").status_code == 303


def test_a_cookie_that_was_changed_is_none(url, keys, clock):
    client = browser(url, keys, clock)
    sign_in(client, READ)
    name, value = next(iter(client.cookies.items()))
    began, renewed, tag, signature = value.split(".")
    other = browser(url, keys, clock)
    sign_in(other, ADMIN)
    admin = next(iter(other.cookies.values())).split(".")[2]
    for forged in (
        f"{began}.{int(renewed) + 9}.{tag}.{signature}",
        f"{began}.{renewed}.{admin}.{signature}",
        f"{began}.{renewed}.{tag}.",
        "...",
        "a.b.c.d",
        "",
    ):
        fresh = browser(url, keys, clock)
        assert fresh.get("/ui/", headers={"cookie": f"{name}={forged}"}).status_code == 303


def test_texts_are_for_the_role_admin(url, keys, clock):
    path = f"/ui/requests/{request(2).id}"
    for key, seen in ((READ, False), (ADMIN, True)):
        client = browser(url, keys, clock)
        sign_in(client, key)
        assert ("rope" in client.get(path).text) is seen
        answered = client.get(f"/api/requests/{request(2).id}", headers={"x-api-key": key}).json()
        assert ("query_text" in answered[0]) is seen
        for search in ("/ui/requests", "/ui/", "/ui/users", "/ui/sessions", "/ui/requests.csv", "/ui/api/summary"):
            assert client.get(f"{search}?text=rope").status_code == (200 if seen else 403)
        assert ("Text contains" in client.get("/ui/requests").text) is seen


def test_other_sites_change_nothing(url, keys, clock):
    client = browser(url, keys, clock)
    sign_in(client, READ)
    for headers in ({"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "http://evil"}, {}):
        for path in ("/ui/logout", "/ui/login", "/ui/privacy"):
            assert client.post(path, data={"text": "a"}, headers=headers).status_code == 403
    assert client.get("/ui/").status_code == 200


def test_a_link_from_another_site_leads_to_the_page_by_itself(url, keys, clock):
    client = browser(url, keys, clock)
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    first = client.get("/ui/requests?route=chat", headers=followed)
    assert (first.status_code, first.headers["refresh"]) == (200, "0; url=/ui/requests?route=chat")
    assert client.get("/api/requests", headers={"sec-fetch-site": "cross-site"}).status_code in {401, 403}


@pytest.mark.parametrize(
    "target", ["http://evil.example/", "//evil.example/ui/", "/ui/\\evil", "/metrics", "/ui/\r\nx: y"]
)
def test_signing_in_leads_nowhere_else(url, keys, clock, target):
    assert sign_in(browser(url, keys, clock), READ, target).headers["location"] == "/ui/"


def test_over_tls_the_cookie_stays_there(url, keys, clock):
    client = browser(url, keys, clock, base="https://127.0.0.1:4318")
    assert "Secure" in sign_in(client, READ).headers["set-cookie"]
    behind = browser(url, keys, clock)
    entered = behind.post("/ui/login", data={"key": READ}, headers={**OWN, "origin": "https://page.example"})
    assert "Secure" in entered.headers["set-cookie"]


@pytest.mark.parametrize("broken", ["http://[", "//[x", "http://a\u2100b"])
def test_an_address_that_is_none_breaks_nothing(url, keys, clock, broken):
    client = browser(url, keys, clock)
    assert client.get("/ui/login", params={"next": broken}).status_code == 200
    assert sign_in(client, READ, broken).headers["location"] == "/ui/"
    assert client.post("/ui/logout", headers={"origin": broken.encode()}).status_code == 403


@pytest.mark.parametrize("path", ["/ui/", "/ui/requests", "/ui/api/requests"])
@pytest.mark.parametrize("host", ["x/ui/assets/?", "x/ui/login#", "x\\ui/assets/", "127.0.0.1/ui/login/"])
def test_who_is_let_in_depends_on_no_host(url, keys, clock, path, host):
    page = make_page(Reading(url), RedactionSettings(), UiSettings(), Access(keys, b"s" * 32, clock))
    answer = TestClient(page, follow_redirects=False).get(path, headers={"host": host})
    assert answer.status_code in {303, 401}


def test_a_form_that_is_cut_off_is_told_and_no_fault(url, keys, clock):
    page = make_page(Reading(url), RedactionSettings(), UiSettings(), Access(keys, b"s" * 32, clock))
    scope = {"type": "http", "method": "POST", "path": "/ui/login", "raw_path": b"/ui/login", "query_string": b""}
    headers = [(b"host", b"a"), (b"sec-fetch-site", b"same-origin")]
    came = iter([{"type": "http.request", "body": b"key=", "more_body": True}, {"type": "http.disconnect"}])
    sent = []

    async def receive():
        return next(came)

    async def send(message):
        sent.append(message)

    asyncio.run(page({**scope, "headers": headers, "client": ("127.0.0.1", 1), "root_path": ""}, receive, send))
    assert sent[0]["status"] == 400


def test_tries_are_limited(url, keys, clock):
    client = browser(url, keys, clock)
    answers = [sign_in(client, f"guess-{n}") for n in range(11)]
    assert [one.status_code for one in answers] == [401] * 10 + [429]
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_on_this_machine_without_keys_the_host_is_asked(url, clock):
    client = browser(url, Keys([]), clock)
    assert client.get("/ui/").status_code == 200
    assert "Sign out" not in client.get("/ui/").text
    assert "rope" in client.get(f"/ui/requests/{request(2).id}").text
    assert client.get("/ui/", headers={"host": "rebound.example"}).status_code == 421
    assert client.get("/api/summary", headers={"host": "rebound.example"}).status_code == 421


def test_tries_to_sign_in_are_counted_by_who_is_behind_a_trusted_proxy(url, keys):
    address_of = partial(client_address, trusted=networks(("127.0.0.1",)))
    page = make_page(Reading(url), RedactionSettings(), UiSettings(), Access(keys, b"s" * 32, address_of=address_of))
    client = TestClient(page, base_url="http://127.0.0.1:4318", follow_redirects=False, client=("127.0.0.1", 1))

    def tries(address):
        sent = {**OWN, "x-forwarded-for": address}
        return client.post("/ui/login", data={"key": "wrong"}, headers=sent).status_code

    assert [tries("203.0.113.7") for _ in range(11)] == [401] * 10 + [429]
    assert tries("203.0.113.8") == 401
