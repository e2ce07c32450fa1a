"""The thread that does what need not be done while the app waits."""

import os
import subprocess
import sys
import threading

import pytest

from otel_telemetry.instrument import afterwards


def test_tasks_run_in_order_on_another_thread() -> None:
    seen: list[tuple[int, str]] = []
    afterwards.watch()
    for number in range(100):
        afterwards.do(lambda number=number: seen.append((number, threading.current_thread().name)))
    assert afterwards.flush()
    assert seen == [(number, "otel_telemetry_afterwards") for number in range(100)]


def test_a_task_that_fails_does_not_stop_the_others() -> None:
    seen: list[int] = []
    afterwards.watch()
    afterwards.do(lambda: 1 // 0)  # type: ignore[arg-type]  # it returns nothing
    afterwards.do(seen.append, 1)
    assert afterwards.flush()
    assert seen == [1]


def test_who_brings_a_task_too_many_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(afterwards, "MAX_WAITING", 0)
    threads: list[threading.Thread] = []
    afterwards.do(lambda: threads.append(threading.current_thread()))
    assert threads == [threading.current_thread()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_a_thread_of_its_own_and_none_of_its_parents_tasks() -> None:
    script = """
import os, threading
from otel_telemetry.instrument import afterwards
gate = threading.Event()
afterwards.watch()
afterwards.do(gate.wait)
afterwards.do(lambda: print("parent", flush=True))
child = os.fork()
if child == 0:
    afterwards.watch()
    afterwards.do(lambda: print("child", flush=True))
    assert afterwards.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
gate.set()
assert afterwards.flush()
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, timeout=30, check=True)
    assert done.stdout.split() == [b"child", b"parent"]


def test_what_waits_when_the_process_ends_is_done() -> None:
    script = """
from otel_telemetry.instrument import afterwards
afterwards.at_exit()
afterwards.do(lambda: print("done", flush=True))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30, check=True)
    assert done.stdout == b"done\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_multiprocessing_forks_ends_its_spans_without_configure() -> None:
    """It ends with os._exit, without exit handlers."""
    command = [sys.executable, "-m", "tests.instrument.fork_without_configure"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["chat gpt-4o"] * 3
