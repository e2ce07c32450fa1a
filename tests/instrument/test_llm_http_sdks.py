"""Each provider's SDK under `opentelemetry-instrument`: what its rows say, and that the app got what it gets without.

One process an SDK makes all of its calls, twice side by side: with everything switched on, and with nothing. Answers
come from a server on loopback that plays the providers' proxy, so that SDKs ask for the hosts that they always ask for.
"""

import http.server
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest
from genai_prices import Usage, calc_price

from tests.instrument.sdk_answers import RECORDED, SETUPS, Case, Reply, attempts, cases
from tests.instrument.sdk_readings import Expected

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PAUSE = 0.02  # seconds before the first byte of a stream's body
GENAI_PRICES = {"azure.ai.openai": "azure", "gcp.gemini": "google", "mistral_ai": "mistral"}
TRACE_HEADERS = {"traceparent", "tracestate", "baggage"}
pytestmark = pytest.mark.skipif(not RECORDED.exists(), reason="the recordings are not here")

Row = dict[str, Any]


class Provider(http.server.ThreadingHTTPServer):
    """Answers one request after the other with the next reply, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self, replies: list[Reply]) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.replies = iter(replies)
        self.asked: list[tuple[str, dict[str, str], bytes]] = []


class Answering(http.server.BaseHTTPRequestHandler):
    server: Provider
    protocol_version = "HTTP/1.1"
    wbufsize: ClassVar[int] = -1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.server.asked.append((self.path, headers, body))
        reply = next(self.server.replies)
        self.send_response(reply.status)
        for key, value in {"content-type": reply.kind, **reply.headers}.items():
            self.send_header(key, value)
        if reply.encoding:
            self.send_header("content-encoding", reply.encoding)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        time.sleep(PAUSE if len(reply.pieces) > 1 else 0)
        for piece in (*reply.pieces, b""):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Answer the same bytes at any time."""
        return "Sat, 21 Nov 2026 00:00:00 GMT"


class Run:
    """A process under way, the server it talks to, and what came of it."""

    def __init__(self, setup: str, folder: Path, *, instrumented: bool) -> None:
        sdk, more = SETUPS[setup]
        self.url = f"sqlite:///{folder / 'rows.db'}"
        self.database = folder / "rows.db"
        self.provider = Provider([reply for case in cases(sdk).values() for reply in case.replies])
        self.thread = threading.Thread(target=self.provider.serve_forever, daemon=True)
        self.thread.start()
        port = self.provider.server_address[1]
        command = [sys.executable, str(Path(__file__).parent / "sdk_calls.py"), sdk]
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("OTEL_") and "PROXY" not in key.upper()
        }
        more = more | {"HTTP_PROXY": f"http://127.0.0.1:{port}"}
        if instrumented:
            command.insert(0, str(BIN / "opentelemetry-instrument"))
            more |= {"OTEL_TRACES_EXPORTER": "request_log", "OTEL_TELEMETRY_REQUEST_LOG__URL": self.url}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment | more, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def end(self) -> None:
        """Wait for the process, and end the server."""
        try:
            printed, self.errors = self.process.communicate(timeout=90)
        finally:
            self.process.kill()
            self.provider.shutdown()
            self.provider.server_close()
            self.thread.join(5)
        assert self.process.returncode == 0, self.errors
        self.got = [json.loads(line) for line in printed.splitlines()]

    def rows(self) -> list[Row]:
        connection = sqlite3.connect(self.database)
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute("SELECT * FROM llm_call ORDER BY ts")]
        finally:
            connection.close()


@pytest.fixture(scope="module", params=list(SETUPS))
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Run, Run]:
    """Give an SDK (and how it is set up), and its calls with and without telemetry."""
    setup: str = request.param
    both = [Run(setup, tmp_path_factory.mktemp("run"), instrumented=on) for on in (True, False)]
    for run in both:
        run.end()
    return setup, both[0], both[1]


def test_the_app_gets_what_it_gets_without_and_asks_the_same(runs: tuple[str, Run, Run]) -> None:
    setup, instrumented, plain = runs
    assert [line["name"] for line in plain.got] == list(cases(SETUPS[setup][0]))
    assert instrumented.got == plain.got
    assert instrumented.provider.asked
    asked = [
        [
            (path, {k: v for k, v in headers.items() if k not in TRACE_HEADERS}, body)
            for path, headers, body in run.provider.asked
        ]
        for run in (instrumented, plain)
    ]
    assert asked[0] == asked[1]


def test_each_call_is_a_row_that_says_what_the_provider_said(runs: tuple[str, Run, Run]) -> None:
    setup, instrumented, _ = runs
    expected = attempts(setup)
    rows = instrumented.rows()
    assert len(rows) == len(expected), instrumented.errors
    wrong = [
        f"{name}, reply {number}: {column} is {row[column]!r}, not {value!r}"
        for row, (name, case, reply, number) in zip(rows, expected, strict=True)
        for column, value in columns(case, reply, number).items()
        if not same(row[column], value)
    ]
    assert wrong == []
    assert "Traceback" not in instrumented.errors


def test_only_streams_have_a_time_to_the_first_byte_and_it_is_when_the_first_text_came(
    runs: tuple[str, Run, Run],
) -> None:
    setup, instrumented, _ = runs
    for row, (_, case, *_) in zip(instrumented.rows(), attempts(setup), strict=True):
        if case.streamed:
            assert PAUSE * 1000 <= row["ttfb_ms"] <= row["total_latency_ms"], row
        else:
            assert row["ttfb_ms"] is None, row


def columns(case: Case, reply: Reply, number: int) -> Row:
    """Return the columns of a reply's row."""
    error = case.errors[number]
    expected = Expected() if error else case.read(reply.values)
    counts = {
        f"{name}_tokens": value for name, value in asdict(expected).items() if name not in ("model", "finish", "tier")
    }
    return counts | {
        "operation": case.operation,
        "provider": case.provider,
        "model_requested": case.requested,
        "model": expected.model or case.requested,
        "finish_reason": expected.finish,
        "streamed": case.streamed,
        "cost_usd": cost(case, expected),
        "error": error,
        "ok": error is None,
        "retries": number,
        "rate_limited": reply.status == 429,
    }


def cost(case: Case, expected: Expected) -> Decimal | None:
    """Return what genai-prices says, or None where a count or a price is missing."""
    if expected.prompt is None or (expected.completion is None and case.operation != "embeddings"):
        return None
    counted = Usage(
        input_tokens=expected.prompt,
        output_tokens=expected.completion or 0,
        cache_read_tokens=expected.cached or 0,
        cache_write_tokens=expected.cache_write or 0,
    )
    try:
        provider = GENAI_PRICES.get(case.provider, case.provider)
        tier = {"service_tier": expected.tier} if expected.tier else None
        model = expected.model or case.requested
        return calc_price(counted, model, provider_id=provider, price_context=tier).total_price
    except LookupError:
        return None


def same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, bool):
        return bool(found) == wanted
    if isinstance(wanted, Decimal):
        return found is not None and abs(Decimal(str(found)) - wanted) < Decimal("1e-11")
    if isinstance(wanted, str) and isinstance(found, str):
        return wanted in found if "HTTP" in found else found == wanted
    return bool(found == wanted)
