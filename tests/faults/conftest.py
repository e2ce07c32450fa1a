"""Fixtures of the fault tests. Whatever a test does, and however it ends, no process of it is left."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.faults.clock import FakeTime, PatchedTime
from tests.faults.disk import SmallDisk
from tests.faults.gateway_process import GatewayProcess
from tests.faults.power import Power
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Fail where a process of the test lives on after everything was ended, and end it."""
    yield
    try:
        eventually(lambda: not _living_in(tmp_path), "all processes of the test have ended")
    finally:
        for pid in _living_in(tmp_path):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _living_in(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if (entry / "cwd").readlink().is_relative_to(folder):
                    found.append(int(entry.name))
    return found


@pytest.fixture
def gateway(tmp_path: Path, nothing_left: None) -> Iterator[Callable[..., GatewayProcess]]:
    """Return `gateway(*options, ...)`, which starts one in this test's folder."""
    with ExitStack() as stack:
        yield lambda *options, **settings: stack.enter_context(_make(tmp_path, *options, **settings))


def _make(folder: Path, *options: str, **settings: Any) -> GatewayProcess:
    return GatewayProcess(settings.pop("folder", folder), *options, **settings)


@pytest.fixture(params=[PatchedTime, FakeTime], ids=["python's clock", "the C library's clock"])
def clock(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PatchedTime | FakeTime]:
    """A wall clock that jumps when a test wants it."""
    made: PatchedTime | FakeTime = request.param(tmp_path)
    yield made
    made.close()


@pytest.fixture
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of its own with little room; the folder's name is the parameter."""
    with SmallDisk(tmp_path / getattr(request, "param", "spool")) as disk:
        yield disk


@pytest.fixture
def power(tmp_path: Path) -> Power:
    """Knows what has reached the disk."""
    return Power(tmp_path)
