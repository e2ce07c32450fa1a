"""The page in a real browser: its pages, filters and paging; PICTURES=URL makes the pictures of docs/ui.md."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.ui.app import make_app
from otel_telemetry.ui.reading import Reading

CHROMIUM = Path("/usr/bin/chromium")
DATABASE = os.environ.get("PICTURES")  # a URL: pictures of its rows
SHOWN = Path(__file__).parents[2] / "docs" / "pictures"
playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}: apt install chromium")


@pytest.fixture
def address(url: str) -> Iterator[str]:
    """Return where the page is served for real."""
    listening = socket.create_server(("127.0.0.1", 0))
    reading = Reading(DATABASE or url)
    server = uvicorn.Server(uvicorn.Config(make_app(reading, RedactionSettings()), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/ui"
    server.should_exit = True
    thread.join()


@pytest.fixture
def browser():
    """Return Chromium as the system has it."""
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


def watched(browser, **context):
    """Return a page, and what its browser complains of: also what the policy of the page forbids."""
    page = browser.new_context(**context).new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda sent: None if sent.url.startswith("http://127.0.0.1:") else complaints.append(sent.url))
    return page, complaints


@pytest.mark.skipif(bool(DATABASE), reason="pictures only")
def test_a_person_finds_a_request_that_failed(browser, address: str):
    page, complaints = watched(browser, viewport={"width": 1280, "height": 900})
    page.goto(f"{address}/")
    page.get_by_role("link", name="Failed").first.click()
    assert "outcome=failed" in page.url
    assert page.locator("tr[data-row]").count() == 12
    page.get_by_label("Route", exact=True).fill("search")
    page.get_by_role("button", name="Show").click()
    assert "route=search" in page.url
    assert page.locator("tr[data-row]").count() == 4
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/requests/*")
    assert page.get_by_text("TimeoutError: no answer").is_visible()
    page.go_back()
    page.get_by_label("Remove the filter route").click()
    page.get_by_label("Remove the filter outcome").click()
    page.get_by_role("link", name="Next page").click()
    page.get_by_role("link", name="Next page").click()
    assert page.locator("tr[data-row]").count() == 20
    assert not complaints


@pytest.mark.skipif(bool(DATABASE), reason="pictures only")
@pytest.mark.parametrize("path", ["/", "/requests", "/privacy"])
def test_it_fits_a_phone_and_needs_no_script(browser, address: str, path: str):
    page, complaints = watched(browser, viewport={"width": 390, "height": 800}, java_script_enabled=False)
    page.goto(address + path)
    assert page.locator("h1").is_visible()
    page, complaints = watched(browser, viewport={"width": 390, "height": 800}, color_scheme="dark")
    page.goto(address + path)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert not complaints


@pytest.mark.skipif(not DATABASE, reason="PICTURES=sqlite:///... makes the pictures of docs/ui.md")
def test_pictures(browser, address: str):
    SHOWN.mkdir(exist_ok=True)
    for scheme, name, path in (
        ("light", "overview", "/?range=6h"),
        ("dark", "requests", "/requests?range=6h"),
        ("light", "privacy", "/privacy"),
        ("light", "sessions", "/sessions?range=90d"),
    ):
        page, complaints = watched(browser, viewport={"width": 1280, "height": 700}, color_scheme=scheme)
        page.goto(address + path)
        if name == "privacy":
            page.get_by_label("Text").first.fill("mail jane@example.com, card 4111 1111 1111 1111")
            page.get_by_role("button", name="Try it").click()
        page.screenshot(path=SHOWN / f"ui-{name}.png", animations="disabled")
        if name == "requests":
            page.goto(f"{address}/requests?route=agent_web")
            page.locator("tr[data-row] a").first.click()
            page.screenshot(path=SHOWN / "ui-request.png", animations="disabled")
        assert not complaints
    assert all(one.stat().st_size < 150_000 for one in SHOWN.glob("ui-*.png"))
