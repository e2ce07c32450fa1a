"""A wall clock that jumps: nothing is lost, dropped or stuck, and no age is negative."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.faults.gateway_process import Load, check, eventually

HOUR = 3600

#: Read by every Python process of the gateway at its start; the clock then follows the file.
CLOCK = """
import os, time
_real, _file = time.time_ns, os.environ["CLOCK_OFFSET_FILE"]

def _now():
    with open(_file) as file:
        return _real() + int(file.read() or 0) * 10**9

time.time_ns = _now
time.time = lambda: _now() / 1e9
"""


class Clock:
    def __init__(self, folder: Path) -> None:
        self._file = folder / "offset"
        modules = folder / "modules"
        modules.mkdir()
        (modules / "sitecustomize.py").write_text(CLOCK)
        self.jump(0)
        path = os.pathsep.join(filter(None, [str(modules), os.environ.get("PYTHONPATH")]))
        self.env = {"PYTHONPATH": path, "CLOCK_OFFSET_FILE": str(self._file)}

    def jump(self, seconds: int) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


def ages(running: Any) -> list[float]:
    metrics = running.metrics()
    return [
        value
        for name in ("otel_telemetry_spool_oldest_seconds", "otel_telemetry_spool_lag_seconds")
        for value in metrics[name].values()
    ]


@pytest.mark.parametrize("seconds", [-HOUR, -48 * HOUR, 48 * HOUR])
def test_a_clock_that_jumps_under_load_loses_and_drops_nothing(gateway: Any, clock: Clock, seconds: int) -> None:
    running = gateway(env=clock.env)
    with Load(running) as load:
        load.wait_for(60)
        clock.jump(seconds)
        load.wait_for(60)
        assert all(0 <= age <= max(1, seconds) + 60 for age in ages(running))
        clock.jump(0)
        load.wait_for(30)
    check(running, load)


def test_what_waits_is_delivered_after_a_restart_with_a_clock_that_is_behind(gateway: Any, clock: Clock) -> None:
    receiving = gateway("--role", "receive", env=clock.env)
    with Load(receiving) as load:
        load.wait_for(60)
    receiving.kill()
    clock.jump(-24 * HOUR)
    running = gateway(env=clock.env)
    eventually(lambda: running.lag() == 0, "it is delivered")
    check(running, load)
