"""Power that fails under load: what was acknowledged was on the disk, and so is what was taken for delivered."""

import os
import signal
from typing import Any

import pytest

from tests.faults.checks import check
from tests.faults.load import Load
from tests.faults.power import Power


@pytest.mark.parametrize("workers", ["0", "1"])
def test_power_that_fails_under_load_takes_nothing_that_was_acknowledged(
    gateway: Any, power: Power, workers: str
) -> None:
    running = gateway("--workers", workers, env=power.env)
    with Load(running) as load:
        load.wait_for(150)
        os.killpg(running.process.pid, signal.SIGKILL)
        running.process.wait()
    left = power.fail()
    assert {"spool.db", "spool.db-wal"} <= set(left), left
    running.restart()
    with Load(running) as more:
        more.wait_for(20)
    check(running, load, more)
