"""What is remembered of a receiver that died, and how requests under suspicion are worked on."""

import asyncio
import gzip
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from otel_telemetry.gateway.receive import suspects
from otel_telemetry.gateway.receive.suspects import Suspects, mark_of
from otel_telemetry.gateway.receive.watch import Admission
from tests.gateway.conftest import trace_request

ONE, OTHER = mark_of("traces", b"one"), mark_of("traces", b"other")
PROTOBUF = {"content-type": "application/x-protobuf"}


class Kernel:
    """Stands for /proc/vmstat: how often the kernel has killed, None where it does not tell."""

    def __init__(self) -> None:
        self.kills: int | None = 7

    def __call__(self) -> int | None:
        return self.kills


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    found = Kernel()
    monkeypatch.setattr(suspects, "kills", found)
    return found


def working_on(folder: Path, *marks: suspects.Mark, slots: int = 2, receiver: int = 0) -> Suspects:
    made = Suspects(folder, slots)
    for slot, mark in zip(made.slots(receiver), marks, strict=False):
        made.enter(slot, mark)
    return made


def test_the_kernel_of_this_machine_says_how_often_it_killed() -> None:
    text = Path("/proc/vmstat").read_text() if Path("/proc/vmstat").exists() else ""
    assert (suspects.kills() is not None) == ("oom_kill " in text)


def test_what_was_worked_on_alone_is_refused_and_several_are_suspected(tmp_path: Path, kernel: Kernel) -> None:
    known = working_on(tmp_path, ONE, OTHER)
    assert known.died(0, signal.SIGSEGV) == []
    assert known.suspected(ONE)
    assert known.suspected(OTHER)
    known.clear(OTHER)
    assert not known.suspected(OTHER)
    known.enter(known.slots(0)[5], ONE)
    assert known.died(0, signal.SIGSEGV) == [ONE]
    assert known.refused(ONE)
    assert not known.refused(OTHER)


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGBUS, signal.SIGSEGV])
def test_only_what_its_own_receiver_worked_on_is_blamed(tmp_path: Path, kernel: Kernel, number: int) -> None:
    known = working_on(tmp_path, ONE, receiver=1)
    assert known.died(0, number) == []
    assert known.died(1, number) == [ONE]
    assert known.died(1, number) == []


def test_a_kill_is_the_kernels_where_it_says_so_or_says_nothing(tmp_path: Path, kernel: Kernel) -> None:
    known = working_on(tmp_path, ONE)
    assert known.died(0, signal.SIGKILL) == []
    known.enter(known.slots(0)[0], ONE)
    kernel.kills = 8
    assert known.died(0, signal.SIGKILL) == [ONE]
    known.enter(known.slots(0)[0], OTHER)
    assert known.died(0, signal.SIGKILL) == []
    kernel.kills = None
    known.enter(known.slots(0)[0], OTHER)
    assert known.died(0, signal.SIGKILL) == [OTHER]
    known.enter(known.slots(0)[0], mark_of("logs", b"third"))
    assert known.died(0, signal.SIGTERM) == []


def test_what_killed_all_of_a_gateway_is_known_to_the_next(tmp_path: Path, kernel: Kernel) -> None:
    killed = working_on(tmp_path, ONE)
    killed.forked()  # lets go of the file, as a process does that is killed
    kernel.kills = 8
    after = Suspects(tmp_path, 1)
    assert after.refused(ONE)
    after.enter(after.slots(0)[0], OTHER)
    after.close()
    kernel.kills = 9
    last = Suspects(tmp_path, 1)
    assert last.refused(ONE)
    assert not last.suspected(OTHER), "it ended well"
    assert not last.refused(OTHER)
    last.close()


def test_a_kill_by_hand_or_a_machine_that_was_restarted_says_nothing(tmp_path: Path, kernel: Kernel) -> None:
    for kills in (7, 0):
        killed = working_on(tmp_path, ONE)
        killed.forked()
        kernel.kills = kills
        after = Suspects(tmp_path, 2)
        assert not after.refused(ONE)
        after.close()


def test_gateways_that_share_a_folder_have_a_file_each(tmp_path: Path, kernel: Kernel) -> None:
    one, other = working_on(tmp_path, ONE), working_on(tmp_path, OTHER)
    assert one.died(0, signal.SIGSEGV) == [ONE]
    assert not other.refused(ONE)
    assert {path.name for path in tmp_path.glob("spool.requests*")} == {"spool.requests", "spool.requests-2"}
    one.close()
    other.close()


def test_a_suspicion_ends(tmp_path: Path, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    known = working_on(tmp_path, ONE)
    known.died(0, signal.SIGSEGV)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + suspects.SECONDS + 60)
    assert not known.refused(ONE)


def test_a_file_that_holds_anything_is_no_harm(tmp_path: Path, kernel: Kernel) -> None:
    (tmp_path / "spool.requests").write_bytes(b"\xff" * 50_000)
    known = Suspects(tmp_path, 1)
    assert not known.refused(ONE)
    known.close()


def test_a_full_table_forgets_the_oldest(tmp_path: Path, kernel: Kernel) -> None:
    known = Suspects(tmp_path, 1)
    marks = [mark_of("logs", str(number).encode()) for number in range(200)]
    for mark in marks:
        known.enter(known.slots(0)[0], mark)
        known.died(0, signal.SIGSEGV)
    assert known.refused(marks[-1])
    assert not known.refused(marks[0])
    known.close()


def test_a_request_is_known_again_when_it_is_packed_anew() -> None:
    one, later = gzip.compress(b"same", mtime=1), gzip.compress(b"same", mtime=2)
    assert one != later
    assert mark_of("traces", one) == mark_of("traces", later)
    assert mark_of("traces", one) != mark_of("logs", one)
    assert str(mark_of("metrics", b"abc")) == "3 bytes of metrics, CRC-32 352441c2"


async def test_one_is_worked_on_alone_and_the_others_side_by_side() -> None:
    admission, inside, most, seen = Admission(), set[int](), [0], list[set[int]]()

    async def work(number: int, *, alone: bool) -> None:
        await admission.enter(alone=alone)
        inside.add(number)
        for _ in range(3):
            await asyncio.sleep(0)
            if alone:
                seen.append(set(inside))
            most[0] = max(most[0], len(inside))
        inside.discard(number)
        admission.leave(alone=alone)

    async with asyncio.timeout(10):
        await asyncio.gather(*(work(number, alone=number in {3, 4, 9}) for number in range(12)))
        assert most[0] > 1
        assert all(len(one) == 1 for one in seen)
        assert {one for each in seen for one in each} == {3, 4, 9}

        await admission.enter(alone=False)
        task = asyncio.create_task(work(1, alone=True))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        admission.leave(alone=False)
        await work(2, alone=False)


async def test_a_gateway_refuses_what_killed_it_and_keeps_the_rest(serving: Any, kernel: Kernel) -> None:
    deadly, other = trace_request("deadly"), trace_request("other")
    async with serving() as running, httpx.AsyncClient(base_url=running.http, headers=PROTOBUF) as client:
        known = running.gateway.receiver.watch.suspects
        known.enter(known.slots(0)[9], mark_of("traces", deadly))
        known.died(0, signal.SIGSEGV)
        statuses = [(await client.post("/v1/traces", content=deadly)).status_code for _ in range(2)]
        assert statuses == [413, 413]
        assert (await client.post("/v1/traces", content=other)).status_code == 200
        assert running.gateway.receiver.watch.suspects.has_letter(mark_of("traces", deadly))
        status = (await client.get("/health")).json()["parts"]["spool"]
        assert status["dead_letters"] == 1
        assert len(running.gateway.receiver.watch.free) == len(known.slots(0))
