"""A wall clock that jumps: nothing is lost, dropped or stuck, and no age is negative."""

import email.utils
import time
from typing import Any

import httpx
import pytest

from tests.faults.checks import check
from tests.faults.clock import FakeTime, PatchedTime
from tests.faults.load import Load
from tests.waiting import eventually

HOUR = 3600

Clock = PatchedTime | FakeTime


def shown(running: Any) -> float:
    """Return the time that the gateway says it is."""
    answer = httpx.get(f"http://127.0.0.1:{running.http}/health", timeout=5)
    return email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp()


def ages(running: Any) -> list[float]:
    metrics = running.metrics()
    return [
        value
        for name in ("otel_telemetry_spool_oldest_seconds", "otel_telemetry_spool_lag_seconds")
        for value in metrics[name].values()
    ]


@pytest.mark.parametrize("seconds", [-HOUR, -48 * HOUR, 48 * HOUR])
def test_a_clock_that_jumps_under_load_loses_and_drops_nothing(clock: Clock, gateway: Any, seconds: int) -> None:
    running = gateway(env=clock.env)
    with Load(running) as load:
        load.wait_for(60)
        clock.jump(seconds)
        eventually(lambda: abs(shown(running) - time.time() - seconds) < 10, "its clock has jumped")
        load.wait_for(60)
        assert all(0 <= age <= max(1, seconds) + 60 for age in ages(running))
        clock.jump(0)
        load.wait_for(30)
    check(running, load)


def test_what_waits_is_delivered_after_a_restart_with_a_clock_that_is_behind(clock: Clock, gateway: Any) -> None:
    receiving = gateway("--role", "receive", env=clock.env)
    with Load(receiving) as load:
        load.wait_for(60)
    receiving.kill()
    clock.jump(-24 * HOUR)
    running = gateway(env=clock.env)
    eventually(lambda: running.lag() == 0, "it is delivered")
    check(running, load)
