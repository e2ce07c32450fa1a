"""Calls of a client are counted over all processes, exactly, in memory that nobody else can read."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from otel_telemetry.gateway.receive.rest.shared_window import SharedWindow
from tests.faults.gateway_process import GatewayProcess

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a group of processes needs fork")


def test_a_client_may_call_so_often_and_then_hears_when_again():
    window = SharedWindow(3, seconds=60)
    assert [window.wait("a") for _ in range(3)] == [0.0, 0.0, 0.0]
    wait = window.wait("a")
    assert 0 < wait <= 60
    assert window.wait("b") == 0.0


def test_a_call_that_was_long_ago_counts_no_more(monkeypatch):
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    window = SharedWindow(2, seconds=60)
    assert [window.wait("a"), window.wait("a")] == [0.0, 0.0]
    now[0] += 59
    assert window.wait("a") == 1.0
    now[0] += 1
    assert [window.wait("a"), window.wait("a")] == [0.0, 0.0]
    assert window.wait("a") == 60.0


def test_of_more_clients_than_there_is_room_for_the_quietest_are_forgotten():
    window = SharedWindow(1_000, seconds=60)
    for number in range(20_000):
        assert window.wait(str(number)) == 0.0
    for _ in range(999):
        assert window.wait("19999") == 0.0
    assert window.wait("19999") > 0


def test_processes_that_are_forked_count_together():
    window = SharedWindow(50)
    children, pipes = [], []
    for _ in range(3):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, str(sum(window.wait("a") == 0 for _ in range(40))).encode())
            os._exit(0)
        os.close(writing)
        children.append(child)
        pipes.append(reading)
    for child in children:
        os.waitpid(child, 0)
    assert sum(int(os.read(reading, 10)) for reading in pipes) == 50
    for reading in pipes:
        os.close(reading)


OPENS_AND_CALLS = """
import sys
from pathlib import Path
from otel_telemetry.gateway.receive.rest.shared_window import SharedWindow
window = SharedWindow.of_workers(Path(sys.argv[1]), 50, b"secret")
print(sum(window.wait("a") == 0 for _ in range(40)), flush=True)
sys.stdin.read()
"""


class Workers:
    """Processes that open the window of a folder, call forty times and stay."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[str]] = []

    def start(self) -> int:
        """Return how often a new one came in."""
        command = [sys.executable, "-c", OPENS_AND_CALLS, str(self._folder)]
        started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._running.append(started)
        assert started.stdout is not None
        return int(started.stdout.readline())

    def end(self) -> None:
        while self._running:
            self._running.pop().communicate()


@pytest.fixture(name="workers")
def workers_fixture(tmp_path) -> Iterator[Workers]:
    workers = Workers(tmp_path)
    yield workers
    workers.end()


def test_workers_that_a_server_starts_one_by_one_count_together_and_anew_once_all_have_ended(workers, tmp_path):
    assert [workers.start() for _ in range(3)] == [40, 10, 0]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    workers.end()
    assert workers.start() == 40


def test_a_file_of_another_size_is_refused_while_it_is_used(tmp_path):
    window = SharedWindow.of_workers(tmp_path, 50)
    with (tmp_path / "clients-50").open("ab") as file:
        file.write(b"more")
    with pytest.raises(OSError, match="of another size"):
        SharedWindow.of_workers(tmp_path, 50)
    assert window.wait("a") == 0.0


def test_a_gateway_s_workers_let_in_no_more_than_the_limit(tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_TELEMETRY_GATEWAY__TELEMETRY_PER_MINUTE", "20")
    with GatewayProcess(tmp_path, "--workers", "2") as gateway:
        answers = [
            httpx.post(f"http://127.0.0.1:{gateway.http}/telemetry", json={"type": "page_view"}) for _ in range(45)
        ]
    codes = [answer.status_code for answer in answers]
    assert (codes.count(200), codes.count(429)) == (20, 25)
    assert int(answers[-1].headers["retry-after"]) <= 60
