"""Every page in a real browser, full of hostile texts: nothing runs, nothing is fetched, and axe-core finds nothing.

axe-core (MPL-2.0) is fetched by npm into the cache of the user, and used here alone.
"""

import gzip
import json
import shutil
import socket
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
import uvicorn

from otel_telemetry.exporters.request_log.db import column_types, database, rollups, schema
from otel_telemetry.exporters.request_log.db.redactions import redaction_count
from otel_telemetry.gateway.receive.auth import Keys
from otel_telemetry.gateway.serve.page import Insight
from otel_telemetry.gateway.spool.operator import Operator
from otel_telemetry.gateway.spool.reader import SpoolReader
from otel_telemetry.gateway.spool.writer import Spool
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.ui import assets
from otel_telemetry.ui.access import Access
from otel_telemetry.ui.app import make_page
from otel_telemetry.ui.config import UiSettings
from otel_telemetry.ui.reading import Reading
from tests.ui.conftest import NOW, call, fill, request, several
from tests.ui.test_ui_browser import CHROMIUM, watched

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}: apt install chromium")

AXE = "axe-core-4.14.1"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
HOSTILE = (
    """<script>planted()</script>"><img src=//evil.example/x onerror=planted()>' onmouseover='planted()' """
    "style='position:fixed' </pre></title></textarea><svg/onload=planted()>javascript:planted() {{ planted() }}"
    "\u202egnp.txt\x1b[31m\u2066"
)
_IDS = {"id", "trace_id", "span_id", "parent_span_id", "request_id", "run_id", "parent_step", "step_id", "cost_source"}


def filled(table: sa.Table, **values):
    """Return a row whose every text is hostile, and whose JSON has hostile keys and values."""
    json_value = {HOSTILE: [HOSTILE, {HOSTILE: 1}]}
    row: dict[str, Any] = {}
    for name, column in table.c.items():
        if column.computed is None and name not in _IDS and name not in values:
            if type(column.type) is sa.Text:
                row[name] = HOSTILE
            elif isinstance(column.type, column_types.Json):
                row[name] = json_value
    return row | values


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[str]:
    """Serve the page of a gateway without keys, over ordinary rows and one hostile row of everything."""
    folder = tmp_path_factory.mktemp("hostile")
    url = f"sqlite:///{folder / 'rows.db'}"
    requests, calls = several()
    fill(url, requests, calls)
    stored = request(500, ok=False, query_text=HOSTILE)
    row = {name: getattr(stored, name) for name in ("id", "ts", "trace_id", "span_id", "llm_calls", "latency_ms", "ok")}
    flags = dict.fromkeys(
        ("escalated", "fallback_fired", "cache_hit", "ceiling_hit", "per_user_cap_hit", "rate_limited"), True
    )
    asked = call(500)
    of_call = {name: getattr(asked, name) for name in ("id", "ts", "trace_id", "span_id", "request_id")}
    engine = database.connect(url)
    with engine.begin() as connection:
        for table, values in (
            (schema.request_log, {**row, **flags, "retries": 1}),
            (schema.llm_call, {**of_call, "ok": False, "retries": 1, "rate_limited": False, "run_id": HOSTILE}),
            (schema.feedback, {"id": "f", "ts": NOW, "request_id": stored.id}),
            (schema.dead_letter, {"id": "d", "ts": NOW, "trace_id": HOSTILE}),
            (schema.workflow_run, {"id": HOSTILE, "created_at": NOW - timedelta(minutes=1), "updated_at": NOW}),
            (schema.workflow_step, {"id": HOSTILE, "run_id": HOSTILE, "start_time": NOW, "end_time": NOW}),
            (schema.workflow_event, {"id": HOSTILE, "run_id": HOSTILE, "step_id": HOSTILE, "ts": NOW}),
        ):
            connection.execute(sa.insert(table).values(filled(table, **values)))
        found = dict.fromkeys(("type", "rule", "service"), HOSTILE)
        quarter = {"start": rollups.start_of(NOW), "what": "finding", "number": 4}
        connection.execute(sa.insert(redaction_count).values(**quarter, **found))
    engine.dispose()
    access, insight = Access(Keys([]), b"s"), _insight(folder / "spool")
    page = make_page(Reading(url), RedactionSettings(), UiSettings(), access, insight)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(page, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/ui"
    server.should_exit = True
    thread.join()


def _insight(folder: Path) -> Insight:
    spool = Spool(folder, 1 << 24, 24.0)
    spool.attach(["forward.x"])
    spool.append("traces", b"\x0a\x00", 3).result(10)
    with SpoolReader(folder) as reader:
        batch = next(iter(reader.batches()))
    spool.advance("forward.x", [batch], [(batch, HOSTILE)])
    spool.close()
    lag = {"batches": 1, "seconds": 3}
    exporters = {HOSTILE: {"status": "waiting", "problem": HOSTILE, "circuit": "open", "lag": lag}}
    processes = {HOSTILE: {"status": "ok", "restarts": 1}}
    parts = {"exporters": exporters, "spool": {"problem": HOSTILE}, "processes": processes}
    health = {"status": "degraded", "parts": parts}
    return Insight(lambda: health, bytes, partial(SpoolReader, folder), partial(Operator, folder))


@pytest.fixture(scope="module")
def chromium():
    """Return Chromium as the system has it."""
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def axe() -> str:
    """Return axe-core as a script."""
    folder = Path.home() / ".cache" / "otel-telemetry-tests"
    packed = folder / f"{AXE}.tgz"
    if not packed.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm, which fetches axe-core, is not installed (Debian: apt install npm)")
        folder.mkdir(parents=True, exist_ok=True)
        command = [npm, "pack", AXE.replace("core-", "core@"), "--silent", "--pack-destination", str(folder)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        if done.returncode:
            pytest.skip(f"npm cannot fetch axe-core: {done.stderr[-200:]}")
    with tarfile.open(packed) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script
        return script.read().decode()


ONE = request(500).id
REFUSED = ("/nowhere", "/requests?since=x")
PAGES = (
    *("/", "/requests", f"/requests/{ONE}", f"/requests/{request(2).id}", "/requests?route=nothing", "/sessions"),
    *(f"/sessions/{quote(HOSTILE, safe='')}", "/users", f"/users/{quote(HOSTILE, safe='')}", "/workflows"),
    *(f"/workflows/{quote(HOSTILE, safe='')}", "/privacy", "/pipeline", "/login", *REFUSED),
)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_nothing_hostile_runs_and_every_page_is_accessible(chromium, served, axe, scheme, width):
    page, complaints = watched(chromium, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.add_init_script("window.planted = () => { window.hit = true; }")
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    options = json.dumps({"runOnly": {"type": "tag", "values": TAGS}})
    wrong: list[tuple[str, ...]] = []
    for path in PAGES:
        answer = page.goto(served + path)
        if answer.ok == (path in REFUSED):
            wrong.append((path, f"status {answer.status}"))
        if path in REFUSED:  # Chromium tells the console of the status
            complaints[:] = [each for each in complaints if "Failed to load resource" not in each]
        fits = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        if page.evaluate("window.hit") or not fits or not page.locator("h1").first.is_visible():
            wrong.append((path, "hit, too wide, or without a heading"))
        page.evaluate(axe)
        result = page.evaluate(f"axe.run(document, {options})")
        wrong += [(path, one["id"], one["nodes"][0]["html"][:200]) for one in result["violations"]]
    assert not wrong
    assert not complaints


def test_a_text_that_is_tried_stays_text(chromium, served):
    page, complaints = watched(chromium)
    page.goto(f"{served}/privacy")
    page.get_by_label("Text", exact=True).fill(f"mail jane@example.com {HOSTILE}")
    page.get_by_role("button", name="Try it").click()
    assert page.get_by_role("heading", name="Becomes").is_visible()
    assert not complaints


def test_dead_letters_are_dropped_by_hand(chromium, served):
    page, complaints = watched(chromium)
    page.goto(f"{served}/pipeline")
    page.get_by_role("button", name="Drop").click()
    assert page.url.endswith("/pipeline"), "the box has to be ticked first"
    page.get_by_label("Yes, delete them for good").check()
    page.get_by_role("button", name="Drop").click()
    page.wait_for_url("**/pipeline?done=drop-1")
    assert page.get_by_text("None: every destination took what it was given.").is_visible()
    assert not complaints


def test_all_that_a_browser_loads_once_is_small():
    folder = Path(assets.__file__).parent / "static"
    assert sum(len(gzip.compress(path.read_bytes())) for path in folder.iterdir()) < 150_000
