"""Faults with the real Jaeger behind the gateway: its API shows every acknowledged span, the rows have it once.

Jaeger stores on disk, as shipped. Where it or the gateway is killed a span may come to it twice; it is one span there.
"""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.backends.observability import Jaeger
from tests.e2e import otlp_trace
from tests.faults.checks import check
from tests.faults.disk import SmallDisk
from tests.faults.gateway_process import GatewayProcess
from tests.faults.load import Load, long_text, span_ids
from tests.faults.test_faults_stopped import stopped
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(180)

EXPORTER = "forward.jaeger"
LONG = long_text(54)


@pytest.fixture(scope="module")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    with Jaeger(tmp_path_factory.mktemp("jaeger")) as running:
        yield running


@pytest.fixture
def configured(tmp_path: Path, jaeger: Jaeger) -> None:
    """Have gateways of this test forward to Jaeger, which runs, whatever the test before has done."""
    if not jaeger.answers():
        jaeger.start()
    settings = f'[forward.jaeger]\nendpoint = "http://{jaeger.otlp}"\nprotocol = "grpc"\ntimeout = 5\n'
    (tmp_path / "otel-telemetry.toml").write_text(settings)


def check_jaeger(running: GatewayProcess, jaeger: Jaeger, *loads: Load) -> None:
    """Hold what Jaeger's API tells against what was acknowledged: each span, and nothing that was redacted."""
    check(running, *loads)
    running.delivered(EXPORTER)
    for trace_id in {one for load in loads for one in load.acknowledged}:
        answer = jaeger.trace(trace_id.hex())
        assert answer is not None, f"Jaeger has nothing of the acknowledged {trace_id.hex()}"
        assert {bytes.fromhex(span.span_id) for span in otlp_trace.spans(answer)} == span_ids(trace_id)
        assert b"anna@example.com" not in answer


def kill_all(running: GatewayProcess, jaeger: Jaeger) -> None:
    running.kill()
    running.restart()


def kill_a_receiver(running: GatewayProcess, jaeger: Jaeger) -> None:
    os.kill(running.receivers()[0], signal.SIGKILL)


def kill_the_deliverer(running: GatewayProcess, jaeger: Jaeger) -> None:
    os.kill(running.deliverer(), signal.SIGKILL)


def stop_in_order(running: GatewayProcess, jaeger: Jaeger) -> None:
    assert running.terminate() == 0
    running.restart()


def hold_the_deliverer(running: GatewayProcess, jaeger: Jaeger) -> None:
    with stopped(running.deliverer(), running.spool):
        eventually(lambda: running.lag(EXPORTER) > 50, "something waits for it")


def restart_jaeger(running: GatewayProcess, jaeger: Jaeger) -> None:
    jaeger.close()
    eventually(lambda: running.health()["parts"]["exporters"][EXPORTER]["status"] == "waiting", "it is away")
    jaeger.start()


FAULTS: dict[str, Callable[[GatewayProcess, Jaeger], None]] = {
    "the gateway is killed": kill_all,
    "a receiver is killed": kill_a_receiver,
    "the deliverer is killed": kill_the_deliverer,
    "the gateway is stopped": stop_in_order,
    "the deliverer stands still": hold_the_deliverer,
    "Jaeger is away": restart_jaeger,
}


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("fault", FAULTS)
def test_jaeger_shows_every_acknowledged_span_after_a_fault_under_load(
    gateway: Any, jaeger: Jaeger, fault: str
) -> None:
    running = gateway("--workers", "1")
    with Load(running, pause=0.02) as load:
        load.wait_for(30)
        FAULTS[fault](running, jaeger)
        load.wait_for(30)
    check_jaeger(running, jaeger, load)


@pytest.mark.usefixtures("configured")
def test_jaeger_shows_every_acknowledged_span_after_a_crash_of_the_database(
    gateway: Any, jaeger: Jaeger, own_postgres: Any
) -> None:
    running = gateway("--workers", "1", url=own_postgres.database())
    with Load(running, pause=0.02) as load:
        load.wait_for(30)
        own_postgres.stop(signal.SIGKILL)
        load.wait_for(30)
        own_postgres.start()
    check_jaeger(running, jaeger, load)


@pytest.mark.usefixtures("configured")
def test_jaeger_shows_every_acknowledged_span_after_the_disk_was_full(
    gateway: Any, jaeger: Jaeger, small_disk: SmallDisk
) -> None:
    jaeger.close()
    running = gateway("--workers", "1", within=small_disk.within)
    with Load(running, text=LONG) as load:
        eventually(lambda: load.retries.total() > 5, "the disk is full and senders are told to come again")
        jaeger.start()
        load.wait_for(20)
    check_jaeger(running, jaeger, load)
