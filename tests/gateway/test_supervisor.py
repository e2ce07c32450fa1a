"""The supervisor with processes that do nothing: which of them are replaced, and when."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.serve.children import Child
from otel_telemetry.gateway.serve.group import WorkerContext
from otel_telemetry.gateway.serve.supervisor import Supervisor
from otel_telemetry.gateway.spool import recovery

BOUND = (64 << 20) + 1


class Idle:
    """A process that serves nothing until it is stopped."""

    def __init__(self, worker: WorkerContext) -> None:
        self._worker = worker

    def run(self) -> None:
        stop = threading.Event()
        self._worker.on_stop(lambda _: stop.set())
        self._worker.ready()
        stop.wait()


@pytest.fixture(name="supervisor")
def supervisor_fixture(tmp_path: Path) -> Iterator[Supervisor]:
    made: Any = lambda _, worker: Idle(worker)  # noqa: E731
    config = GatewaySettings(workers=2, spool_dir=tmp_path)
    supervisor = Supervisor(config, made, load=lambda: (config, made))
    supervisor._group.prepare()
    for child in supervisor._children:
        supervisor._start(child)
    look_until_ready(supervisor, *supervisor._children)
    yield supervisor
    supervisor._kill()
    supervisor._selector.close()
    for end in supervisor._signals.ends:
        os.close(end)


def look_until_ready(supervisor: Supervisor, *children: Child) -> None:
    while not all(child.ready for child in children):
        supervisor._look(60)


def kill(supervisor: Supervisor, child: Child) -> None:
    os.kill(child.pid, signal.SIGKILL)
    while child.pid:
        supervisor._look(60)


def test_no_receiver_is_replaced_while_another_is_away(supervisor: Supervisor) -> None:
    first, second, _ = supervisor._children
    kill(supervisor, first)
    supervisor._reload("SIGHUP")
    assert not second.replaced
    supervisor._start(first)
    look_until_ready(supervisor, first)
    assert second.replaced


def test_a_receiver_that_dies_before_it_is_replaced_keeps_nobody_waiting(supervisor: Supervisor) -> None:
    first, second, deliverer = supervisor._children
    supervisor._reload("SIGHUP")
    assert first.replaced
    kill(supervisor, second)
    while first.pid:
        supervisor._look(60)
    for child in (first, second):
        supervisor._start(child)
        look_until_ready(supervisor, child)
    while second.pid:
        supervisor._look(60)
    supervisor._start(second)
    look_until_ready(supervisor, second)
    assert deliverer.replaced


def test_a_deliverer_that_cannot_start_does_not_keep_old_keys_valid(supervisor: Supervisor) -> None:
    first, _, deliverer = supervisor._children
    kill(supervisor, deliverer)
    supervisor._reload("SIGHUP")
    assert first.replaced


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


class Unusable:
    """A process that cannot be made of its settings, as it finds out when it is made."""

    def __init__(self, why: Exception) -> None:
        self._why = why

    def run(self) -> None:
        raise self._why


@pytest.mark.parametrize("role", ["receive", "deliver"])
@pytest.mark.parametrize("why", [ConfigurationError("cache.url", "has no port", "write one"), ValueError("odd")])
def test_settings_that_a_process_cannot_use_give_way_to_those_before(
    supervisor: Supervisor, role: str, why: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    before, made = supervisor._config, supervisor._make
    wrong: Any = lambda config, worker: Unusable(why) if config.role == role else Idle(worker)  # noqa: E731
    supervisor._load = lambda: (before.model_copy(update={"shutdown_seconds": 1}), wrong)
    supervisor._reload("SIGHUP")
    while supervisor._before or any(not child.ready or child.make is not made for child in supervisor._children):
        supervisor._start_due_children()
        supervisor._look(1)
    assert supervisor._config is before
    assert "all goes on with those before" in caplog.text
    assert not supervisor._to_replace


def test_new_settings_that_all_can_use_stay(supervisor: Supervisor) -> None:
    anew: Any = lambda _, worker: Idle(worker)  # noqa: E731
    supervisor._load = lambda: (supervisor._config, anew)
    supervisor._reload("SIGHUP")
    while supervisor._before:
        supervisor._start_due_children()
        supervisor._look(1)
    assert all(child.make is anew for child in supervisor._children)


def test_a_process_that_the_system_has_no_room_for_is_started_later_and_the_others_serve(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, _ = supervisor._children
    supervisor._starting = False
    kill(supervisor, first)
    first.restart_at = 0.0

    def none_left() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    opened = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", none_left)
        supervisor._start_due_children()
    assert "cannot be started" in caplog.text
    assert open_files() <= opened
    assert not first.pid
    assert second.pid
    while not first.ready:
        supervisor._start_due_children()
        supervisor._look(0.1)


@pytest.mark.parametrize("workers", [1, 3])
def test_all_receivers_together_hold_no_more_than_one_bound_of_requests(tmp_path: Path, workers: int) -> None:
    config = GatewaySettings(workers=workers, spool_dir=tmp_path, grpc_port=0, http_port=0, max_pending_bytes=BOUND)
    made: Any = lambda _, worker: Idle(worker)  # noqa: E731
    supervisor = Supervisor(config, made)
    with contextlib.ExitStack() as parts:
        shared = supervisor._bind(parts)
        assert BOUND - workers < workers * shared.config.max_pending_bytes <= BOUND
        shared.close()
    supervisor._selector.close()
    for end in supervisor._signals.ends:
        os.close(end)


def test_who_writes_a_deleted_spool_again_is_not_killed_for_being_late(supervisor: Supervisor, tmp_path: Path) -> None:
    late = time.monotonic() - 10
    assert supervisor._left(late) < 0
    (tmp_path / recovery.SAVING_NAME).touch()
    assert supervisor._left(late) > 30
