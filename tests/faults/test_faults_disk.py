"""A disk that is full: what is acknowledged is on the disk, and it goes on by itself once there is room."""

from typing import Any

import pytest

from tests.faults.checks import check, check_rows
from tests.faults.disk import MEGABYTES, SmallDisk
from tests.faults.load import Load, long_text
from tests.waiting import eventually

LONG = long_text(54)  # for each call


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_a_disk_that_fills_up_refuses_loses_nothing_and_goes_on_when_there_is_room(
    gateway: Any, small_disk: SmallDisk, end: str
) -> None:
    receiving = gateway("--role", "receive", within=small_disk.within)
    with Load(receiving, text=LONG) as load:
        eventually(lambda: load.retries.total() > 5, "the disk is full and senders are told to come again")
    assert receiving.total("otel_telemetry_refused_total") == load.retries.total()
    assert receiving.terminate() == 0 if end == "terminate" else receiving.kill() is None
    everything = gateway(within=small_disk.within)
    with Load(everything, text=LONG, pause=0.05) as more:
        more.wait_for(40)
    check(everything, more, load)


def test_more_than_the_disk_holds_goes_through_as_long_as_it_is_delivered(gateway: Any, small_disk: SmallDisk) -> None:
    running = gateway(within=small_disk.within)
    with Load(running, text=LONG, pause=0.02) as load:
        load.wait_for(MEGABYTES * 1_100_000 // (4 * len(LONG)))
    check(running, load)
    assert "what is delivered is no longer kept for replay" in running.logged


def test_on_a_disk_that_others_have_filled_it_starts_and_delivers_what_it_has(
    gateway: Any, small_disk: SmallDisk
) -> None:
    receiving = gateway("--role", "receive", within=small_disk.within)
    with Load(receiving) as load:
        load.wait_for(40)
    receiving.kill()
    in_the_way = small_disk.fill("not ours")
    running = gateway(within=small_disk.within)
    eventually(lambda: running.lag() == 0, "what it has is delivered")
    assert running.names_the_disk()
    check_rows(running, load.acknowledged)
    with Load(running) as more:
        eventually(lambda: more.retries.total() > 3, "senders are told to come again")
        in_the_way.unlink()
        more.wait_for(20)
    check(running, more, load)


@pytest.mark.parametrize("small_disk", ["rows"], indirect=True)
def test_where_the_disk_of_the_rows_is_full_what_comes_waits_for_room_and_senders_do_not_notice(
    gateway: Any, small_disk: SmallDisk
) -> None:
    running = gateway(within=small_disk.within, url=f"sqlite:///{small_disk.folder / 'rows.db'}")
    with Load(running, pause=0.02) as load:
        load.wait_for(40)
        in_the_way = small_disk.fill("not ours")
        eventually(lambda: running.health()["status"] == "degraded", "it says that the rows have to wait")
        load.wait_for(40)
        in_the_way.unlink()
        load.wait_for(20)
    running.delivered()
    running.url = f"sqlite:///{small_disk.copy('rows.db')}"
    check(running, load)
    assert not load.refused
    assert running.total("otel_telemetry_write_failures_total", exporter="request_log") > 0
    assert running.health()["status"] == "ok"
