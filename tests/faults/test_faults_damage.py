"""A spool whose file is damaged: the gateway sets it aside, saves what it can, says what is lost, and serves."""

from pathlib import Path
from typing import Any

import pytest

from tests.faults.checks import check_rows, rows
from tests.faults.load import Load, long_text
from tests.waiting import eventually

PAGE = 16384
LONG = long_text(10)


def damage(path: Path, share: float, pages: int) -> None:
    with path.open("r+b") as file:
        file.seek(int(path.stat().st_size // PAGE * share) * PAGE)
        file.write(b"\xff" * (pages * PAGE))


def test_a_gateway_whose_spool_was_damaged_while_it_was_down_saves_the_rest_and_serves(gateway: Any) -> None:
    receiving = gateway("--role", "receive")
    with Load(receiving, text=LONG) as load:
        load.wait_for(80)
    assert receiving.terminate() == 0
    damage(receiving.spool / "spool.db", 0.5, 8)
    running = gateway()
    running.delivered()
    assert "was damaged" in running.logged
    assert "could not be read" in running.logged
    (aside,) = running.spool.glob("spool.damaged-*.db")
    assert aside.stat().st_size > 0
    with rows(running.url) as query:
        saved = {row[0] for row in query("SELECT trace_id FROM request_log")}
    assert saved < {trace_id.hex() for trace_id in load.acknowledged}
    assert len(saved) > len(load.acknowledged) // 4
    with Load(running) as more:
        more.wait_for(40)
    running.delivered()
    check_rows(running, more.acknowledged)


@pytest.mark.parametrize("shape", ["1", "2"])
def test_a_spool_that_is_damaged_under_load_is_set_right_by_starting_all_of_it_again(gateway: Any, shape: str) -> None:
    running = gateway("--workers", shape)
    with Load(running, text=LONG) as load:
        load.wait_for(60)
        damage(running.spool / "spool.db", 0.0, 40)
        eventually(lambda: "serving on with a new file" in running.logged, "it is set right")
        load.wait_for(40)
    eventually(lambda: running.healthy() and running.lag() == 0, "what is left is delivered")
    assert list(running.spool.glob("spool.damaged-*.db"))
    assert running.total("otel_telemetry_process_restarts_total") >= int(shape) + 1
