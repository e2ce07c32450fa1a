"""One person is erased while a gateway goes on receiving: nothing of them stays, nobody else loses anything."""

import json
import os
import signal
import sqlite3
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_telemetry.gateway.spool.reader import SpoolReader
from otel_telemetry.processors.config import PseudonymSettings
from otel_telemetry.processors.redact.pseudonym import Pseudonyms
from tests.backends.process import free_port
from tests.suite import operated

NAMES = Pseudonyms(PseudonymSettings.model_validate({"secret": operated.SECRET}))
ENVIRONMENT = {**os.environ, **operated.ENVIRONMENT, "OTEL_TELEMETRY_REQUEST_LOG__STORE_TEXT": "true"}
TEXT = "the tent that only jane wanted"


@pytest.fixture(name="gateway")
def gateway_fixture(tmp_path: Path) -> Iterator[str]:
    """Run a gateway over `rows.db` and `spool`; returns where it takes requests."""
    port = free_port()
    arguments = ("--grpc-port", str(free_port()), "--http-port", str(port), *options(tmp_path))
    process = operated.command("serve", *arguments, env=ENVIRONMENT, cwd=tmp_path)
    url = f"http://127.0.0.1:{port}"
    for _ in range(400):
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            break
        except OSError:
            assert process.poll() is None
            time.sleep(0.05)
    yield url
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM)


def options(folder: Path) -> tuple[str, ...]:
    return "--db", f"sqlite:///{folder / 'rows.db'}", "--spool-dir", str(folder / "spool")


def send(url: str, number: int, user: str, text: str) -> None:
    fields = {"request_log.route": "direct", "request_log.query_text": text, "user.id": user}
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in fields.items()]
    now = time.time_ns()
    span = {
        "traceId": f"{number:032x}", "spanId": f"{number:016x}", "name": "ask", "kind": 2, "attributes": attributes,
        "startTimeUnixNano": str(now), "endTimeUnixNano": str(now + 1),
    }  # fmt: skip
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    request = urllib.request.Request(f"{url}/v1/traces", body, {"content-type": "application/json"})
    for _ in range(200):
        try:
            urllib.request.urlopen(request, timeout=30).close()
        except OSError:  # told to retry while the files are rebuilt
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the gateway took nothing")


def users(folder: Path) -> dict[str, int]:
    connection = sqlite3.connect(folder / "rows.db", timeout=30)
    try:
        return dict(connection.execute("SELECT user_id, count(*) FROM request_log GROUP BY 1").fetchall())
    finally:
        connection.close()


def wait_until_delivered(folder: Path) -> None:
    with SpoolReader(folder / "spool") as spool:
        for _ in range(600):
            if all(lag.batches == 0 and lag.items == 0 for lag in spool.status().lag.values()):
                return
            time.sleep(0.05)
        raise AssertionError(spool.status())


def erase(folder: Path) -> list[dict[str, Any]]:
    process = operated.command("erase", "--user", "jane", "--yes", "--json", *options(folder), env=ENVIRONMENT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    found: list[dict[str, Any]] = json.loads(output)
    return found


def test_nothing_of_a_person_stays_and_nobody_else_loses_a_row(gateway: str, tmp_path: Path) -> None:
    for number in range(1, 101):
        jane = number % 2 == 0
        send(gateway, number, "jane" if jane else "ole", TEXT if jane else "hello")
    stop = threading.Event()
    sent = []

    def go_on() -> None:
        number = 1_000
        while not stop.is_set():
            number += 1
            send(gateway, number, "ole", "hello again")
            sent.append(number)

    others = threading.Thread(target=go_on)
    others.start()
    try:
        assert sum(row["rows"] for row in erase(tmp_path)) > 0
    finally:
        stop.set()
        others.join()
    wait_until_delivered(tmp_path)
    erase(tmp_path)
    assert users(tmp_path) == {NAMES.of("ole"): 50 + len(sent)}
    assert operated.no_bytes_of(tmp_path, NAMES.of("jane"), TEXT)
    send(gateway, 5_000, "jane", TEXT)
    wait_until_delivered(tmp_path)
    assert users(tmp_path)[NAMES.of("jane")] == 1  # what comes later is a row again
    erase(tmp_path)
    assert operated.no_bytes_of(tmp_path, NAMES.of("jane"), TEXT)
