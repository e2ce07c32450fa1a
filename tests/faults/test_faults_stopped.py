"""Processes that stand still for a while (SIGSTOP: a debugger, a frozen container) and go on as if nothing was."""

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.faults.checks import check
from tests.faults.load import Load
from tests.waiting import eventually

PATIENCE = 1.0
WRITE_LOCK = "spool.turn"  # whoever writes to the spool holds this lock


@contextmanager
def stopped(pid: int, spool: Path | None = None) -> Iterator[None]:
    """Stop a process for as long as the block lasts; with the spool's folder while it does not write to the spool."""
    with (spool / WRITE_LOCK).open("rb+") if spool else nullcontext() as write_lock:
        if write_lock:
            fcntl.flock(write_lock, fcntl.LOCK_EX)
        os.kill(pid, signal.SIGSTOP)
        eventually(
            lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "it stands still"
        )
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_receiver_that_stands_still_under_load_loses_nothing_and_goes_on(gateway: Any, workers: str) -> None:
    running = gateway("--workers", workers)
    with Load(running, patience=PATIENCE) as load:
        load.wait_for(40)
        with stopped(running.receivers()[0]):
            before = len(load.acknowledged)  # a sender whose connection it has gets no answer, others may go on
            eventually(lambda: load.unanswered.total() > 1 or len(load.acknowledged) > before + 60, "the senders go on")
        load.wait_for(60)
    check(running, load)
    assert running.total("otel_telemetry_process_restarts_total") == 0


def test_a_deliverer_that_stands_still_keeps_nobody_from_sending_and_delivers_later(gateway: Any) -> None:
    running = gateway("--workers", "1")
    with Load(running, pause=0.01) as load:
        load.wait_for(40)
        with stopped(running.deliverer(), running.spool):
            load.wait_for(100)
            assert running.lag() > 0
        load.wait_for(20)
    check(running, load)
    assert running.total("otel_telemetry_process_restarts_total") == 0


def test_a_process_that_stands_still_while_it_writes_shows_in_health_and_all_goes_on_with_it(gateway: Any) -> None:
    running = gateway("--workers", "2")
    with Load(running, patience=PATIENCE) as load:
        load.wait_for(40)
        with (running.spool / WRITE_LOCK).open("rb+") as write_lock:
            fcntl.flock(write_lock, fcntl.LOCK_EX)
            held = time.monotonic()
            part = eventually(lambda: _failing(running), "its health says so")
            assert time.monotonic() - held >= 5
            assert part["problem"] == "a write does not end"
        load.wait_for(60)
    check(running, load)
    assert load.unanswered


def _failing(running: Any) -> Any:
    part = running.health()["parts"]["spool"]
    return part if part["status"] == "failing" else None
