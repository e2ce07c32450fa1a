"""A disk that is full: nothing is acknowledged that is not kept, and it goes on by itself when there is room again."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.gateway_process import Load, check, check_rows, eventually

DISK_MB = 24
LONG = "Write to anna@example.com. " * 2_000  # 54 kB for each call


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return the spool's folder, on a file system of its own with little room."""
    folder = tmp_path / "spool"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=700", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0
    if not mounted:
        pytest.skip("a small file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write into a file until there is no room left."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(65536)):
            pass


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_a_disk_that_fills_up_refuses_loses_nothing_and_goes_on_when_there_is_room(gateway: Any, end: str) -> None:
    receiving = gateway("--role", "receive")
    with Load(receiving, text=LONG) as load:
        eventually(lambda: load.refused > 5, "the disk is full and senders are told to come again")
    assert receiving.terminate() == 0 if end == "terminate" else receiving.kill() is None
    everything = gateway()
    with Load(everything, text=LONG, pause=0.05) as more:
        more.wait_for(40)
    more.acknowledged |= load.acknowledged
    check(everything, more)
    assert not load.failed


@pytest.mark.usefixtures("small_disk")
def test_more_than_the_disk_holds_goes_through_as_long_as_it_is_delivered(gateway: Any) -> None:
    running = gateway()
    with Load(running, text=LONG, pause=0.02) as load:
        load.wait_for(DISK_MB * 1_100_000 // (4 * len(LONG)))
    check(running, load)
    assert "what is delivered is no longer kept for replay" in running.said


def test_on_a_disk_that_others_have_filled_it_starts_and_delivers_what_it_has(gateway: Any, small_disk: Path) -> None:
    receiving = gateway("--role", "receive")
    with Load(receiving) as load:
        load.wait_for(40)
    receiving.kill()
    in_the_way = small_disk / "not ours"
    fill(in_the_way)
    running = gateway()
    running.delivered()
    check_rows(running, load.acknowledged)
    with Load(running) as more:
        eventually(lambda: more.refused > 3, "senders are told to come again")
        in_the_way.unlink()
        more.wait_for(20)
    more.acknowledged |= load.acknowledged
    check(running, more)
