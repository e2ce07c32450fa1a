"""Calls of a client are counted over all processes, exactly, in memory that nobody else can read."""

import os
import time

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
    children, told = [], []
    for _ in range(3):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, str(sum(window.wait("a") == 0 for _ in range(40))).encode())
            os._exit(0)
        os.close(writing)
        children.append(child)
        told.append(reading)
    for child in children:
        os.waitpid(child, 0)
    assert sum(int(os.read(reading, 10)) for reading in told) == 50
    for reading in told:
        os.close(reading)


def test_a_gateway_s_workers_let_in_no_more_than_the_limit(tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_TELEMETRY_GATEWAY__TELEMETRY_PER_MINUTE", "20")
    with GatewayProcess(tmp_path, "--workers", "2") as gateway:
        answers = [
            httpx.post(f"http://127.0.0.1:{gateway.http}/telemetry", json={"type": "page_view"}) for _ in range(45)
        ]
    codes = [answer.status_code for answer in answers]
    assert (codes.count(200), codes.count(429)) == (20, 25)
    assert int(answers[-1].headers["retry-after"]) <= 60
