"""Where the disk has no room, the answer, /health and the counters say so: it is not the spool that is full."""

from pathlib import Path

import pytest

from otel_telemetry.base.errors import DiskFull, Overloaded
from otel_telemetry.gateway.receive.status import refusal
from otel_telemetry.gateway.serve.health import Health
from otel_telemetry.gateway.spool import spool_file
from otel_telemetry.gateway.spool.writer import Spool

MIB = 1 << 20


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes that the disk has left: the last of the list."""
    found = [1024 * MIB]
    monkeypatch.setattr(spool_file, "disk_left", lambda folder: found[-1])
    return found


def test_the_disk_is_named_and_the_gateway_unhealthy_until_there_is_room(tmp_path: Path, left: list[int]) -> None:
    spool = Spool(tmp_path / "spool", 64 * MIB, 24)
    health = Health(spool, None, [], {})
    spool.append("traces", b"fits", 1).result(10)
    assert health.report().status == "ok"
    left.append(7 * MIB)
    assert not health.report().healthy, "before anybody is refused"
    with pytest.raises(DiskFull) as refused:
        spool.append("traces", b"x" * 100_000, 1).result(10)
    answer = refusal(refused.value)
    assert (answer.http_status, answer.reason, answer.retry_after) == (503, "disk_full", 2.0)
    assert "disk" in answer.message
    report = health.report()
    part = report.details["parts"]["spool"]
    assert (report.status, part["status"]) == ("unhealthy", "disk_full")
    assert str(tmp_path / "spool") in part["problem"]
    assert "7.0 MiB are left" in part["problem"]
    left.append(1024 * MIB)
    assert health.report().status == "ok"
    spool.append("traces", b"x" * 100_000, 1).result(10)
    spool.close()


def test_room_for_small_batches_only_is_told_while_large_ones_are_refused(tmp_path: Path, left: list[int]) -> None:
    spool = Spool(tmp_path / "spool", 64 * MIB, 24)
    left.append(8 * MIB + spool_file.log_bytes(tmp_path / "spool") + 100_000)
    with pytest.raises(DiskFull):
        spool.append("traces", b"x" * 1_000_000, 1).result(10)
    assert "nearly full" in spool.disk_problem
    spool.append("traces", b"small", 1).result(10)
    assert spool.disk_problem == ""
    spool.close()


def test_a_full_spool_on_a_disk_with_room_is_still_the_spool_s_own_limit(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", MIB, 24)
    spool.attach(["slow"])
    for _ in range(7):
        spool.append("traces", b"x" * 100_000, 1).result(10)
    with pytest.raises(Overloaded, match="the spool is full"):
        spool.append("traces", b"x" * 900_000, 1).result(10)
    assert spool.full
    assert spool.disk_problem == ""
    spool.close()
