"""Processes that die under load: whatever was acknowledged is in the rows exactly once, and the metrics say so."""

import os
import signal
from typing import Any

import pytest

from tests.faults.checks import check, check_rows
from tests.faults.load import TEXT, Load
from tests.waiting import eventually

SHAPES = {"all in one": ("--workers", "0"), "one receiver": ("--workers", "1"), "two receivers": ("--workers", "2")}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_gateway_killed_under_load_has_a_row_for_everything_acknowledged_once_it_is_back(
    gateway: Any, shape: str
) -> None:
    running = gateway(*SHAPES[shape])
    with Load(running) as load:
        load.wait_for(100)
        running.kill()
        running.restart()
        load.wait_for(50)
    check(running, load)
    assert load.refused, "the senders saw that it was away"


def test_each_receiver_killed_under_load_is_started_again_while_the_other_serves(gateway: Any) -> None:
    """The supervisor is stopped meanwhile, so that the other one is alone for as long as the test likes."""
    running = gateway("--workers", "2")
    with Load(running) as load:
        load.wait_for(60)
        for killed in running.receivers():
            os.kill(running.process.pid, signal.SIGSTOP)
            os.kill(killed, signal.SIGKILL)
            load.wait_for(60)
            os.kill(running.process.pid, signal.SIGCONT)
            eventually(lambda: len(running.receivers()) == 2, "there are two receivers again")
            eventually(lambda: running.total("otel_telemetry_process_up") == 3, "all answer again")
        load.wait_for(50)
    check(running, load)
    assert running.total("otel_telemetry_process_restarts_total") == 2
    assert running.logged.count("was killed by SIGKILL") == 2


def test_the_only_receiver_killed_under_load_comes_back_on_the_same_ports(gateway: Any) -> None:
    running = gateway("--workers", "1")
    with Load(running) as load:
        load.wait_for(60)
        os.kill(running.receivers()[0], signal.SIGKILL)
        load.wait_for(60)
    check(running, load)
    assert running.total("otel_telemetry_process_restarts_total", process="receiver-1") == 1


def test_a_deliverer_killed_under_load_keeps_nobody_from_sending_and_delivers_the_rest(gateway: Any) -> None:
    running = gateway("--workers", "1")
    with Load(running) as load:
        load.wait_for(60)
        os.kill(running.deliverer(), signal.SIGKILL)
        load.wait_for(100)
        eventually(
            lambda: running.total("otel_telemetry_process_restarts_total", process="deliverer") == 1, "it is back"
        )
        load.wait_for(50)
    check(running, load)
    assert running.health()["status"] == "ok"


def test_a_process_that_writes_rows_killed_in_its_work_leaves_nothing_out_and_nothing_twice(gateway: Any) -> None:
    running = gateway("--workers", "1")
    os.kill(running.deliverer(), signal.SIGSTOP)
    with Load(running, text=TEXT + "Some of what a model is told. " * 2_000) as load:
        load.wait_for(150)  # more than one process would write at once
        os.kill(running.deliverer(), signal.SIGCONT)
        (writer,) = eventually(running.writers, "another process writes beside it")
        os.kill(writer, signal.SIGKILL)
        load.wait_for(20)
    check(running, load)
    assert "a process that writes rows is gone (-9)" in running.logged


def test_a_process_that_dies_again_and_again_is_started_again_after_ever_longer_pauses(gateway: Any) -> None:
    running = gateway("--workers", "1")
    for _ in range(3):
        os.kill(running.deliverer(), signal.SIGKILL)
        eventually(lambda: len(running.processes()) == 2, "it is started again")
        eventually(lambda: running.total("otel_telemetry_process_up") == 2, "it answers again")
    assert [f"started again in {pause} s" in running.logged for pause in ("0.1", "0.2", "0.4")] == [True] * 3
    with Load(running) as load:
        load.wait_for(20)
    check(running, load)


def test_the_processes_of_a_gateway_end_with_it(gateway: Any) -> None:
    running = gateway("--workers", "2")
    pids = running.processes().values()
    running.kill()
    eventually(lambda: not any(_runs(pid) for pid in pids), "they have ended")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("shape", SHAPES)
def test_sigterm_under_load_answers_what_is_under_way_delivers_and_exits_0(gateway: Any, shape: str) -> None:
    running = gateway(*SHAPES[shape])
    with Load(running) as load:
        load.wait_for(100)
        assert running.terminate() == 0
    check_rows(running, load.acknowledged)  # all of it was delivered in the time that a stop may take
    running.restart()
    check(running, load)


def test_sigterm_to_every_process_at_once_stops_them_in_order(gateway: Any) -> None:
    running = gateway("--workers", "2")
    with Load(running) as load:
        load.wait_for(100)
        for pid in running.processes().values():
            os.kill(pid, signal.SIGTERM)
        assert running.terminate() == 0
    check_rows(running, load.acknowledged)
